"""A training of the tiny detector in this process, to be killed, resumed and looked into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.detection import get_config
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.trainer import Trainer


def make_config(tmp_path: Path, output: str = "run", **options: Any) -> CfgNode:
    """A config with its data set; ``__`` in an option stands for a dot."""
    words = write_tiny_dataset(tmp_path / "data", with_boxes=options.pop("with_boxes", True))
    words += ["OUTPUT_DIR", str(tmp_path / output)]
    for key, value in options.items():
        words += [key.replace("__", "."), str(value)]
    cfg = get_config(write_tiny_config(tmp_path), words)
    register_config_datasets(cfg)
    return cfg


def start(cfg: CfgNode, *, resume: bool = False) -> Trainer:
    """What a new process does."""
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer


def train(cfg: CfgNode, *, resume: bool = False) -> Trainer:
    """Train to the end."""
    trainer = start(cfg, resume=resume)
    trainer.train()
    return trainer


class Killed(BaseException):
    """Not an Exception, so that nothing handles it."""


def train_until(cfg: CfgNode, iteration: int) -> None:
    """Train, and be killed when an iteration starts."""
    trainer = start(cfg)
    step = trainer.run_step

    def run_step() -> None:
        if trainer.iter == iteration:
            raise Killed
        step()

    trainer.run_step = run_step  # type: ignore[method-assign]
    trainer.after_train = lambda: None  # type: ignore[method-assign]  # a kill lets nothing run
    with pytest.raises(Killed):
        trainer.train()


def read_metrics(cfg: CfgNode) -> list[dict[str, float]]:
    """The lines of ``metrics.json``."""
    lines = Path(cfg.OUTPUT_DIR, "metrics.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def give_scores(monkeypatch: pytest.MonkeyPatch, *scores: float) -> list[float]:
    """Let the evaluations find these scores instead of evaluating; those that are left."""
    remaining = list(scores)

    def test(*_: Any, **__: Any) -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": remaining.pop(0), "AP50": 1.0}}

    monkeypatch.setattr(Trainer, "test", test)
    return remaining
