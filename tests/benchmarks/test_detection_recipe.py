"""benchmarks/detection_recipe.py: its cases, its mistakes, and one small training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from tiny_detection import write_tiny_dataset

from benchmarks import detection_recipe as benchmark
from nasnet_det.detection import get_config


def test_cases_are_keys_of_the_config() -> None:
    for case in benchmark.CASES.values():
        get_config(
            benchmark.VOC.config, [str(word) for pair in case.values.items() for word in pair]
        )


def _run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["detection_recipe.py", *map(str, words)])
    return benchmark.main()


def test_another_file_than_a_trunk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = benchmark.ROOT / "nasnet_det" / "weights" / "files" / "nasnet_a_small.safetensors"
    words = ["--data", tmp_path, "--output", tmp_path / "out", "--resnet18", trunk]
    assert _run(monkeypatch, *words) == 1
    assert "wanted a ResNet-18 of nasnet-det export-backbone" in capsys.readouterr().err


@pytest.mark.slow
def test_a_case_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "val"):
        write_tiny_dataset(tmp_path / part)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        boxes = (tmp_path / part / "boxes.json").read_text()
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(boxes)
    case = benchmark.CASES["head_512"]._replace(iterations=2)
    monkeypatch.setattr(benchmark, "CASES", {"head_512": case})
    words = ["--data", tmp_path, "--output", tmp_path / "out", "--results", tmp_path / "results"]
    assert _run(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    (row,) = json.loads((tmp_path / "results" / "detection_recipe.json").read_text())["runs"]
    assert (row["case"], row["iterations"]) == ("head_512", 2)
    assert said == f"{row['AP']:5.2f} AP  {case.title}, 2 iterations\n"
    log = tmp_path / "out" / "head_512" / "output.txt"
    content = log.read_text()
    assert _run(monkeypatch, *words) == 0
    assert (log.read_text(), capsys.readouterr().out) == (content, said)
