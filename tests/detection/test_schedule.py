"""Lengths in epochs, and the checkpoints that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from detectron2.data import build_detection_train_loader
from tiny_training import make_config, start, train, train_until

from nasnet_det.config import ConfigError
from nasnet_det.detection.trainer import Trainer


def test_epochs_are_passes_over_the_data_set_and_steps_follow(tmp_path: Path) -> None:
    options = {"SOLVER__MAX_EPOCHS": 5, "SOLVER__MAX_ITER": 40, "SOLVER__STEPS": "(20, 30)"}
    trainer = start(make_config(tmp_path, SOLVER__IMS_PER_BATCH=4, **options))
    assert trainer.max_iter == 8, "of 6 pictures, 30 are 8 batches of 4"
    assert trainer.cfg.SOLVER.STEPS == (4, 6)
    again = start(trainer.cfg)
    assert (again.max_iter, again.cfg.SOLVER.STEPS) == (8, (4, 6))
    scaled = make_config(
        tmp_path, SOLVER__IMS_PER_BATCH=4, SOLVER__REFERENCE_WORLD_SIZE=2, **options
    )
    assert start(scaled).max_iter == 15, "one process of two has 2 pictures"


def test_epochs_of_pictures_that_are_not_counted_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "build_train_loader", staticmethod(build_detection_train_loader))
    with pytest.raises(ConfigError, match=r"SOLVER\.MAX_EPOCHS: wanted 0, since the loader"):
        Trainer(make_config(tmp_path, SOLVER__MAX_EPOCHS=2))


def test_newest_checkpoints_are_kept_over_a_resume(tmp_path: Path) -> None:
    options = {"SOLVER__CHECKPOINT_MAX_TO_KEEP": 2, "SOLVER__MAX_ITER": 6}
    cfg = make_config(tmp_path, **options)
    train_until(cfg, 3)
    folder = Path(cfg.OUTPUT_DIR)
    assert sorted(path.name for path in folder.glob("model_*")) == [
        "model_0000001.pth",
        "model_0000002.pth",
    ]
    trainer = train(cfg, resume=True)
    assert trainer.start_iter == 3
    assert sorted(path.name for path in folder.glob("model_*") if "best" not in path.name) == [
        "model_0000004.pth",
        "model_0000005.pth",
        "model_final.pth",
    ]
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
