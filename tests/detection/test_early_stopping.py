"""A training whose evaluations stop rising ends, and stays ended."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import CfgNode
from tiny_training import give_scores, make_config, read_metrics, start, train, train_until

from nasnet_det.detection import session
from nasnet_det.report.detection.run_folder import read_run


def _config(tmp_path: Path, output: str = "run", *, patience: int = 2, delta: float = 0) -> CfgNode:
    early = {"PATIENCE": patience, "MIN_DELTA": delta}
    options = {f"SOLVER__EARLY_STOPPING__{key}": value for key, value in early.items()}
    return make_config(tmp_path, output, TEST__EVAL_PERIOD=1, SOLVER__MAX_ITER=9, **options)


@pytest.mark.parametrize(
    ("scores", "delta", "num_iterations"),
    [
        ([1, 3, 2, 3, 3], 0.0, 4),
        ([1, 2, 3, 3.5, 4, 4, 4], 0.9, 7),  # 4 is a gain over 3, which 3.5 was not
        ([math.nan, math.nan, math.nan], 0.0, 2),
    ],
)
def test_training_ends_when_no_score_rises(
    scores: list[float],
    delta: float,
    num_iterations: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = _config(tmp_path, delta=delta)
    # Some more for a training that goes on; the last one is made again at the end.
    left = give_scores(monkeypatch, *[*scores, *[scores[-1]] * 9])
    trainer = train(cfg)
    assert trainer.iter == num_iterations
    assert len(scores) + 9 - len(left) == num_iterations + 1
    assert "has not risen by more than" in trainer.why_ended
    final = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    assert final["iteration"] == num_iterations - 1
    assert read_metrics(cfg)[-1]["iteration"] == num_iterations
    best = trainer.checkpointer.read_best()
    assert best.get("score", 0) == max((s for s in scores[:num_iterations] if s > 0), default=0)


def test_metric_that_does_not_exist_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path)
    cfg.TEST.BEST_METRIC = "bbox/mAP"
    give_scores(monkeypatch, *[1.0] * 9)
    assert train(cfg).iter == 9


def test_killed_training_ends_where_one_that_was_not_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path)
    give_scores(monkeypatch, 5, 4)
    train_until(cfg, 2)
    give_scores(monkeypatch, 5, 5)
    trainer = train(cfg, resume=True)
    assert (trainer.start_iter, trainer.iter) == (2, 3)
    give_scores(monkeypatch, 5)
    again = train(cfg, resume=True)
    assert (again.start_iter, again.iter) == (3, 3), "it had ended"
    assert again.why_ended == trainer.why_ended
    give_scores(monkeypatch, 5, 5)
    more = start(_config(tmp_path, patience=3), resume=True)
    more.train()
    assert more.iter == 4, "more patience goes on"


def test_records_say_why_and_a_report_takes_it_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path)
    give_scores(monkeypatch, *[1.0] * 4)
    monkeypatch.setattr(session, "read_results", lambda _: {})
    session.train(cfg)
    (entry,) = json.loads(Path(cfg.OUTPUT_DIR, "run.json").read_text())
    assert entry["max_iter"] == 9
    assert entry["end"]["num_iterations"] == 3
    assert entry["end"]["reason"].startswith("bbox/AP has not risen by more than 0 from 1.0000")
    run = read_run(Path(cfg.OUTPUT_DIR))
    assert (run.num_iterations, run.max_iter) == (3, 3)
    assert not any("was stopped" in note for note in run.notes)
