"""Matches and scores of the detection report: equal to pycocotools'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_detector import detect, evaluate_with_pycocotools, make_truth

from nasnet_det.data.error import DataError
from nasnet_det.report.detection.boxes import (
    intersect_over_union,
    read_detections,
    read_truth,
)
from nasnet_det.report.detection.matches import AREAS, NO_OBJECT, Matches, match_boxes
from nasnet_det.report.detection.scores import (
    METRICS,
    WIDE,
    _sum_up_to,
    compute_average_precision,
    compute_curves,
    compute_scores,
)

# (data set, detections): many images, crowds, equal scores and boxes, more than 100 boxes,
# categories without objects, one image.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"num_images": 40}, {}),
    "crowds": ({"num_images": 40, "crowds": 0.3}, {"spread": 0.3}),
    "ties": ({"num_images": 30, "crowds": 0.1, "objects": 12}, {"digits": 0}),
    "close": ({"num_images": 30, "crowds": 0.1}, {"spread": 0.02, "digits": 1}),
    "many boxes": ({"num_images": 3, "num_categories": 1}, {"per_image": 150}),
    "rare": ({"num_images": 4, "num_categories": 30}, {}),
    "one image": ({"num_images": 1}, {"seed": 3}),
    "no objects": ({"num_images": 5, "objects": 0}, {}),
}


def match(tmp_path: Path, truth: Any, results: Any) -> tuple[Any, Matches]:
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    read = read_truth(tmp_path / "truth.json")
    return read, match_boxes(read, read_detections(tmp_path / "results.json", read))


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_pycocotools(name: str, tmp_path: Path) -> None:
    of_truth, of_detections = CASES[name]
    truth = make_truth(**of_truth)
    results = detect(truth, **of_detections)
    evaluation = evaluate_with_pycocotools(truth, results)
    _, matches = match(tmp_path, truth, results)
    scores = compute_scores(matches)
    ours = np.array([scores.overall[metric][0] for metric in METRICS])
    wanted = np.where(evaluation.stats == -1, np.nan, evaluation.stats)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12)
    # Precision at each threshold, level of recall, category and area.
    for area in range(len(AREAS)):
        curves = compute_curves(matches, area)
        theirs = evaluation.eval["precision"][..., area, -1].transpose(0, 2, 1)
        np.testing.assert_allclose(
            np.where(np.isnan(curves), -1, curves), theirs, rtol=0, atol=1e-12
        )
        once = np.ones((matches.num_images, 1), dtype=np.int16)
        mean = compute_average_precision(matches, once, (area,))
        np.testing.assert_allclose(mean[0, ..., 0], curves.mean(axis=-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_every_match_is_that_of_pycocotools(name: str, tmp_path: Path) -> None:
    of_truth, of_detections = CASES[name]
    truth = make_truth(**of_truth)
    results = detect(truth, **of_detections)
    evaluation = evaluate_with_pycocotools(truth, results)
    read, matches = match(tmp_path, truth, results)
    areas = [list(area) for area in evaluation.params.areaRng]
    num_compared = 0
    for theirs in filter(None, evaluation.evalImgs):
        area = areas.index(theirs["aRng"])
        image = read.image_ids.index(theirs["image_id"])
        category = read.category_ids.index(theirs["category_id"])
        mine = np.flatnonzero((matches.image == image) & (matches.category == category))
        mine = mine[np.argsort(matches.rank[mine])]
        np.testing.assert_array_equal(matches.score[mine], theirs["dtScores"])
        ignored = theirs["dtIgnore"].astype(bool).reshape(10, -1)
        np.testing.assert_array_equal(matches.is_ignored[area][:, mine], ignored)
        is_match = (theirs["dtMatches"].reshape(10, -1) > 0) & ~ignored
        np.testing.assert_array_equal(matches.is_match[area][:, mine], is_match)
        if area == 0:
            found = matches.object[:, mine]
            ids = np.where(found == NO_OBJECT, 0, read.ids[found] if len(read.ids) else 0)
            np.testing.assert_array_equal(ids, theirs["dtMatches"].reshape(10, -1))
        assert matches.num_objects[area, category, image] == (theirs["gtIgnore"] == 0).sum()
        num_compared += len(mine)
    assert num_compared


def test_annotation_with_id_0_is_found_as_another(tmp_path: Path) -> None:
    """Some tools begin there; pycocotools takes 0 for "no match"."""
    truth = make_truth(3, first_id=0)
    keys = ("image_id", "category_id", "bbox")
    results = [{key: a[key] for key in keys} | {"score": 0.5} for a in truth["annotations"]]
    read, matches = match(tmp_path, truth, results)
    assert 0 in read.ids
    assert matches.is_match[0].all(), "each is found where it is"


def test_copies_of_images_count_as_often_as_they_are_there(tmp_path: Path) -> None:
    truth = make_truth(12, crowds=0.1, seed=5)
    results = detect(truth, seed=5)
    _, matches = match(tmp_path, truth, results)
    copies = np.random.default_rng(0).integers(0, 4, size=(5, 12))
    scores = compute_scores(matches, copies)
    order = sorted(image["id"] for image in truth["images"])
    for draw, row in enumerate(copies):
        again: dict[str, Any] = {**truth, "images": [], "annotations": []}
        boxes = []
        for image_id, times in zip(order, row, strict=True):
            for copy in range(times):
                new = 100 * image_id + copy
                again["images"].append({"id": new, "file_name": "", "width": 9, "height": 9})
                again["annotations"] += [
                    {**a, "image_id": new}
                    for a in truth["annotations"]
                    if a["image_id"] == image_id
                ]
                boxes += [{**r, "image_id": new} for r in results if r["image_id"] == image_id]
        again["annotations"] = [{**a, "id": i} for i, a in enumerate(again["annotations"], 1)]
        evaluation = evaluate_with_pycocotools(again, boxes)
        ours = [scores.overall[metric][draw] for metric in METRICS]
        wanted = np.where(evaluation.stats == -1, np.nan, evaluation.stats)
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12)


def test_blocks_of_draws_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = make_truth(10)
    _, matches = match(tmp_path, truth, detect(truth))
    copies = np.random.default_rng(1).integers(0, 3, size=(7, 10))
    whole = compute_scores(matches, copies)
    monkeypatch.setattr("nasnet_det.report.detection.scores.MAX_ELEMENTS", 3 * 60)
    for metric in METRICS:
        np.testing.assert_array_equal(
            compute_scores(matches, copies).overall[metric], whole.overall[metric]
        )


def test_draws_in_rows_are_those_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many draws are added row by row, few by numpy's own sums."""
    truth = make_truth(20, crowds=0.1)
    _, matches = match(tmp_path, truth, detect(truth))
    copies = np.random.default_rng(2).integers(0, 4, size=(WIDE + 2, 20))
    whole = compute_scores(matches, copies)
    monkeypatch.setattr("nasnet_det.report.detection.scores.MAX_ELEMENTS", 1)
    single = compute_scores(matches, copies)
    for metric in METRICS:
        np.testing.assert_array_equal(single.overall[metric], whole.overall[metric])


@pytest.mark.parametrize("num_draws", [2, WIDE])
@pytest.mark.parametrize("copies", [1, 3, 30_000])
def test_sums_are_right_beyond_16_bits(num_draws: int, copies: int) -> None:
    values = np.full((20_000, num_draws), copies, dtype=np.int16)
    ends = np.array([0, 1, 5, 19_000, 20_000])
    wanted = np.repeat((ends * copies)[:, None], num_draws, axis=1)
    np.testing.assert_array_equal(_sum_up_to(values, ends), wanted)


def test_iou_is_that_of_pycocotools() -> None:
    from pycocotools import mask

    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 50, size=(2, 30, 4))
    second[:5] = first[:5]
    crowd = rng.random(30) < 0.5
    theirs = mask.iou(first, second, crowd.astype(np.uint8))
    np.testing.assert_array_equal(intersect_over_union(first[:, None], second, crowd), theirs)


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        ("{", "ends too early, after 1 characters"),
        ("[]", "wanted an object with images, annotations and categories, got a list"),
        ('{"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "a"}]}', "an evaluation needs 'annotations', which are missing"),
        ('{"images": [], "categories": [], "annotations": []}', "at least one entry in 'categories', got none"),
        ('{"images": 3, "categories": [{"id": 1, "name": "a"}], "annotations": []}', "wanted a list 'images', got 3"),
        ('{"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "a"}], "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1}]}', "image_id: wanted an id of the list 'images', but 1 of 1 differ"),
    ],
)  # fmt: skip
def test_data_sets_that_cannot_be_used(truth: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(truth)
    with pytest.raises(DataError, match=sentence) as caught:
        read_truth(tmp_path / "truth.json")
    assert str(caught.value).startswith(str(tmp_path / "truth.json"))


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ("[{", "ends too early, after 2 characters"),
        ("{}", "wanted a list of boxes, got a dict"),
        ('[{"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1]}]', "a box lacks 'score'"),
        ('[{"image_id": 77, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "1 values of image_id are not in the data set, such as 77: these boxes are of another data set"),
        ('[{"image_id": 2, "category_id": 1, "bbox": [0, 0, 1], "score": 1}]', "is no COCO results file"),
        ('[{"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, NaN], "score": 1}]', "a bbox is not a finite number"),
        ('[{"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "score": "x"}]', "is no COCO results file"),
    ],
)  # fmt: skip
def test_detections_that_cannot_be_used(results: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(make_truth(2)))
    (tmp_path / "results.json").write_text(results)
    with pytest.raises(DataError, match=sentence):
        read_detections(tmp_path / "results.json", read_truth(tmp_path / "truth.json"))


def test_boxes_of_unknown_categories_are_left_out_as_pycocotools_does(tmp_path: Path) -> None:
    truth = make_truth(10)
    results = detect(truth)
    _, matches = match(tmp_path, truth, [*results, {**results[0], "category_id": 99}])
    assert len(matches.score) == len(results)
