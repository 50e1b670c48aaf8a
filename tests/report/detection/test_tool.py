"""nasnet-det report on two real trainings, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from command import run_command
from simulated_detector import evaluate_with_pycocotools
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.report.detection.scores import METRICS


@pytest.mark.slow
def test_two_real_runs_are_reported_and_the_missing_evaluation_is_made(
    tmp_path: Path,
) -> None:
    data = write_tiny_dataset(tmp_path / "data")
    config = write_tiny_config(tmp_path)

    def call(verb: str, *words: object) -> subprocess.CompletedProcess[str]:
        done = run_command(verb, *words)
        assert done.returncode == 0, done.stderr
        return done

    runs = [tmp_path / f"run_{seed}" for seed in (1, 2)]
    for seed, folder in enumerate(runs, 1):
        call("train", "--config-file", config, *data, "SEED", seed, "OUTPUT_DIR", folder)
    (runs[1] / "results.json").unlink()
    (runs[1] / "inference" / "coco_instances_results.json").unlink()
    out = tmp_path / "out"
    done = call("report", *runs, "--out", out, "--evaluate", "--draws", 200)
    assert done.stdout.split() == [str(out / f"report.{e}") for e in ("html", "md", "json")]
    assert "nasnet-det report: evaluating" in done.stderr
    report = json.loads((out / "report.json").read_text())
    truth = json.loads((tmp_path / "data" / "boxes.json").read_text())
    for folder, run in zip(runs, report["runs"], strict=True):
        results = json.loads((folder / "inference/coco_instances_results.json").read_text())
        assert results, "a threshold of 0 lets boxes through"
        stats = evaluate_with_pycocotools(truth, results).stats
        for metric, wanted in zip(METRICS, 100 * stats, strict=True):
            value = run["scores"][metric]["value"]
            assert (-100 if value is None else value) == pytest.approx(wanted, abs=1e-9)
        written = json.loads((folder / "results.json").read_text())["datasets"]
        (evaluation,) = written.values()
        assert evaluation["results"]["bbox"]["AP"] == pytest.approx(100 * stats[0], abs=1e-6)
        assert run["data"]["sha256"] == evaluation["json_sha256"]
        assert run["provenance"]["evaluated_iteration"] == 4
        assert run["training"] == {"iterations": 4, "max_iterations": 4, "starts": 1}
        assert run["cost"]["device"]
        assert json.loads((folder / "cost.json").read_text()) == run["cost"]
        assert run["notes"] == []
    assert report["config_differences"] == {"SEED": [1, 2]}
    page = (out / "report.html").read_text()
    assert "F1 " in page, "pictures of the data set"
    before = (runs[0] / "cost.json").stat().st_mtime_ns
    again = call("report", runs[0], "--out", tmp_path / "again", "--draws", 100)
    assert "measuring" not in again.stderr
    assert (runs[0] / "cost.json").stat().st_mtime_ns == before
