"""benchmarks/trainings.py: what is done is not done again, and a failure is one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.trainings import run_logged, train_missing
from nasnet_det.errors import InputError

TASKS = [{"case": case, "seed": seed} for seed in (1, 2) for case in ("plain", "ema")]


def _count(runs: list[dict[str, Any]]) -> dict[str, int]:
    return {"number": len(runs)}


def test_only_what_is_missing_is_trained_and_each_training_is_kept(tmp_path: Path) -> None:
    path, trained = tmp_path / "results" / "report.json", []

    def train(case: str, seed: int) -> dict[str, float]:
        if len(trained) == 3:
            raise InputError("killed")
        trained.append((case, seed))
        return {"ap": 10.0 * seed}

    report: dict[str, Any] = {"runs": [{"case": "ema", "seed": 1, "ap": 7.0}]}
    train_missing(path, report, TASKS, train, _count)
    assert trained == [("plain", 1), ("plain", 2), ("ema", 2)]
    again = json.loads(path.read_text())
    assert again == report
    assert [row["ap"] for row in again["runs"]] == [7.0, 10.0, 20.0, 20.0]
    assert again["number"] == 4
    with pytest.raises(InputError, match="killed"):
        train_missing(path, again, [*TASKS, {"case": "ema", "seed": 3}], train, _count)
    assert json.loads(path.read_text()) == report


def test_failed_command_is_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "output.txt"
    command = [
        sys.executable,
        "-c",
        "import os, sys; print(sys.argv[1:], os.environ['OMP_NUM_THREADS'])",
    ]
    assert run_logged(command, {"SEED": 3}, log, name="a") >= 0
    assert log.read_text() == "['SEED', '3'] 1\n"
    command[-1] = "import sys; sys.exit('no such thing')"
    with pytest.raises(InputError, match=r"^seed 3: no such thing \(see .*output.txt\)$"):
        run_logged(command, {}, log, name="seed 3")
