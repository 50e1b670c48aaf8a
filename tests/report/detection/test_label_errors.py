"""Likely label errors: each kind by hand, planted ones among simulated detections, and their file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from simulated_detector import detect, make_truth, write_run
from tiny_pictures import write_pictures_of

from benchmarks.label_errors import count_found, plant
from nasnet_det.cli.main import main
from nasnet_det.data.coco import read_coco
from nasnet_det.report.detection.boxes import read_detections, read_truth
from nasnet_det.report.detection.label_error_list import LabelErrorRow
from nasnet_det.report.detection.label_errors import PRIOR, find_label_errors
from nasnet_det.report.detection.matches import match_boxes

Json = Any


def box(category: int, x: float, score: float = 0.9, width: float = 100) -> dict[str, Json]:
    return {"image_id": 1, "category_id": category, "bbox": [x, 0, width, 100], "score": score}


def find(
    folder: Path, objects: list[dict[str, Json]], found: list[dict[str, Json]]
) -> list[tuple[str, int | None, float]]:
    """Kind, id of the annotation and the detector's own confidence, among ten objects that agree."""
    sure = [box(category, 5000 + 200 * i) for category in (1, 2) for i in range(10)]
    for category, one in enumerate(sure):
        one["bbox"][1] = 200.0 * (category >= 10)
    annotations = [
        {**one, "id": i, "area": 1e4, "iscrowd": 0, **objects_of(one)}
        for i, one in enumerate([*objects, *sure], 1)
    ]
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 9000, "height": 400}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps([*found, *sure]))
    data = read_truth(folder / "truth.json")
    matches = match_boxes(data, read_detections(folder / "results.json", data))
    errors = find_label_errors(data, matches)
    assert [e.confidence for e in errors] == sorted([e.confidence for e in errors], reverse=True)
    return [
        (e.kind, int(data.ids[e.object]) if e.object >= 0 else None, e.confidence) for e in errors
    ]


def objects_of(one: dict[str, Json]) -> dict[str, Json]:
    return {key: one[key] for key in ("iscrowd",) if key in one}


# A cat at 0; what is found, and what is suggested.
@pytest.mark.parametrize(
    ("objects", "found", "wanted"),
    [
        ([box(1, 0)], [box(1, 5)], []),
        ([box(1, 0)], [box(1, 0), box(2, 1000)], [("missing box", None)]),
        ([box(1, 0)], [box(2, 5)], [("wrong class", 1)]),
        ([box(1, 0)], [box(1, 60)], [("moved box", 1)]),
        ([box(1, 0)], [], [("spurious box", 1)]),
        ([box(1, 0)], [box(2, 60)], [("missing box", None), ("spurious box", 1)]),
        ([box(1, 0)], [box(1, 0), box(1, 5, 0.8)], []),  # found twice
        ([box(1, 0)], [box(1, 0, 0.9), box(2, 0, 0.8)], []),  # found as another class, too
        ([box(1, 0)], [box(1, 0), box(2, 1000), box(1, 1010, 0.8)], [("missing box", None)]),
        ([box(1, 0), box(1, 120)], [box(1, 0), box(1, 60)], [("moved box", 2)]),
        ([box(1, 0)], [box(1, 0), box(1, 1000, 0.1)], []),  # the detector is not sure
        ([{**box(1, 0), "iscrowd": 1}], [], []),
        ([{**box(1, 0, width=900), "iscrowd": 1}], [box(1, 100), box(1, 300)], []),
    ],
)  # fmt: skip
def test_kinds_by_hand(
    objects: list[Json], found: list[Json], wanted: list[tuple[str, int | None]], tmp_path: Path
) -> None:
    assert sorted(map(str, ((k, i) for k, i, _ in find(tmp_path, objects, found)))) == sorted(
        map(str, wanted)
    )


def test_what_is_frequent_in_a_class_counts_less(tmp_path: Path) -> None:
    """Five cats that nobody annotated are a habit; one dog is a slip."""
    found = [box(1, 200.0 * i, 0.95) for i in range(5)] + [box(2, 2000)]
    errors = find(tmp_path, [box(1, 4000)], [*found, box(1, 4000)])
    assert [kind for kind, _, _ in errors] == ["missing box"] * 6
    of_picture = (PRIOR + 18.9) / (PRIOR + 18.9 + 5 * 0.95 + 0.9)
    assert errors[0][2] == pytest.approx(of_picture * 0.9 * 9 / (9 + 0.9))
    assert errors[1][2] == pytest.approx(of_picture * 0.95 * 9.9 / (9.9 + 5 * 0.95))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Any, Any], Json]:
    """The folder of a report on a data set with 30 planted errors, these, and ``report.json``."""
    folder = tmp_path_factory.mktemp("planted")
    clean = make_truth(60, seed=3)
    results = detect(clean, found=0.97, spread=0.03, confused=0.01, per_image=0.5)
    truth, planted = plant(clean, 30, seed=0)
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    write_pictures_of(truth, folder / "images", (90, 90, 90))
    run = write_run(folder / "run", truth, results)
    assert (
        main(["report", str(run), "--out", str(folder / "out"), "--no-cost", "--draws", "100"]) == 0
    )
    return folder / "out", planted, json.loads((folder / "out" / "report.json").read_text())


def test_planted_errors_come_first(reported: tuple[Path, dict[Any, Any], Json]) -> None:
    _, planted, report = reported
    rows = [LabelErrorRow(**row) for row in report["runs"][0]["label_errors"]["rows"]]
    found = Counter(planted[key][0] for key in count_found(rows[:50], planted))
    assert found.total() >= 23
    assert min(found[kind] for kind in ("moved", "dropped", "renamed")) >= 6
    for row in rows:
        kind, was = planted.get(row.annotation_id, ("", {}))
        if kind == "renamed" and row.kind == "wrong class":
            names = {2 * k + 1: f"class {k}" for k in range(3)}
            assert row.found == names[was["category_id"]]


def test_file_is_a_data_set_of_what_would_be_right(
    reported: tuple[Path, dict[Any, Any], Json],
) -> None:
    out, _, report = reported
    coco = read_coco(out / "label_errors.json")
    content = json.loads((out / "label_errors.json").read_text())
    rows = report["runs"][0]["label_errors"]["rows"]
    assert len(coco.objects.ids) == len(content["annotations"]) >= len(rows) >= 50
    names = {category["id"]: category["name"] for category in content["categories"]}
    for rank, (one, row) in enumerate(zip(content["annotations"], rows, strict=False), 1):
        about = {"kind": row["kind"], "rank": rank, "annotation_id": row["annotation_id"]}
        assert one["attributes"] == {**about, "confidence": round(row["confidence"], 4)}
        is_found_box = row["kind"] in ("missing box", "moved box")
        assert one["bbox"] == row["found_box" if is_found_box else "annotated_box"]
        assert names[one["category_id"]] == (row["found"] or row["annotated"])
        assert one["image_id"] == row["image_id"]


def test_page_shows_them(reported: tuple[Path, dict[Any, Any], Json], tmp_path: Path) -> None:
    out, _, report = reported
    text = (out / "report.html").read_text()
    first = report["runs"][0]["label_errors"]["rows"][0]
    caption = f"1. {first['kind']} ({first['confidence']:.2f}): {first['file_name']}"
    assert f"<figcaption>{caption}</figcaption>" in text
    assert text.count('class="photo"') >= 40


def test_picture_shows_both_boxes(tmp_path: Path) -> None:
    import io

    import numpy as np

    from nasnet_det.report.detection.label_error_pictures import SIDE, draw_label_error

    Image.new("RGB", (300, 200), "white").save(tmp_path / "a.png")
    for places in (((100.0, 50.0), (140.0, 60.0)), ((0.0, 0.0), (260.0, 160.0))):
        annotated, found = ([*place, 40.0, 30.0] for place in places)
        row = LabelErrorRow("moved box", 0.9, 1, "a.png", 1, "cat", annotated, "cat", 0.8, found)
        data = draw_label_error(row, np.array([annotated]), tmp_path)
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert max(pixels.shape) == SIDE
        for color in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
            assert (np.abs(pixels - color).max(axis=2) < 60).sum() > 50
