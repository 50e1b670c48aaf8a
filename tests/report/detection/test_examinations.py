"""Confusion matrix, scores for a wanted precision, parts of the data: beside loops over single boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from simulated_detector import (
    HEIGHT,
    WIDTH,
    detect,
    evaluate_with_pycocotools,
    make_truth,
    write_run,
)

from nasnet_det.cli.main import main
from nasnet_det.report.detection.boxes import read_detections, read_truth
from nasnet_det.report.detection.confusion import choose_classes, find_confusion
from nasnet_det.report.detection.errors import find_errors
from nasnet_det.report.detection.matches import match_boxes
from nasnet_det.report.detection.operating_points import WANTED, find_operating_points
from nasnet_det.report.detection.slices import find_slices, measure_brightness

Json = Any
TRUTH = make_truth(40, seed=5, crowds=0.05)
RESULTS = detect(TRUTH, seed=5, confused=0.25)
THRESHOLD = 0.4


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The data set, and its matches."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    truth = read_truth(folder / "truth.json")
    return truth, match_boxes(truth, read_detections(folder / "results.json", truth))


def list_pairs() -> list[tuple[Json, int, bool]]:
    """Each detection that counts with the id of its object, or 0, by pycocotools at IoU 0.5."""
    evaluation = evaluate_with_pycocotools(TRUTH, RESULTS)
    pairs = []
    for e in filter(None, evaluation.evalImgs):
        if e["aRng"] == [0, 1e10]:
            for number, gt, ignored in zip(
                e["dtIds"], e["dtMatches"][0], e["dtIgnore"][0], strict=True
            ):
                if not ignored:
                    pairs.append((RESULTS[number - 1], int(gt)))
    return pairs


def test_confusion_counts_each_object_once(scored: tuple[Any, Any]) -> None:
    truth, matches = scored
    confusion = find_confusion(truth, matches, find_errors(truth, matches), THRESHOLD)
    assert confusion is not None
    names = list(truth.category_names)
    matrix = confusion.find_matrix(names)
    objects = [a for a in TRUTH["annotations"] if not a["iscrowd"]]
    of_class = {c["id"]: c["name"] for c in TRUTH["categories"]}
    counts = [sum(of_class[a["category_id"]] == name for a in objects) for name in names]
    assert matrix[:-1].sum(axis=1).tolist() == counts
    sure = [(r, gt) for r, gt in list_pairs() if r["score"] >= THRESHOLD]
    right = {gt for _, gt in sure if gt}
    assert matrix[:-1, :-1].trace() == len(right)
    assert matrix[:, :-1].sum() == len(sure), "each detection once"
    place = {name: i for i, name in enumerate(names)}
    wanted = np.zeros_like(matrix[:-1, :-1])
    taken: set[int] = set()
    for r, gt in sorted(sure, key=lambda pair: -pair[0]["score"]):
        mine = [a for a in objects if a["image_id"] == r["image_id"]]
        iou = {a["id"]: mask.iou([r["bbox"]], [a["bbox"]], [0])[0, 0] for a in mine}
        by_id = {a["id"]: a for a in mine}
        same = [v for k, v in iou.items() if by_id[k]["category_id"] == r["category_id"]]
        others = {k: v for k, v in iou.items() if by_id[k]["category_id"] != r["category_id"]}
        if gt or 0.1 <= max(same, default=0) < 0.5 or max(others.values(), default=0) < 0.5:
            continue  # right, or TIDE's loose box, or none in its place
        target = max(others, key=lambda k: others[k])
        if target not in right | taken:
            taken.add(target)
            label = of_class[by_id[target]["category_id"]]
            wanted[place[label], place[of_class[r["category_id"]]]] += 1
    off = matrix[:-1, :-1] - np.diag(np.diag(matrix[:-1, :-1]))
    assert off.tolist() == wanted.tolist()
    assert off.sum() > 5
    assert find_confusion(truth, matches, find_errors(truth, matches), None) is None


def test_most_confused_classes_are_shown(scored: tuple[Any, Any]) -> None:
    truth, matches = scored
    confusion = find_confusion(truth, matches, find_errors(truth, matches), THRESHOLD)
    assert confusion is not None
    names = list(truth.category_names)
    off = confusion.find_matrix(names)[:-1, :-1].copy()
    np.fill_diagonal(off, 0)
    amount = off.sum(axis=0) + off.sum(axis=1)
    two = choose_classes(confusion, names, 2)
    assert two == [name for i, name in enumerate(names) if i != amount.argmin()]


def test_score_for_a_wanted_precision_is_the_lowest(scored: tuple[Any, Any]) -> None:
    truth, matches = scored
    points = find_operating_points(matches)
    rows = [points.overall, *points.of_categories]
    for name, row in zip([None, *truth.category_ids], rows, strict=True):
        pairs = [(r["score"], gt > 0) for r, gt in list_pairs() if name in (None, r["category_id"])]
        number = sum(
            not a["iscrowd"] and name in (None, a["category_id"]) for a in TRUTH["annotations"]
        )
        for wanted, point in zip(WANTED, row, strict=True):
            fits = {}
            for threshold in {score for score, _ in pairs}:
                kept = [right for score, right in pairs if score >= threshold]
                if np.mean(kept) >= wanted:
                    fits[threshold] = kept
            if not fits:
                assert point.threshold is None
                continue
            best = min(fits)
            assert point.threshold == pytest.approx(best)
            assert point.precision == pytest.approx(np.mean(fits[best]))
            assert point.recall == pytest.approx(sum(fits[best]) / number)
    assert points.overall[0].threshold is not None


def test_parts_are_those_of_loops(scored: tuple[Any, Any]) -> None:
    truth, matches = scored
    brightness = np.arange(40.0)
    brightness[7] = np.nan
    slices = find_slices(truth, matches, THRESHOLD, brightness)
    found = {gt for r, gt in list_pairs() if r["score"] >= THRESHOLD}
    objects = [a for a in TRUTH["annotations"] if not a["iscrowd"]]
    by_id = {key: i for i, key in enumerate(truth.image_ids)}

    def is_cut(a: Json) -> bool:
        x, y, w, h = a["bbox"]
        return x < 2 or y < 2 or x + w > WIDTH - 2 or y + h > HEIGHT - 2

    (cut,) = [one for one in slices if one.name == "at the picture's border"]
    mine = [a for a in objects if is_cut(a)]
    assert cut.objects == len(mine) > 0
    assert cut.found == pytest.approx(100 * np.mean([a["id"] in found for a in mine]))
    assert cut.interval is not None
    assert cut.interval[0] < cut.found < cut.interval[1]
    for by in ("size", "place"):
        assert sum(one.objects for one in slices if one.by == by) == len(objects)
    parts = [one for one in slices if one.by == "brightness"]
    assert [one.name for one in parts] == ["0 to 13 of 255", "14 to 26 of 255", "27 to 39 of 255"]
    last = {key for key, i in by_id.items() if i >= 27}
    part = {**TRUTH, "images": [i for i in TRUTH["images"] if i["id"] in last]}
    part["annotations"] = [a for a in TRUTH["annotations"] if a["image_id"] in last]
    stats = evaluate_with_pycocotools(part, [r for r in RESULTS if r["image_id"] in last]).stats
    assert parts[-1].ap == pytest.approx(100 * stats[0])
    counts = [sum(a["image_id"] == key for a in objects) for key in truth.image_ids]
    crowding = [one for one in slices if one.by == "crowding"]
    assert sum(one.images for one in crowding) == sum(count > 0 for count in counts)
    assert crowding[-1].name.endswith(f"to {max(counts)} objects")


def test_brightness_is_the_mean_of_the_grey_values(tmp_path: Path) -> None:
    for name, value in (("dark.png", 10), ("light.png", 250)):
        Image.new("RGB", (300, 200), (value, value, value)).save(tmp_path / name)
    got = measure_brightness(["dark.png", "gone.png", "light.png"], tmp_path)
    assert got[[0, 2]].tolist() == [10, 250]
    assert np.isnan(got[1])


def test_several_test_sets_stand_beside_each_other(tmp_path: Path) -> None:
    other = make_truth(20, seed=9)
    runs = []
    for name, seed in (("one", 0), ("two", 1)):
        run = write_run(tmp_path / name, TRUTH, detect(TRUTH, seed=seed))
        (tmp_path / "other.json").write_text(json.dumps(other))
        content = json.loads((run / "results.json").read_text())
        second = {**content["datasets"]["set"], "json_file": str(tmp_path / "other.json")}
        content["datasets"] = {"set": content["datasets"]["set"], "other/set": second}
        (run / "results.json").write_text(json.dumps(content))
        for place, truth in (("set", TRUTH), ("other_set", other)):
            (run / "inference" / place).mkdir()
            path = run / "inference" / place / "coco_instances_results.json"
            path.write_text(json.dumps(detect(truth, seed=seed)))
        (run / "inference" / "coco_instances_results.json").unlink()
        runs.append(run)
    words = [*map(str, runs), "--out", str(tmp_path / "out"), "--no-cost", "--draws", "100"]
    assert main(["report", *words]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = ["one on set", "one on other/set", "two on set", "two on other/set"]
    assert [run["name"] for run in report["runs"]] == names
    assert [run["data"]["images"] for run in report["runs"]] == [40, 20, 40, 20]
    assert [run["training"] is None for run in report["runs"]] == [False, True, False, True]
    for run, truth, seed in zip(
        report["runs"], (TRUTH, other, TRUTH, other), (0, 0, 1, 1), strict=True
    ):
        wanted = evaluate_with_pycocotools(truth, detect(truth, seed=seed)).stats[0]
        assert run["scores"]["AP"]["value"] == pytest.approx(100 * wanted)
    pairs = [(row["run"], row["minus"], row["reason"]) for row in report["comparisons"]]
    assert pairs == [
        ("two on set", "one on set", None),
        ("two on other/set", "one on other/set", None),
    ]
    assert (tmp_path / "out" / "label_errors_two on other_set.json").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Confusion matrix" in page
