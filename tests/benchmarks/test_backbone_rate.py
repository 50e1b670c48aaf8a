"""benchmarks/backbone_rate.py: the rates that its detectors learn at, and that none is trained twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from benchmarks import backbone_rate as benchmark
from nasnet_det.detection.candidate_config import build_config
from nasnet_det.runs.candidates import Candidate, DetectorTask


def test_each_rate_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The AP of this training is a hundredth of its seed, plus its backbone's factor in percent."""
    trained = []

    def train(
        self: object, candidate: Candidate, task: DetectorTask, *, seed: int, **options: Any
    ) -> float:
        cfg = build_config(candidate, task, tmp_path, device=options["device"])
        factor = cfg.SOLVER.BACKBONE_LR_FACTOR
        trained.append((candidate.name, factor, seed))
        return (factor + seed / 100) / 100

    monkeypatch.setattr(benchmark.CandidateStage, "train", train)
    words = ["--bccd", "bccd", "--output", tmp_path / "out", "--results", tmp_path]
    monkeypatch.setattr(sys, "argv", ["backbone_rate.py", *map(str, words)])
    assert benchmark.main() == 0
    wanted = {
        (candidate.name, factor, seed)
        for candidate, factors in benchmark.CASES
        for factor in factors
        for seed in (1, 2)
    }
    assert sorted((name, round(f, 6), seed) for name, f, seed in trained) == sorted(wanted)
    report = json.loads((tmp_path / "backbone_rate.json").read_text())
    assert len(report["runs"]) == len(wanted)
    assert "nasnet_a, 40 times the heads' rate: 40.0 AP" in capsys.readouterr().out
    assert benchmark.main() == 0
    assert len(trained) == len(wanted)
