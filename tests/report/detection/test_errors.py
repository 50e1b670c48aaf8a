"""Error types, calibration and the choice of pictures: small cases by hand, and TIDE's by loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask
from simulated_detector import detect, evaluate_with_pycocotools, make_truth

from nasnet_det.report.detection.boxes import read_detections, read_truth
from nasnet_det.report.detection.calibration import choose_threshold, compute_calibration
from nasnet_det.report.detection.errors import TYPES, find_errors, summarize_errors
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.matches import Matches, match_boxes
from nasnet_det.report.detection.pictures import choose_images
from nasnet_det.report.detection.scores import compute_scores

Json = Any


def read(folder: Path, truth: Json, results: Json) -> tuple[Any, Matches]:
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    data = read_truth(folder / "truth.json")
    return data, match_boxes(data, read_detections(folder / "results.json", data))


def box(category: int, x: float, score: float = 1.0, width: float = 100) -> dict[str, Json]:
    return {"image_id": 1, "category_id": category, "bbox": [x, 0, width, 100], "score": score}


def make_case(objects: list[dict[str, Json]]) -> dict[str, Json]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 2000, "height": 100}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {**o, "id": i, "area": 100 * o["bbox"][2], "iscrowd": 0}
            for i, o in enumerate(objects, 1)
        ],
    }


# A cat at 0 and a dog at 1000; what is found, and the type of each box.
@pytest.mark.parametrize(
    ("found", "types", "missed"),
    [
        ([box(1, 0), box(2, 1000)], [], 0),
        ([box(1, 0)], [], 1),
        ([box(2, 0)], ["classification"], 1),
        ([box(1, 60)], ["localisation"], 1),
        ([box(2, 60)], ["both"], 2),
        ([box(1, 0, 0.9), box(1, 5, 0.8)], ["duplicate"], 1),
        ([box(1, 500)], ["background"], 2),
        ([box(1, 95)], ["background"], 2),
        ([box(2, 0), box(1, 1000)], ["classification"] * 2, 0),
    ],
)
def test_types_by_hand(found: list[Json], types: list[str], missed: int, tmp_path: Path) -> None:
    truth, matches = read(tmp_path, make_case([box(1, 0), box(2, 1000)]), found)
    errors = find_errors(truth, matches)
    assert sorted(list(TYPES)[i] for i in errors.type if i >= 0) == types
    assert errors.is_missed.sum() == missed
    counts = {k: v.count for k, v in summarize_errors(truth, matches, errors).types.items()}
    assert counts == {t: types.count(t) if t != "missed" else missed for t in TYPES}


def put_right(name: str, truth: Json, results: list[Json]) -> tuple[Json, list[Json]]:
    """Data set and detections without one type of error, by loops over single boxes and pycocotools' matches."""
    evaluation = evaluate_with_pycocotools(truth, results)
    by_id = {a["id"]: a for a in truth["annotations"]}
    numbered = {i: dict(r) for i, r in enumerate(results, 1)}  # the ids that pycocotools gives
    matched, ignored = {}, set()
    for e in filter(None, evaluation.evalImgs):
        if e["aRng"] == [0, 1e10]:
            for number, gt, left_out in zip(
                e["dtIds"], e["dtMatches"][0], e["dtIgnore"][0], strict=True
            ):
                if left_out:
                    ignored.add(number)
                elif gt:
                    matched[number] = int(gt)
    used, meant, kept = set(matched.values()), set(), []
    fixes: list[tuple[float, int, int]] = []
    for number, r in numbered.items():
        if number in matched or number in ignored:
            kept.append(r)
            continue
        others = [
            a for a in truth["annotations"] if a["image_id"] == r["image_id"] and not a["iscrowd"]
        ]
        iou = {a["id"]: mask.iou([r["bbox"]], [a["bbox"]], [0])[0, 0] for a in others}
        same = {k: v for k, v in iou.items() if by_id[k]["category_id"] == r["category_id"]}
        wrong = {k: v for k, v in iou.items() if k not in same}
        if same and 0.1 <= max(same.values()) < 0.5:
            kind, target = "localisation", max(same, key=lambda k: same[k])
        elif wrong and max(wrong.values()) >= 0.5:
            kind, target = "classification", max(wrong, key=lambda k: wrong[k])
        elif any(v >= 0.5 for k, v in same.items() if k in used):
            kind, target = "duplicate", 0
        elif max(iou.values(), default=0) <= 0.1:
            kind, target = "background", 0
        else:
            kind, target = "both", 0
        meant.add(target)
        if kind != name:
            kept.append(r)
        elif target:
            fixes.append((-r["score"], number, target))
    done = set(used)
    for _, number, target in sorted(fixes):
        if target not in done:
            done.add(target)
            a = by_id[target]
            kept.append({**numbered[number], "bbox": a["bbox"], "category_id": a["category_id"]})
    if name == "missed":
        gone = {a["id"] for a in truth["annotations"] if not a["iscrowd"]} - used - meant
        truth = {**truth, "annotations": [a for a in truth["annotations"] if a["id"] not in gone]}
    return truth, kept


def test_costs_are_those_of_putting_each_type_right(tmp_path: Path) -> None:
    truth = make_truth(25, seed=2)
    results = detect(truth, seed=2, spread=0.25, confused=0.3)
    # Scores that differ: the order of equal ones depends on where a box lies in the file.
    results = [{**r, "score": 0.001 * i + 0.1} for i, r in enumerate(results, 1)]
    read_in, matches = read(tmp_path, truth, results)
    summary = summarize_errors(read_in, matches, find_errors(read_in, matches))
    base = evaluate_with_pycocotools(truth, results).stats[1]
    for name in TYPES:
        assert summary.types[name].count > 0, name
        wanted = 100 * (evaluate_with_pycocotools(*put_right(name, truth, results)).stats[1] - base)
        assert summary.types[name].ap50 == pytest.approx(wanted, abs=1e-9), name
    num_wrong = sum(summary.types[name].count for name in TYPES if name != "missed")
    assert summary.false_positives.count == num_wrong
    assert sum(n for *_, n in summary.confusions) == summary.types["classification"].count


def test_calibration_counts_what_lies_in_each_bin(tmp_path: Path) -> None:
    truth = make_truth(40, crowds=0.1)
    results = detect(truth)
    _, matches = read(tmp_path, truth, results)
    found = compute_calibration(matches)
    evaluation = evaluate_with_pycocotools(truth, results)
    pairs = [
        (score, match > 0)
        for e in filter(None, evaluation.evalImgs)
        if e["aRng"] == [0, 1e10]
        for score, match, ignored in zip(
            e["dtScores"], e["dtMatches"][0], e["dtIgnore"][0], strict=True
        )
        if not ignored
    ]
    error = 0.0
    for row in found.bins:
        mine = [(s, r) for s, r in pairs if row.low <= s < row.high or (s == 1 == row.high)]
        assert row.count == len(mine)
        if mine:
            assert row.right == pytest.approx(np.mean([r for _, r in mine]))
            error += len(mine) * abs(row.right - np.mean([s for s, _ in mine]))
    assert found.error == pytest.approx(error / len(pairs))
    num_objects = sum(not a["iscrowd"] for a in truth["annotations"])

    def f1(threshold: float) -> float:
        kept = [right for score, right in pairs if score >= threshold]
        return 2 * sum(kept) / (len(kept) + num_objects)

    best = max(f1(score) for score, _ in pairs)
    assert f1(choose_threshold(matches)) == pytest.approx(best)


def test_pictures_are_chosen_by_score(tmp_path: Path) -> None:
    truth = make_truth(30, seed=4)
    results = detect(truth, seed=4, confused=0.3)
    read_in, matches = read(tmp_path, truth, results)
    scores = compute_scores(matches)
    evaluation = Evaluation(read_in, len(results), matches, scores, scores)
    chosen = choose_images(evaluation, threshold=0.3)
    assert [c.reason for c in chosen] == ["best"] * 2 + ["worst"] * 2 + ["most confused"] * 2
    assert len({c.image for c in chosen}) == 6
    kept = [r for r in results if r["score"] >= 0.3]
    f1 = []
    for image_id in read_in.image_ids:  # each image as a data set of its own
        mine = [r for r in kept if r["image_id"] == image_id]
        objects = [a for a in truth["annotations"] if a["image_id"] == image_id]
        if not mine + objects:
            continue
        one = {**truth, "images": [{"id": image_id}], "annotations": objects}
        hits = 0
        if mine:
            images = evaluate_with_pycocotools(one, mine).evalImgs
            hits = sum(
                (e["dtMatches"][0] > 0).sum()
                for e in filter(None, images)
                if e["aRng"] == [0, 1e10]
            )
        f1.append(2 * hits / (len(mine) + len(objects)))
    f1.sort()
    assert [c.f1 for c in chosen if c.reason == "best"] == pytest.approx([f1[-1], f1[-2]])
    assert [c.f1 for c in chosen if c.reason == "worst"] == pytest.approx(f1[:2])
    kinds = [list(TYPES).index(name) for name in ("classification", "both")]
    confused = np.isin(evaluation.errors.type, kinds) & (matches.score >= 0.3)
    counts = np.bincount(matches.image[confused], minlength=30)
    rest = [counts[i] for i in range(30) if i not in {c.image for c in chosen[:4]}]
    assert [c.confused for c in chosen[4:]] == sorted(rest, reverse=True)[:2]
