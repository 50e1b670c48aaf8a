"""benchmarks/samplers_on_table.py: what is taken, what is judged, and who is ahead on a known table."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("optuna")

from benchmarks import samplers_on_table as benchmark
from benchmarks.child_table import draw
from nasnet_det.runs.study_results import write_decisions
from nasnet_det.space import SearchSpace

SPACE = SearchSpace(2, ("identity", "conv_1x1", "conv_3x3"), ("add",))
NUM_CHILDREN = 80


def _make_table() -> dict[str, Any]:
    """Accuracy is what convolutions of 3x3 give, told with less noise after more epochs."""
    rng = random.Random(1)
    rows = []
    for choices in draw(SPACE, NUM_CHILDREN):
        value = 0.3 + 0.05 * sum(
            SPACE.operations[c] == "conv_3x3" for c in _list_operations(choices)
        )
        accuracies = [round(value + rng.gauss(0, noise), 4) for noise in (0.02, 0.01)]
        rows.append([write_decisions(choices), 1, 1, accuracies, 1.0, [0.0] * 7])
    return {
        "space": [SPACE.num_blocks, list(SPACE.operations), list(SPACE.combiners)],
        "epochs": [1, 2],
        "columns": ["decisions", "params", "macs", "accuracies", "seconds", "measures"],
        "rows": rows,
    }


def _list_operations(choices: tuple[int, ...]) -> list[int]:
    return [choices[block + k] for block in range(0, len(choices), 5) for k in (2, 3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "child_table.json"
    path.write_text(json.dumps(_make_table()))
    return path


@pytest.mark.parametrize("name", benchmark.SAMPLERS)
def test_who_takes_all_children_finds_the_best(path: Path, name: str) -> None:
    """Each child is taken once; the five best by what was told are judged by the last accuracy."""
    table = benchmark.read_table(path)
    best = np.argsort(-table.accuracies[:, 0], kind="stable")[: benchmark.NUM_BEST]
    expected = table.accuracies[best, 1].mean()
    reached = benchmark.search(table, name, 0, 0, NUM_CHILDREN)
    assert reached == pytest.approx(expected, abs=0.005)  # of equals others may come first


def test_the_predictor_is_ahead_where_operations_count(path: Path) -> None:
    table = benchmark.read_table(path)
    reached = {
        name: [benchmark.search(table, name, seed, 0, 45) for seed in range(4)]
        for name in ("random", "predictor")
    }
    assert np.mean(reached["predictor"]) > np.mean(reached["random"])
    again = benchmark.search(table, "predictor", 3, 0, 45)
    assert again == reached["predictor"][3], "one seed, one result"


def test_a_child_that_failed_is_left_out(path: Path) -> None:
    content = json.loads(path.read_text())
    content["rows"][3][3] = None
    path.write_text(json.dumps(content))
    table = benchmark.read_table(path)
    assert len(table.children) == NUM_CHILDREN - 1
    assert draw(SPACE, 4)[3] not in table.children


def test_its_page(repository: Path, path: Path) -> None:
    command = [sys.executable, "benchmarks/samplers_on_table.py", "--table", str(path)]
    command += ["--results", str(path.parent), "--epochs", "45", "--seeds", "2"]
    command += ["--samplers", "random", "evolution"]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=repository, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((path.parent / "samplers_on_table.json").read_text())
    rows = [(row["sampler"], row["told"], row["children"]) for row in report["rows"]]
    assert rows == [(name, e, 45 // e) for e in (1, 2) for name in ("random", "evolution")]
    assert all(len(row["reached"]) == 2 for row in report["rows"])
    page = (path.parent / "samplers_on_table.md").read_text()
    assert f"The five best of all {NUM_CHILDREN} children have {100 * report['best']:.2f}%" in page
    assert page.count("| evolution |") == 2


def test_mistakes_are_one_sentence(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(path.read_text())
    content["rows"] = content["rows"][:9]
    path.write_text(json.dumps(content))
    for words, said in (
        (["--table", str(path)], "wanted at least 10 children, got 9"),
        (["--table", str(path.parent / "none.json")], "No such file"),
    ):
        monkeypatch.setattr(sys, "argv", ["samplers_on_table.py", *words])
        assert benchmark.main() == 1
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(["--seeds", "1"])
