"""benchmarks/samplers.py: its numbers, its mistakes, and one whole small run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna")

from benchmarks import samplers as benchmark
from nasnet_det.runs.study_results import Child, Study, read_studies, save_studies

SIZES = [
    "SEARCH.DATA.NUM_TRAIN", "64", "SEARCH.DATA.NUM_HELD_OUT", "50", "SEARCH.DATA.IMAGE_SIZE", "8",
    "SEARCH.DATA.UPSAMPLED_SIZE", "10", "SEARCH.CHILD.CHANNELS", "2", "SEARCH.CHILD.BATCH_SIZE", "16",
    "SEARCH.CHILD.EPOCHS", "1", "SEARCH.SPACE.NUM_BLOCKS", "1",
]  # fmt: skip


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


def test_searches_of_another_length_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_studies(STUDIES[:1], tmp_path / "samplers.json")
    words = ["--data", "no.npz", "--results", str(tmp_path), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["samplers.py", *words, "--children", "7"])
    assert benchmark.main() == 1
    assert "wanted 7 children, got 6 of random, seed 2; remove it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_run_goes_on_where_it_was(repository: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "images.npz"
    x, y = rng.integers(256, size=(140, 8, 8, 3), dtype=np.uint8), np.arange(140) % 10
    np.savez(data, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    command = [sys.executable, "benchmarks/samplers.py", "--data", str(data), "--steps", "8"]
    command += ["--children", "8", "--predictor-children", "7", "--seeds", "1"]
    command += ["--output", str(tmp_path / "out"), "--results", str(tmp_path / "results"), *SIZES]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "searches done" not in done.stdout, "nothing was missing"
    studies = {s.sampler: s for s in read_studies(tmp_path / "results" / "samplers.json")}
    assert {name: len(s.children) for name, s in studies.items()} == {
        "predictor": 7, "controller": 8, "random": 8,
    }  # fmt: skip
    for study in studies.values():
        assert study.retraining["SEARCH.CHILD.EPOCHS"] == 2, "8 steps of 16 of 64 images"
        assert 1 <= len(study.retrained) <= 5
