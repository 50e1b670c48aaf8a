"""The training loop: exact resume, what a step computes, and how it fails."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_classification import CPU, make_config, save_folders
from torch import nn
from yacs.config import CfgNode

from nasnet_det.classification.checkpoint import load_checkpoint
from nasnet_det.classification.data import load_data
from nasnet_det.classification.loader import Batch
from nasnet_det.classification.loop import NonFiniteLossError, Trainer
from nasnet_det.config import ConfigError
from nasnet_det.evaluation import evaluate
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.signals import StoppedBySignal

# Mixed images too, in trainings that are killed: what mixes them draws random numbers.
MIXED = ("AUGMENT.MIXUP", "0.2", "AUGMENT.CUTMIX", "1.0")


class Killed(Exception):
    """Stands for a kill."""


def train(cfg: CfgNode, stops: Sequence[int] = ()) -> Trainer:
    """Train to the end; killed after each of some iterations, and resumed."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    data = load_data(cfg)

    def kill(trainer: Trainer) -> None:
        if stops and trainer.iteration == stops[0]:
            raise Killed

    while True:
        torch.manual_seed(random.randrange(1000))  # another process has other random numbers
        trainer = Trainer(cfg, data, device=CPU, on_step=kill)
        trainer.resume()
        try:
            trainer.train()
        except Killed:
            stops = stops[1:]
            continue
        assert not stops
        return trainer


def read_metrics(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.json").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_s"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A training that was not killed."""
    return train(make_config(tmp_path_factory.mktemp("whole"), *MIXED))


@pytest.mark.parametrize(("seed", "num_workers"), [(0, 0), (1, 1)])
def test_killed_and_resumed_gives_the_same_bits(
    whole: Trainer, tmp_path: Path, seed: int, num_workers: int
) -> None:
    stops = sorted(random.Random(seed).sample(range(1, 12), 5))
    opts = ("DATA.NUM_WORKERS", str(num_workers), "SOLVER.CHECKPOINT_PERIOD", "2")
    cfg = make_config(tmp_path, *opts, *MIXED)
    killed = train(cfg, stops)
    assert whole.iteration == killed.iteration == 12
    one, other = (load_checkpoint(t.folder / "checkpoint.pth") for t in (whole, killed))
    for part in ("model", "ema"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][k], other[part][k]) for k in one[part])
    assert torch.equal(one["random"][0]["cpu"], other["random"][0]["cpu"])
    assert one["best"] == other["best"]
    assert read_metrics(whole.folder) == read_metrics(killed.folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_the_iteration_and_changes_no_bit(
    whole: Trainer, tmp_path: Path, number: int
) -> None:
    """In the middle of an epoch, where there would be no checkpoint."""
    cfg = make_config(tmp_path, *MIXED)
    Path(cfg.OUTPUT_DIR).mkdir()

    def send(trainer: Trainer) -> None:
        if trainer.iteration == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(StoppedBySignal) as info:
        Trainer(cfg, load_data(cfg), device=CPU, on_step=send).train()
    assert info.value.status == 128 + number
    assert info.value.what_now == "6 iterations are saved, and --resume goes on from there"
    assert load_checkpoint(tmp_path / "out" / "checkpoint.pth")["iteration"] == 6
    assert signal.getsignal(number) is before
    resumed = train(cfg)
    one, other = (load_checkpoint(t.folder / "checkpoint.pth") for t in (whole, resumed))
    for part in ("model", "ema"):
        assert all(torch.equal(one[part][k], other[part][k]) for k in one[part])


def test_signal_after_the_last_iteration_lets_the_training_end(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, "SOLVER.EPOCHS", "1")
    Path(cfg.OUTPUT_DIR).mkdir()

    def send(self: Trainer, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    trainer._record = functools.partial(send, trainer)  # type: ignore[method-assign]
    trainer.train()
    assert (tmp_path / "out" / "model_final.pth").is_file()


def test_periods_are_the_config_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve iterations in three epochs."""
    saved, save = [], Trainer.save

    def note(trainer: Trainer) -> None:
        saved.append(trainer.iteration)
        save(trainer)

    monkeypatch.setattr(Trainer, "save", note)
    periods = "SOLVER.CHECKPOINT_PERIOD 3 SOLVER.LOG_PERIOD 5 TEST.EVAL_PERIOD 2"
    train(make_config(tmp_path, *periods.split()))
    assert saved == [3, 4, 6, 8, 9, 12]
    lines = read_metrics(tmp_path / "out")
    assert [line["iteration"] for line in lines if "loss" in line] == [5, 10]
    assert [line["iteration"] for line in lines if "test/top1" in line] == [8, 12]


def test_resume_without_random_states_would_differ(whole: Trainer, tmp_path: Path) -> None:
    """Dropout, drop path and mixing take part, so the test above can fail."""
    cfg = make_config(tmp_path, *MIXED)
    data = load_data(cfg)
    Path(cfg.OUTPUT_DIR).mkdir()

    def kill(trainer: Trainer) -> None:
        if trainer.iteration == 5:
            raise Killed

    with pytest.raises(Killed):
        Trainer(cfg, data, device=CPU, on_step=kill).train()
    trainer = Trainer(cfg, data, device=CPU)
    trainer.resume()
    torch.manual_seed(1)
    trainer.train()
    weight = "classifier.weight"
    assert not torch.equal(
        whole.learner.model.state_dict()[weight], trainer.learner.model.state_dict()[weight]
    )


def test_files_hold_what_they_promise(whole: Trainer) -> None:
    folder = whole.folder
    lines = read_metrics(folder)
    assert [line["iteration"] for line in lines if "loss" in line] == list(range(1, 13))
    tests = [line for line in lines if "test/top1" in line]
    assert [line["iteration"] for line in tests] == [4, 8, 12]
    best = load_checkpoint(folder / "model_best.pth")
    assert best["score"]["top1"] == max(line["test/top1"] for line in tests)
    final = load_checkpoint(folder / "model_final.pth")
    assert whole.learner.ema is not None
    for name, value in whole.learner.ema.module.state_dict().items():
        assert torch.equal(final["model"][name], value), "the moving average is what is exported"
    assert list((folder / "tensorboard").glob("events*"))


def test_one_step_is_the_formula(tmp_path: Path) -> None:
    """Loss with smoothing and auxiliary head, clipping and momentum, written out again."""
    opts = "MODEL.NASNET.DROP_PATH_PROB 0 MODEL.NASNET.DROPOUT 0 SOLVER.NUM_PARTS 1 EMA.DECAY 0"
    cfg = make_config(
        tmp_path, *opts.split(), "SOLVER.CLIP_NORM", "0.5", "SOLVER.WARMUP_EPOCHS", "0"
    )
    trainer, twin = (Trainer(cfg, load_data(cfg), device=CPU) for _ in range(2))
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(16) % 4
    trainer._step(Batch(images, labels, []))
    model = twin.learner.model.train()
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (cfg.DATA.PIXEL_MEAN, cfg.DATA.PIXEL_STD)
    )
    logits, aux_logits = model((images.float() - mean) / std)
    target = F.one_hot(labels, 4) * 0.9 + 0.1 / 4
    loss = sum(
        weight * -(target * x.log_softmax(1)).sum(1).mean()
        for weight, x in ((1, logits), (0.4, aux_logits))
    )
    loss.backward()
    params = list(model.parameters())
    norm = torch.stack([p.grad.norm() for p in params]).norm()
    assert norm > 0.5
    for p, trained in zip(params, trainer.learner.model.parameters(), strict=True):
        grad = p.grad * (0.5 / norm)
        decay = 5e-4 if p.ndim > 1 else 0.0
        torch.testing.assert_close(trained, p - 0.05 * (grad + decay * p), rtol=1e-4, atol=1e-6)


def test_parts_of_a_batch_add_up_to_its_gradient(tmp_path: Path) -> None:
    """With GroupNorm, as the statistics of batch normalization are those of a part."""
    opts = [
        "MODEL.NASNET.DROP_PATH_PROB",
        "0",
        "MODEL.NASNET.DROPOUT",
        "0",
        "MODEL.NASNET.NORM",
        "GN",
    ]
    states = []
    for parts in ("1", "3"):
        cfg = make_config(tmp_path, *opts, "SOLVER.NUM_PARTS", parts)
        trainer = Trainer(cfg, load_data(cfg), device=CPU)
        images = torch.arange(16 * 3 * 32 * 32).view(16, 3, 32, 32).remainder(251).byte()
        trainer._step(Batch(images, torch.arange(16) % 4, []))
        states.append(trainer.learner.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_compiled_steps_are_the_same_and_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is caught and run as it is: what a compiler makes of it is the compiler's part."""
    graphs = []

    def keep_graph(module: torch.fx.GraphModule, _: object) -> object:
        graphs.append(module)
        return module

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=keep_graph))
    torch._dynamo.reset()
    batch = Batch(
        torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8), torch.arange(16) % 4, []
    )
    losses = {}
    for name in ("False", "True"):
        opts = ("SOLVER.COMPILE", name, "MODEL.NASNET.DROPOUT", "0", "SOLVER.NUM_PARTS", "1")
        cfg = make_config(tmp_path, *opts)
        trainer = Trainer(cfg, load_data(cfg), device=CPU)
        for _ in range(4):
            trainer._step(batch)
            losses.setdefault(name, []).append(float(trainer.learner.loss))
    assert losses["True"][0] == pytest.approx(losses["False"][0], rel=1e-4), "drop path is at 0"
    assert losses["True"] == pytest.approx(losses["False"], rel=0.2)
    assert len(graphs) == 1, "though the progress of drop path changes"


def test_drop_path_follows_the_training(tmp_path: Path) -> None:
    seen = []
    cfg = make_config(tmp_path, "SOLVER.EPOCHS", "1")
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = Trainer(
        cfg,
        load_data(cfg),
        device=CPU,
        on_step=lambda t: seen.append(t.learner.model.trunk.drop_path_progress.value),
    )
    trainer.train()
    assert seen == pytest.approx([i / 4 for i in range(4)])


BFLOAT16 = pytest.param("bfloat16", marks=pytest.mark.slow)  # half a minute without instructions


@pytest.mark.parametrize("precision", ["float32", BFLOAT16])
def test_it_learns(tmp_path: Path, precision: str) -> None:
    opts = [
        "SOLVER.EPOCHS",
        "6",
        "EMA.DECAY",
        "0.5",
        "TEST.EVAL_PERIOD",
        "0",
        "SOLVER.CHECKPOINT_PERIOD",
        "0",
    ]
    cfg = make_config(tmp_path, *opts, "SOLVER.PRECISION", precision, "AUGMENT.CUTOUT", "0")
    trainer = train(cfg)
    assert trainer.best["top1"] >= 0.75  # chance: 0.25


def test_mixed_images_are_learned_with_the_shares_of_their_classes(tmp_path: Path) -> None:
    opts = "AUX.WEIGHT 0 MODEL.NASNET.DROP_PATH_PROB 0 MODEL.NASNET.DROPOUT 0 SOLVER.NUM_PARTS 1"
    cfg = make_config(tmp_path, *opts.split(), "AUGMENT.MIXUP", "1", "SOLVER.LABEL_SMOOTHING", "0")
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    model, predictor = copy.deepcopy(trainer.learner.model).train(), trainer.learner.predictor
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(16) % 4
    state = torch.get_rng_state()
    trainer._step(Batch(images, labels, []))
    torch.set_rng_state(state)
    share = float(torch.distributions.Beta(1.0, 1.0).sample(()))
    mixed = share * images.float() + (1 - share) * images.float().roll(1, 0)
    targets = F.one_hot(labels, 4).float()
    targets = share * targets + (1 - share) * targets.roll(1, 0)
    logits = model((mixed - predictor.mean) / predictor.std)
    loss = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(trainer.learner.loss, loss.detach(), rtol=1e-4, atol=1e-6)


def test_non_finite_loss_names_iteration_rate_and_checkpoint(tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    Path(cfg.OUTPUT_DIR).mkdir()

    def spoil(trainer: Trainer) -> None:
        if trainer.iteration == 6:
            with torch.no_grad():
                trainer.learner.model.classifier.bias.fill_(float("inf"))

    trainer = Trainer(cfg, load_data(cfg), device=CPU, on_step=spoil)
    sentence = (
        "the loss is not a finite number in iteration 6, with learning rate [0-9.]+; the last good "
        r"checkpoint is .*checkpoint.pth \(iteration 6\)"
    )
    with pytest.raises(NonFiniteLossError, match=sentence):
        trainer.train()
    assert Trainer(cfg, load_data(cfg), device=CPU).resume(), "from it the training can go on"


def test_checkpoint_with_non_finite_weights_is_not_written(tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    with torch.no_grad():
        trainer.learner.model.classifier.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="classifier.weight is not .* no checkpoint yet"):
        trainer.save()
    assert not list(Path(cfg.OUTPUT_DIR).iterdir())


def test_evaluation_counts() -> None:
    logits = torch.tensor([[9.0, 1, 2, 3, 4, 5, 6]] * 4)  # best: 0, then 6, 5, 4, 3
    batches = [
        Batch(torch.zeros(3, 3, 1, 1), torch.tensor([0, 3, 1]), ["one"]),
        Batch(torch.zeros(0, 3, 0, 0), torch.empty(0).long(), ["two"]),
        Batch(torch.zeros(1, 3, 1, 1), torch.tensor([0]), []),
    ]
    broken: list[str] = []
    result = evaluate(
        nn.Identity(),
        batches,
        classes=list("abcdefg"),
        predict=lambda _, images: logits[: len(images)],
        on_broken=broken.append,
    )
    assert (result.top1, result.top5, result.num_images, result.num_broken) == (0.5, 0.75, 4, 2)
    assert result.per_class == {"a": 1.0, "b": 0.0, "d": 0.0}
    assert broken == ["one", "two"]
    expected = F.cross_entropy(logits, torch.tensor([0, 3, 1, 0]))
    assert result.loss == pytest.approx(float(expected))


def test_broken_image_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_folders(tmp_path / "images")
    (tmp_path / "images" / "train" / "red" / "1.png").write_bytes(b"no image")
    opts = ["DATA.NUM_TRAIN", "0", "SOLVER.BATCH_SIZE", "4"]
    cfg = make_config(tmp_path, "DATA.PATH", str(tmp_path / "images"), *opts)
    with caplog.at_level("INFO"):
        trainer = train(cfg)
    assert trainer.iteration == 6
    named = [r.message for r in caplog.records if "1.png" in r.message]
    assert len(named) == 1, "each once, not once an epoch"
    assert "can't be read and is skipped" in named[0]


def test_other_training_is_refused(whole: Trainer, tmp_path: Path) -> None:
    cfg = make_config(tmp_path, *MIXED, "OUTPUT_DIR", str(whole.folder), "AUX.WEIGHT", "0.5")
    with pytest.raises(
        CheckpointError, match=r"of another training: AUX.WEIGHT was 0.4, is 0.5; give"
    ):
        Trainer(cfg, load_data(cfg), device=CPU).resume()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: data[: len(data) // 2], "is truncated or no file of weights"),
        (lambda data: b"", "is truncated or no file of weights"),
        (
            lambda data: data.replace(data[len(data) // 2 : len(data) // 2 + 64], bytes(64)),
            "is damaged|truncated",
        ),
    ],
)
def test_damaged_checkpoint_is_refused(
    whole: Trainer, tmp_path: Path, spoil: object, sentence: str
) -> None:
    cfg = make_config(tmp_path)
    Path(cfg.OUTPUT_DIR).mkdir()
    data = (whole.folder / "checkpoint.pth").read_bytes()
    (Path(cfg.OUTPUT_DIR) / "checkpoint.pth").write_bytes(spoil(data))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=sentence):
        Trainer(cfg, load_data(cfg), device=CPU).resume()


def test_checkpoint_that_could_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil(), "config": {}, "classes": []}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="is refused: it holds Python objects"):
        load_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_float16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, "SOLVER.PRECISION", "float16")
    with pytest.raises(ConfigError, match="SOLVER.PRECISION: float16 needs a GPU"):
        Trainer(cfg, load_data(cfg), device=CPU)


# ---- Going on with other values


def _resume(whole: Trainer, tmp_path: Path, *opts: str) -> Trainer:
    """A copy of the finished training goes on with other values."""
    shutil.copytree(whole.folder, tmp_path / "out")
    cfg = make_config(tmp_path, *MIXED, *opts)
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    assert trainer.resume()
    return trainer


def test_finished_training_goes_on_for_longer_with_what_has_changed(
    whole: Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="nasnet_det"):
        opts = ("SOLVER.EPOCHS", "4", "SOLVER.WEIGHT_DECAY", "0.5", "SOLVER.LR", "0.01")
        trainer = _resume(whole, tmp_path, *opts, "SOLVER.MOMENTUM", "0.5")
    assert "From now on SOLVER.EPOCHS 3 -> 4" in caplog.text
    assert "From now on SOLVER.LR 0.05 -> 0.01" in caplog.text
    groups = trainer.learner.optimizer.param_groups
    assert max(group["weight_decay"] for group in groups) == 0.5
    assert {group["momentum"] for group in groups} == {0.5}
    rates = []
    trainer.on_step = lambda t: rates.append(t.learner.optimizer.param_groups[0]["lr"])
    trainer.train()
    assert trainer.iteration == 16
    assert rates == [trainer.learner.get_lr(step) for step in range(12, 16)]
    assert max(rates) < 0.01
    before, after = (read_metrics(t.folder) for t in (whole, trainer))
    assert after[: len(before)] == before
    assert after[-1]["iteration"] == 16
    assert load_checkpoint(trainer.folder / "model_final.pth")["iteration"] == 16


def test_another_batch_keeps_the_epochs(whole: Trainer, tmp_path: Path) -> None:
    trainer = _resume(whole, tmp_path, "SOLVER.BATCH_SIZE", "32", "SOLVER.EPOCHS", "4")
    assert (trainer.iteration, trainer.steps_per_epoch) == (6, 2)
    assert trainer.best["iteration"] * 2 == whole.best["iteration"]
    trainer.train()
    assert trainer.iteration == 8
    tests = [line for line in read_metrics(trainer.folder) if "test/top1" in line]
    assert [line["iteration"] for line in tests] == [2, 4, 6, 8]
    assert [line["epoch"] for line in tests] == [1, 2, 3, 4]


def test_another_optimizer_is_refused(whole: Trainer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="SOLVER.OPTIMIZER was 'SGD', is 'AdamW'; give its"):
        _resume(whole, tmp_path, "SOLVER.OPTIMIZER", "AdamW")


def test_fewer_epochs_than_are_done_change_nothing(whole: Trainer, tmp_path: Path) -> None:
    trainer = _resume(whole, tmp_path, "SOLVER.EPOCHS", "1")
    trainer.train()
    one, other = (load_checkpoint(t.folder / "model_final.pth") for t in (whole, trainer))
    assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"])


def test_best_model_and_metrics_without_a_checkpoint_do_not_count(
    whole: Trainer, tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / "out")
    (tmp_path / "out" / "checkpoint.pth").unlink()
    cfg = make_config(tmp_path, *MIXED, "SOLVER.EPOCHS", "1")
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    assert not trainer.resume()
    trainer.train()
    assert load_checkpoint(tmp_path / "out" / "model_best.pth")["iteration"] == 4
    assert [line["iteration"] for line in read_metrics(trainer.folder)] == [1, 2, 3, 4, 4]
