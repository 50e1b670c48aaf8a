"""benchmarks/transfer.py: its numbers, its mistakes, and one whole small run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

pytest.importorskip("detectron2")

from tiny_detection import write_tiny_dataset

from benchmarks import transfer as benchmark
from nasnet_det.network import create_model
from nasnet_det.weights.backbone_file import BackboneCard, save_backbone


def _row(start: str, seed: int, *scores: float) -> dict[str, Any]:
    points = {str(100 * i): {"AP": ap, "AP50": 0, "AP75": 0} for i, ap in enumerate(scores, 1)}
    return {"cells": "found", "start": start, "seed": seed, "points": points, "minutes": 2.0}


REPORT: dict[str, Any] = {
    "machine": "2 cores",
    "num_runs": 6,
    "runs": [_row("scratch", 2, 3.0, 9.0), _row("scratch", 1, 1.0, 5.0), _row("pre-trained", 1, 12.5)],
}  # fmt: skip


def _save_backbone(path: Path) -> Path:
    settings = {"VARIANT": "nasnet_a_mobile", "NUM_CELLS_PER_STAGE": 1, "CHANNELS": 8}
    trunk = create_model("nasnet_a_mobile", 2, num_cells_per_stage=1, channels=8).trunk
    card = BackboneCard(
        genotype=trunk.genotype,
        spec=trunk.spec,
        pixel_mean=(100.0, 110.0, 120.0),
        pixel_std=(50.0, 51.0, 52.0),
        format="RGB",
        score={},
        classes=("a", "b"),
        config={f"MODEL.NASNET.{key}": value for key, value in settings.items()},
        version="0",
    )
    save_backbone(path, {f"trunk.{k}": v for k, v in trunk.state_dict().items()}, card)
    return path


def test_table_has_means_and_each_seed() -> None:
    assert benchmark.to_markdown(REPORT).splitlines() == [
        "| cells | start | AP after 100 | AP after 200 |",
        "|---|---|---|---|",
        "| found | pre-trained | 12.5 (12.5) | nan (nan) |",
        "| found | scratch | 2.0 (1.0, 3.0) | 7.0 (5.0, 9.0) |",
        "",
        "",
        "In brackets: the seeds. 3 of 6 trainings, 2.0 minutes each (2 cores).",
    ]


def test_differences_are_those_of_one_seed_at_each_evaluation() -> None:
    runs = [_row("pre-trained", seed, 1.0, ap) for seed, ap in ((1, 10.0), (2, 14.0), (4, 50.0))]
    runs += [_row("scratch", seed, 9.0, ap) for seed, ap in ((2, 10.0), (1, 8.0), (3, 0.0))]
    runs += [{**_row("pre-trained", seed, 1.0, 9.0), "cells": "other"} for seed in (1, 2)]
    _, between, early, starts = benchmark.compare({"runs": runs})
    assert (early["iterations"], early["interval"][0]) == (100, pytest.approx(-8.0))
    assert (between["one"], between["other"]) == (
        ("found", "pre-trained"),
        ("other", "pre-trained"),
    )
    # 1 and 5: 3 +- 12.706 * sqrt(8) / sqrt(2)
    assert between["interval"] == pytest.approx((3.0, -22.412, 28.412))
    assert (starts["seeds"], starts["interval"][0]) == (2, pytest.approx(3.0))


def test_plot_has_a_curve_of_means_and_a_dot_for_each_seed() -> None:
    (axes,) = benchmark.draw(REPORT, "BCCD's val").axes
    lines = {line.get_label(): line for line in axes.lines if line.get_linestyle() != "None"}
    assert list(lines["found, scratch"].get_ydata()) == [2.0, 7.0]
    dots = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "None"]
    assert sorted(map(len, dots)) == [1, 4]


def test_points_are_the_evaluations_under_the_number_of_iterations(tmp_path: Path) -> None:
    """The last one has the number itself, the others that of the last iteration before them."""
    rows = [
        {"iteration": 19, "total_loss": 1.0},
        *({"iteration": i, "bbox/AP": ap, "bbox/AP50": 2 * ap, "bbox/AP75": 0.0} for i, ap in ((99, math.nan), (199, 3.0), (300, 4.5))),
    ]  # fmt: skip
    path = tmp_path / "metrics.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    points = benchmark.read_points(path, 100)
    assert {i: point["AP"] for i, point in points.items()} == {"100": 0.0, "200": 3.0, "300": 4.5}
    assert points["200"]["AP50"] == 6.0


def _run(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/transfer.py", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=repository, env=env, capture_output=True, text=True, check=False
    )


def test_other_files_and_other_schedules_are_one_sentence(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    def call(*arguments: object) -> str:
        words = [
            "transfer.py",
            "--data",
            tmp_path,
            "--output",
            tmp_path / "out",
            "--results",
            tmp_path,
        ]
        monkeypatch.setattr(sys, "argv", [str(word) for word in (*words, *arguments)])
        assert benchmark.main() == 1
        return capsys.readouterr().err

    plain = tmp_path / "plain.safetensors"
    save_file(create_model("nasnet_a_mobile", 2, channels=8).state_dict(), plain)
    assert call("--backbones", f"a={plain}") == (
        f"transfer.py: {plain}: wanted a file of nasnet-det export-backbone\n"
    )
    backbone = _save_backbone(tmp_path / "backbone.safetensors")
    made_of = {"iterations": 400, "config": benchmark.SETS["bccd"].config}
    for other in (
        {"made_of": {**made_of, "iterations": 4}, "backbones_sha256": {}},
        {"made_of": made_of, "backbones_sha256": {"a": "of another file"}},
    ):
        (tmp_path / "transfer_bccd.json").write_text(json.dumps({**REPORT, **other}))
        assert "has results of other backbones or another schedule; remove" in call(
            "--backbones", f"a={backbone}"
        )
    (tmp_path / "transfer_bccd.json").unlink()
    sentence = call("--backbones", f"a={backbone}")
    assert "a, pre-trained, seed 1: nasnet-det train: " in sentence, "what the training said"
    assert "Traceback" not in sentence


@pytest.mark.slow
def test_each_backbone_is_trained_from_its_weights_and_from_scratch(
    repository: Path, tmp_path: Path
) -> None:
    """Started again, it trains what is not in the JSON."""
    write_tiny_dataset(tmp_path / "BCCD" / "JPEGImages")
    (tmp_path / "coco_json").mkdir()
    boxes = (tmp_path / "BCCD" / "JPEGImages" / "boxes.json").read_text()
    for split in ("train", "val"):
        (tmp_path / "coco_json" / f"instances_{split}.json").write_text(boxes)
    backbone = _save_backbone(tmp_path / "backbone.safetensors")
    arguments = [
        "--data", tmp_path, "--backbones", f"a={backbone}", "--seeds", "1", "--iterations", "2",
        "--output", tmp_path / "out", "--results", tmp_path / "results",
    ]  # fmt: skip
    done = _run(repository, *arguments)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "results" / "transfer_bccd.json"
    report = json.loads(path.read_text())
    assert [(row["start"], list(row["points"])) for row in report["runs"]] == [
        ("pre-trained", ["100"]),
        ("scratch", ["100"]),
    ]
    logs = [
        (tmp_path / "out" / f"a_{start}_1" / "output.txt").read_text() for start in benchmark.STARTS
    ]
    assert "tensors of the backbone" in logs[0]
    assert "tensors of the backbone" not in logs[1]
    assert (tmp_path / "results" / "transfer_bccd.svg").read_text().startswith("<?xml")

    path.write_text(json.dumps({**report, "runs": report["runs"][:1]}))
    again = _run(repository, *arguments)
    assert [line.split(": AP")[0] for line in again.stdout.splitlines() if ": AP" in line] == [
        "2 of 2: a, scratch, seed 1"
    ]
