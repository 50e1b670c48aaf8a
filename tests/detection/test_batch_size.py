"""How many pictures fit: what is measured, and what follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from command import run_command
from tiny_detection import write_tiny_config, write_tiny_dataset
from tiny_training import make_config

from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import batch_size
from nasnet_det.detection.batch_size import MemoryTrial, extrapolate, find_largest_size


def test_pictures_that_fit_follow_from_two_steps() -> None:
    peaks = {1: 100.0, 2: 300.0, 4: 400.0}  # the first one has overheads of its own
    assert extrapolate(peaks, 1000.0) == 14, "400 for 4, then 50 each up to 900"
    assert extrapolate(peaks, 300.0) == 1
    assert extrapolate(peaks, 200.0) == 0


def test_largest_picture_is_the_resized_one(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, INPUT__MIN_SIZE_TRAIN="(32, 64)", INPUT__MAX_SIZE_TRAIN=120)
    assert find_largest_size(cfg) == (96, 64)
    cfg.INPUT.MAX_SIZE_TRAIN = 48
    assert find_largest_size(cfg) == (48, 32)
    cfg.INPUT.AUGMENTATIONS = ["ResizeScale(0.1, 2.0, 50, 70)", "FixedSizeCrop((50, 70))"]
    assert find_largest_size(cfg) == (70, 50)


def test_command_measures_steps_and_writes_nothing(tmp_path: Path) -> None:
    words = ["find-batch-size", "--config-file", write_tiny_config(tmp_path)]
    pairs = [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / "none")]
    sizes = ["INPUT.MIN_SIZE_TRAIN", "(320,)", "INPUT.MAX_SIZE_TRAIN", "480"]
    done = run_command(*words, *pairs, *sizes)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"A step with (\d) of 480x320 pixels needs ([\d,]+) MiB", done.stdout)
    peaks = [int(peak.replace(",", "")) for _, peak in found]
    assert [number for number, _ in found] == ["1", "2", "4"]
    assert peaks[0] < peaks[1] < peaks[2]
    assert "One process can train SOLVER.IMS_PER_BATCH 2 with SOLVER.NUM_PARTS 1." in done.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("largest", "sentence"),
    [
        (6, "One process can train SOLVER.IMS_PER_BATCH 16 with SOLVER.NUM_PARTS 3."),
        (0, "Lower INPUT.MIN_SIZE_TRAIN"),
    ],
)
def test_command_says_what_the_config_needs(
    largest: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trial = MemoryTrial((640, 480), {1: 100.0, 2: 150.0}, 500.0, largest)
    monkeypatch.setattr(batch_size, "find_batch_size", lambda _: trial)
    monkeypatch.setattr("nasnet_det.detection.find_batch_size", lambda _: trial, raising=False)
    assert main(["find-batch-size"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(sentence)


def test_model_without_pictures_of_ours_is_refused(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, MODEL__META_ARCHITECTURE="PanopticFPN")
    with pytest.raises(ConfigError, match="MODEL.META_ARCHITECTURE: wanted one of GeneralizedRCNN"):
        batch_size.find_batch_size(cfg)


@pytest.mark.gpu
def test_largest_batch_of_a_gpu_can_be_trained(tmp_path: Path) -> None:
    cfg = make_config(
        tmp_path,
        MODEL__DEVICE="cuda",
        INPUT__MIN_SIZE_TRAIN="(1600,)",
        INPUT__MAX_SIZE_TRAIN=2400,
    )
    trial = batch_size.find_batch_size(cfg)
    assert trial.largest > 4
    assert trial.peaks_mb[1] < trial.peaks_mb[2] < trial.peaks_mb[4]
