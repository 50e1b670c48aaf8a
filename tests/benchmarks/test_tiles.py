"""benchmarks/tiles.py: its persons, and its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from tiny_coco import make_annotation, write_json

from benchmarks import tiles as benchmark


def _write(folder: Path, person: int) -> str:
    names = {person: "person", person + 1: "dog"}
    data: dict[str, Any] = {
        "categories": [{"id": key, "name": name} for key, name in names.items()],
        "images": [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}],
        "annotations": [
            make_annotation(1, 7, person, [1, 2, 3, 4]),
            make_annotation(2, 7, person + 1, [0, 0, 5, 5]),
        ],
    }
    return str(write_json(folder / f"{person}.json", data).relative_to(folder))


def test_persons_of_two_sets_become_one(tmp_path: Path) -> None:
    files = {_write(tmp_path, 3): "first", _write(tmp_path, 15): "second"}
    benchmark.write_persons(tmp_path, tmp_path / "all.json", files)
    found = json.loads((tmp_path / "all.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["first/a.jpg", "second/a.jpg"]
    assert [image["id"] for image in found["images"]] == [0, 1]
    assert [(one["id"], one["image_id"]) for one in found["annotations"]] == [(1, 0), (2, 1)]
    assert {tuple(one["bbox"]) for one in found["annotations"]} == {(1, 2, 3, 4)}


def test_table_has_the_scores_by_the_size_before_the_enlargement() -> None:
    def row(first: float) -> dict[str, dict[str, float]]:
        original = {metric: first + i for i, metric in enumerate(benchmark.METRICS)}
        return {"original": original, "enlarged": dict.fromkeys(benchmark.METRICS, 0.0)}

    text = benchmark.to_markdown({"rows": {"whole": row(1), "tiles": row(2.25)}})
    assert text.splitlines() == [
        "| | AP | AP50 | AP75 | APs | APm | APl |",
        "|---|---|---|---|---|---|---|",
        "| whole | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 |",
        "| tiles | 2.2 | 3.2 | 4.2 | 5.2 | 6.2 | 7.2 |",
    ]
