"""benchmarks/samplers.py: its numbers, its mistakes, and one whole small run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna")

from tiny_search import TINY_BENCHMARK, write_images

from benchmarks import samplers as benchmark
from nasnet_det.runs.study_results import Child, Study, read_studies


def _study(sampler: str, seed: int, *retrained: float, seconds: float = 36.0) -> Study:
    config = {
        "SEARCH.SAMPLER.NAME": sampler,
        "SEARCH.SEED": seed,
        "SEARCH.SPACE.NUM_BLOCKS": 1,
        "SEARCH.SPACE.OPERATIONS": ["identity", "conv_1x1"],
        "SEARCH.SPACE.COMBINERS": ["add"],
    }
    children = [
        Child(i, "complete", "0000000000", 0.5, 1, 1, seconds, None, None, value)
        for i, value in enumerate([*retrained, None])
    ]
    return Study("search", f"{sampler}_{seed}", 6, config, {}, tuple(children))


STUDIES = [
    _study("random", 2, 0.50, 0.54),
    _study("predictor", 1, 0.61, 0.59, seconds=72.0),
    _study("random", 1, 0.40, 0.60),
    _study("predictor", 2, 0.57, 0.55),
    _study("controller", 1, 0.45),
]


def test_gains_are_over_random_draws_of_the_same_seed() -> None:
    """0.60 - 0.50 and 0.56 - 0.52; the standard error of their mean is half their distance."""
    assert benchmark.to_markdown(STUDIES).splitlines()[2:] == [
        "| predictor | 58.00 | 60.00, 56.00 | +7.00 ± 3.00 | 0.09 |",
        "| controller | 45.00 | 45.00 |  | 0.02 |",
        "| random | 51.00 | 50.00, 52.00 |  | 0.06 |",
    ]


@pytest.mark.slow
def test_a_small_run_goes_on_where_it_was(repository: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "images.npz")
    words = ["--data", data, "--children", "8", "--predictor-children", "7", "--seeds", "1"]
    words += ["--output", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "benchmarks/samplers.py", *words, "--steps", "9"]
        command += [*more, *TINY_BENCHMARK]
        return subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, check=False
        )

    for number in (3, 0):
        done = call("SEARCH.CHILD.EPOCHS", "1")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("searches done") == number
    studies = {s.sampler: s for s in read_studies(tmp_path / "results" / "samplers.json")}
    assert {name: len(s.children) for name, s in studies.items()} == {
        "predictor": 7, "controller": 8, "random": 8,
    }  # fmt: skip
    for study in studies.values():
        assert study.retraining["SEARCH.CHILD.EPOCHS"] == 3, "9 steps of 16 of 60 pictures"
        assert 1 <= len(study.retrained) <= 5
    before = (tmp_path / "results" / "samplers.json").read_bytes()
    for key, *more in (
        ("SEARCH.NUM_TRIALS", "--children", "9", "SEARCH.CHILD.EPOCHS", "1"),
        ("SEARCH.RETRAIN.EPOCHS", "--steps", "20", "SEARCH.CHILD.EPOCHS", "1"),
        ("SEARCH.CHILD.LR", "SEARCH.CHILD.EPOCHS", "1", "SEARCH.CHILD.LR", "0.2"),
    ):
        refused = call(*more)
        assert refused.returncode == 1
        assert f"({key}); remove it and" in refused.stderr
    np.savez(data, x_train=np.zeros((90, 8, 8, 3), np.uint8), y_train=np.arange(90) % 3)
    assert "(data); remove it and" in call("SEARCH.CHILD.EPOCHS", "1").stderr
    assert (tmp_path / "results" / "samplers.json").read_bytes() == before
