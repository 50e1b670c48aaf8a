"""Records and evaluation from a file that was read once are Detectron2's own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("detectron2", reason="detection needs Detectron2")

from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from simulated_detector import detect, make_truth

from nasnet_det.data.coco import read_coco
from nasnet_det.detection.evaluator import build_coco_api
from nasnet_det.detection.records import build_records

POLYGON = [[10, 10, 40, 10, 40, 35.5, 10, 35]]


def load_theirs(path: Path, folder: str) -> list[dict[str, Any]]:
    """Detectron2's records, with the crowd flag that it takes for granted."""
    records = load_coco_json(str(path), folder, "read by detectron2")
    MetadataCatalog.remove("read by detectron2")
    for record in records:
        for annotation in record["annotations"]:
            annotation.setdefault("iscrowd", 0)
    return records


@pytest.mark.parametrize("needs_masks", [False, True])
def test_records_of_real_files_are_those_of_detectron2(
    reference_data: Path, needs_masks: bool
) -> None:
    for path in (
        reference_data / "bccd/coco_json/instances_train.json",
        reference_data / "coco_small/annotations/instances_val2017.json",
    ):
        wanted = load_theirs(path, "folder")
        if needs_masks and not any("segmentation" in a for r in wanted for a in r["annotations"]):
            continue
        coco = read_coco(path, with_shapes=needs_masks)
        records = build_records(coco, "folder", needs_masks=needs_masks)
        if not needs_masks:
            for record in wanted:
                for annotation in record["annotations"]:
                    annotation.pop("segmentation", None)
        assert records == wanted
        types = [type(v) for r in records for a in r["annotations"] for v in a["bbox"]]
        assert types == [type(v) for r in wanted for a in r["annotations"] for v in a["bbox"]]


def write(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(data))
    return path


def test_masks_that_can_not_be_used_leave_out_their_objects_where_masks_are_trained(
    tmp_path: Path,
) -> None:
    data = make_truth(3)
    data["annotations"] = data["annotations"][:4]
    mask = np.zeros((40, 50), np.uint8, order="F")
    mask[10:20, 5:30] = 1
    rle = mask_util.encode(mask)
    values = [POLYGON, [[]], [[1, 2, 3, 4], *POLYGON], {**rle, "counts": rle["counts"].decode()}]
    for annotation, value in zip(data["annotations"], values, strict=True):
        annotation["segmentation"] = value
    coco = read_coco(write(tmp_path, data), with_shapes=True)
    trained = build_records(coco, "", needs_masks=True)
    masks = [a["segmentation"] for record in trained for a in record["annotations"]]
    assert sorted(map(str, masks)) == sorted(map(str, [POLYGON, POLYGON, values[3]]))
    boxes = build_records(coco, "", needs_masks=False)
    assert sum(len(record["annotations"]) for record in boxes) == 4


def test_rle_of_counts_is_compressed_and_keypoints_move_to_the_middle_of_pixels(
    tmp_path: Path,
) -> None:
    data = make_truth(1, objects=9)
    data["annotations"] = data["annotations"][:1]
    data["annotations"][0] |= {
        "segmentation": {"counts": [10, 20, 70], "size": [10, 10]},
        "keypoints": [3, 4, 2, 5, 6, 1],
    }
    path = write(tmp_path, data)
    records = build_records(read_coco(path, with_shapes=True), "x", needs_masks=True)
    assert records == load_theirs(path, "x")
    assert records[0]["annotations"][0]["keypoints"] == [3.5, 4.5, 2, 5.5, 6.5, 1]


@pytest.mark.parametrize("texts", [False, True])
def test_scores_are_those_of_pycocotools_own_reading(texts: bool, tmp_path: Path) -> None:
    data = make_truth(20, crowds=0.1)
    results = detect(data)
    path = write(tmp_path, data)
    theirs = COCO(str(path))
    wanted = evaluate(theirs, copy.deepcopy(results))
    if texts:  # the same data set and results with other names
        for image in data["images"]:
            image["id"] = f"i{image['id']:04}"
        for category in data["categories"]:
            category["id"] = f"c{category['id']}"
        for record in [*data["annotations"], *results]:
            record.update(
                image_id=f"i{record['image_id']:04}", category_id=f"c{record['category_id']}"
            )
    for annotation in data["annotations"]:  # some tools begin with 0, pycocotools' "no match"
        annotation["id"] -= 1
    path = write(tmp_path, data)
    ours = build_coco_api(read_coco(path), needs_masks=False)
    np.testing.assert_array_equal(evaluate(ours, results), wanted)


def evaluate(truth: COCO, results: list[dict[str, Any]]) -> np.ndarray:
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats
