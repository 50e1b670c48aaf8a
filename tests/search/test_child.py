"""Children: repeatable training, learning, and failures that are results."""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasnet_det.complexity import count_multiply_adds, count_parameters
from nasnet_det.data.error import DataError
from nasnet_det.network import NASNet
from nasnet_det.search import child as child_module
from nasnet_det.search.child import ChildRecipe, ChildTrainer, build_child, cosine, train_child
from nasnet_det.search.data import ChildData, DataSource, load_child_data, resize
from nasnet_det.search.devices import DeviceError
from nasnet_det.search.job import ChildJob, ChildResult, Curve
from nasnet_det.search.pruning import Comparison, MedianPruner
from nasnet_det.search.size import ChildSize, SizeLimits, find_small, measure_size
from nasnet_det.space import Choices, SearchSpace

SPACE = SearchSpace(1, ("identity", "sep_conv_3x3", "max_pool_3x3", "conv_1x7_7x1"), ("add",))
RECIPE = ChildRecipe(
    num_cells_per_stage=1, channels=4, stem_multiplier=1, epochs=2, batch_size=16, lr=0.1
)
CHOICES = (0, 1, 1, 0, 0, 0, 1, 2, 1, 0)
JOB = ChildJob(3, CHOICES, seed=7)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    """Noise around one color a class, which a network learns within a few steps."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 60, (120, 8, 8, 3)) + np.eye(3, dtype=int)[labels][:, None, None] * 150
    path = tmp_path_factory.mktemp("colors") / "colors.npz"
    np.savez(path, x_train=images.astype(np.uint8), y_train=labels)
    return DataSource(str(path), num_held_out=30, image_size=8, upsampled_size=10)


@pytest.fixture(scope="module")
def data(source: DataSource) -> ChildData:
    return load_child_data(source)


def train(data: ChildData, job: ChildJob = JOB, **changed: Any) -> ChildResult:
    return train_child(job, dataclasses.replace(RECIPE, **changed), SPACE, data)


# ---- Training


def test_equal_jobs_give_equal_weights_whatever_ran_before(
    data: ChildData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, with any number of threads outside and any state of torch's random numbers."""
    weights = []
    evaluate = child_module.evaluate

    def keep_weights(model: torch.nn.Module, *args: Any, **kwargs: Any) -> float:
        weights.append([p.detach().clone() for p in model.parameters()])
        return evaluate(model, *args, **kwargs)

    monkeypatch.setattr(child_module, "evaluate", keep_weights)
    num_threads = torch.get_num_threads()
    for threads, job in ((1, JOB), (2, JOB), (1, dataclasses.replace(JOB, seed=8))):
        torch.set_num_threads(threads)
        torch.rand(threads)
        try:
            train(data, job, drop_path_prob=0.3)
        finally:
            torch.set_num_threads(num_threads)
    first, again, other = weights
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_child_leaves_random_numbers_and_threads_as_they_were(data: ChildData) -> None:
    before = torch.get_rng_state(), torch.get_num_threads()
    train(data)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_child_learns(data: ChildData) -> None:
    result = train(data, epochs=6)
    assert result.failure == ""
    assert result.reward is not None
    assert result.reward > 0.9
    assert result.number == 3
    assert result.seconds > 0


def test_reward_is_the_accuracy_on_held_out_images_alone(data: ChildData) -> None:
    """The held-out labels are moved on by one class: what was right is now wrong."""
    moved = data.held_out._replace(labels=(data.held_out.labels + 1) % 3)
    result = train(dataclasses.replace(data, held_out=moved), epochs=6)
    assert result.reward is not None
    assert result.reward < 0.1


def test_learning_rate_falls_along_half_a_cosine(
    data: ChildData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    step = torch.optim.SGD.step

    def keep_rate(self: torch.optim.SGD, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", keep_rate)
    train(data)
    num_steps = 2 * (90 // 16)
    wanted = [0.05 * (1 + math.cos(math.pi * i / num_steps)) for i in range(num_steps)]
    assert rates == pytest.approx(wanted)
    assert (cosine(0), cosine(1)) == (1, 0)


def test_bfloat16_learns_too(data: ChildData) -> None:
    result = train(data, epochs=6, precision="bfloat16")
    assert result.reward is not None, result.failure
    assert result.reward > 0.9


def test_trainer_loads_images_once_and_travels_without_them(source: DataSource) -> None:
    trainer = ChildTrainer(RECIPE, SPACE, source)
    result = trainer(JOB, "cpu")
    assert trainer.load() is trainer.load()
    sent = pickle.dumps(trainer)
    assert len(sent) < 2000
    again: ChildResult = pickle.loads(sent)(JOB, "cpu")
    assert again.reward == result.reward is not None


def test_missing_images_are_no_failure_of_the_child(tmp_path: Path) -> None:
    trainer = ChildTrainer(RECIPE, SPACE, DataSource(str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match="which is not there"):
        trainer(JOB, "cpu")


def test_auxiliary_head_is_trained_with_its_weight_and_left_out_of_the_rest(
    data: ChildData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the weight is twice its gradient, and what counts as the child's size has none."""
    larger = dataclasses.replace(
        data,
        image_size=16,
        train=data.train._replace(images=resize(data.train.images, 20)),
        held_out=data.held_out._replace(images=resize(data.held_out.images, 16)),
    )
    gradients: list[dict[str, torch.Tensor]] = []
    step = torch.optim.SGD.step
    models: list[NASNet] = []
    build = child_module.build_child

    def keep_model(*args: Any, **kwargs: Any) -> NASNet:
        models.append(build(*args, **kwargs))
        return models[-1]

    def keep_gradients(self: torch.optim.SGD, *args: Any) -> Any:
        if len(gradients) < len(models):
            found = {n: p.grad.clone() for n, p in models[-1].named_parameters()}
            gradients.append(found)
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", keep_gradients)
    monkeypatch.setattr(child_module, "build_child", keep_model)
    for weight in (0.4, 0.8):
        result = train(larger, aux_weight=weight, clip_norm=0.0, epochs=1)
        assert result.reward is not None, result.failure
    once, twice = gradients
    head = [name for name in once if name.startswith("aux_head.")]
    assert len(head) > 5
    for name in head:
        torch.testing.assert_close(twice[name], 2 * once[name])
    torch.testing.assert_close(twice["classifier.weight"], once["classifier.weight"])
    recipe = dataclasses.replace(RECIPE, aux_weight=0.4)
    model = build(recipe, SPACE, CHOICES, num_classes=3, image_size=16)
    assert model.aux_head is None


def test_only_weights_of_convolutions_and_of_the_classifier_decay(
    data: ChildData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step without a gradient: what changes decays."""
    seen: dict[str, tuple[float, float]] = {}
    take_step = child_module.take_step

    def take(model: NASNet, optimizer: Any, parts: Any, compute_loss: Any, **given: Any) -> Any:
        def no_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return compute_loss(images, labels) * 0

        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        take_step(model, optimizer, parts, no_loss, **{**given, "check": None})
        for name, p in model.named_parameters():
            seen[name] = (p.ndim, float((p.detach() - before[name]).abs().max()))
        raise KeyboardInterrupt

    monkeypatch.setattr(child_module, "take_step", take)
    with pytest.raises(KeyboardInterrupt):
        train(data, weight_decay=0.5)
    assert {ndim for ndim, _ in seen.values()} == {1, 2, 4}
    for name, (ndim, change) in seen.items():
        assert (change > 0) == (ndim > 1), name


# ---- Failures


def test_divergence_is_a_failure_with_its_step(data: ChildData) -> None:
    result = train(data, lr=1e30, clip_norm=0.0, epochs=20)
    assert result.reward is None
    assert result.failure.startswith("diverged: the loss is ")
    assert " steps" in result.failure


def test_time_limit_is_a_failure(data: ChildData) -> None:
    result = train(data, dataclasses.replace(JOB, time_limit_s=1e-6))
    assert result.reward is None
    assert result.failure == "out of time: 1e-06 s were up after 1 of 10 steps"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "out of memory: CUDA out of memory"),
        (MemoryError(), "out of memory: "),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_raised_in_training_is_a_failure(
    error: Exception, failure: str, data: ChildData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: NASNet, image: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(NASNet, "forward", fail)
    result = train(data)
    assert result.reward is None
    assert result.failure.startswith(failure)
    assert "\n" not in result.failure


def test_broken_device_is_no_failure_of_the_child(data: ChildData) -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(DeviceError, match=f"^{missing} computes no more "):
        train_child(JOB, RECIPE, SPACE, data, device=missing)


@contextmanager
def _little_memory(num_bytes: int) -> Iterator[None]:
    """Let this process have so much more address space and no more."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_memory_that_really_runs_out_is_a_failure(data: ChildData) -> None:
    with _little_memory(400_000_000):
        result = train(data, channels=20_000)  # its first 1x1 convolution has 1.6 GB
    assert result.reward is None
    assert result.failure.startswith("out of memory: ")
    assert train(data).reward is not None, "the next child is trained"


def test_impossible_network_is_a_failure(data: ChildData) -> None:
    result = train(data, channels=1)
    assert result.reward is None
    assert "channels: wanted at least 2" in result.failure


# ---- Pruning


def test_judged_child_is_trained_as_one_that_is_not(data: ChildData) -> None:
    """Looking at it after each epoch changes nothing, bit for bit."""
    plain = train(data, epochs=3, drop_path_prob=0.3)
    judged = train(
        data,
        dataclasses.replace(JOB, comparison=Comparison()),
        epochs=3,
        drop_path_prob=0.3,
    )
    assert plain.curve is None
    assert judged.curve is not None
    assert judged.curve.is_complete
    assert len(judged.curve.accuracies) == 3
    assert judged.curve.accuracies[-1] == judged.reward == plain.reward


def test_hopeless_child_stops_early(data: ChildData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that it is compared with is right more than always."""
    num_steps = 0
    step = torch.optim.SGD.step

    def count(self: torch.optim.SGD, *args: Any) -> Any:
        nonlocal num_steps
        num_steps += 1
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", count)
    pruner = MedianPruner(num_startup_trials=1, min_epochs=2)
    pruner.add(Curve((2.0,) * 6, True))
    comparison = pruner.compare()
    result = train(data, dataclasses.replace(JOB, comparison=comparison), epochs=6)
    assert result.curve is not None
    assert not result.curve.is_complete
    assert num_steps == 2 * (90 // 16)
    assert len(result.curve.accuracies) == 2
    assert result.reward == result.curve.accuracies[-1]
    assert result.failure == ""


def test_judged_child_that_fails_has_no_curve(data: ChildData) -> None:
    job = dataclasses.replace(JOB, comparison=Comparison())
    result = train(data, job, lr=1e30, clip_norm=0.0, epochs=20)
    assert result.reward is None
    assert result.failure.startswith("diverged: ")
    assert result.curve is None


# ---- Size


@pytest.mark.parametrize("seed", range(3))
def test_size_is_that_of_the_network(seed: int) -> None:
    space = SearchSpace()
    choices = space.sample(random.Random(seed))
    recipe = ChildRecipe(num_cells_per_stage=1, channels=8)
    model = build_child(recipe, space, choices, num_classes=10, image_size=15)
    model.train()
    size = measure_size(model, 15)
    assert model.training
    assert size.params == count_parameters(model).trainable
    assert size.macs == count_multiply_adds(model, torch.zeros(1, 3, 15, 15))


def test_limits_name_what_is_too_large() -> None:
    limits = SizeLimits(max_params=10, max_macs=1000)
    sizes = ((10, 1000), (11, 1000), (10, 1001))
    faults = [limits.find_fault(ChildSize(*size)) for size in sizes]
    assert faults == [
        "",
        "too large: 11 parameters, the limit is 10",
        "too large: 1,001 multiply-adds, the limit is 1,000",
    ]
    assert SizeLimits().find_fault(ChildSize(10**12, 10**12)) == ""


def test_smallest_architecture_is_found() -> None:
    """The planted size is least where every choice is the first."""

    def measure(choices: Choices) -> ChildSize:
        return ChildSize(100 + sum(choices), 0)

    assert find_small(SPACE, measure, 0, limit=1) == 100
    assert find_small(SPACE, measure, 0, limit=10**6) > 100, "it stops where the limit is met"
