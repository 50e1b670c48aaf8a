"""train-classifier --estimate: its sums, what it looks at, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_classification import make_config, quick, run

from nasnet_det.classification.estimate import Estimate, describe_hours, estimate_training
from nasnet_det.classification.learner import Learner


def test_sums_are_those_of_the_median_step() -> None:
    estimate = Estimate(
        device="cpu",
        num_images=105,
        epochs=180,
        batch_size=10,
        step_seconds=(1.0, 9.0, 2.0),
        peak_memory_mib=1234.5,
        checkpoint_mib=56.0,
        num_parameters=7_000_000,
    )
    assert estimate.images_per_second == 5
    assert estimate.hours == 10 * 180 * 2 / 3600, "an epoch has 10 whole batches"
    lines = estimate.describe().splitlines()
    assert lines[0] == "7,000,000 parameters; a checkpoint: 56 MiB"
    assert lines[1] == ("a step of 10 images on cpu: 2 s (1 to 9 over 3), 1,234 MiB at most")
    assert lines[3] == "180 epochs of 105 images: 60 min"
    assert lines[4].endswith("at best: 1: 60 min, 8: 7.5 min, 64: 56 s")


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.01, "36 s"), (0.5, "30 min"), (7.25, "7.2 h"), (99, "99 h"), (24_000, "1,000 days")],
)
def test_hours_have_the_unit_that_fits(hours: float, text: str) -> None:
    assert describe_hours(hours) == text


def test_steps_are_the_training_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = Learner.step

    def watch(self: Learner, batch: object, iteration: int, **options: object) -> None:
        seen.append((tuple(batch.images.shape), int(batch.labels.max()), iteration))  # type: ignore[attr-defined]
        step(self, batch, iteration, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", watch)
    cfg = make_config(tmp_path, "SOLVER.BATCH_SIZE", "8", "DATA.NUM_TRAIN", "0")
    estimate = estimate_training(cfg, num_steps=2)
    size = cfg.DATA.IMAGE_SIZE
    assert [shape for shape, _, _ in seen] == [(8, 3, size, size)] * 4, "two are the warm-up"
    assert [iteration for *_, iteration in seen] == [0, 1, 2, 3]
    assert len(estimate.step_seconds) == 2
    assert all(seconds > 0 for seconds in estimate.step_seconds)
    # weights, their average, and the optimizer's momentum; statistics and counts are few
    weights = 4 * estimate.num_parameters / 2**20
    assert 3 * weights <= estimate.checkpoint_mib < 3.3 * weights


def test_without_data_it_is_imagenet(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, "DATA.NUM_TRAIN", "0")
    cfg.DATA.PATH = ""
    torch.manual_seed(1)
    estimate = estimate_training(cfg, num_steps=1)
    assert estimate.num_images == 1_281_167


def test_command_prints_it_and_writes_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = run(*quick(tmp_path, "out"), "--estimate", "1")
    output, errors = done.communicate()
    assert done.returncode == 0, errors
    assert "images a second" in output
    made = [path for path in tmp_path.rglob("*") if path not in before]
    assert not (tmp_path / "out").exists(), made


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--estimate", "0"), "--estimate: wanted at least 1, got 0"),
        (("--estimate", "2", "--resume"), "--estimate: wanted without --resume"),
        (("--estimate", "2", "--eval-only"), "--estimate: wanted without --eval-only"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    done = run(*quick(tmp_path, "out"), *words)
    assert sentence in done.communicate()[1]
    assert done.returncode == 2
