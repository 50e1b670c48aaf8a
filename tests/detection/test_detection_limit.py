"""``TEST.DETECTIONS_PER_IMAGE`` over COCO's 100 counts in the evaluation."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.structures import Boxes, Instances
from tiny_detection import write_tiny_config

from nasnet_det.detection import get_config
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.trainer import Trainer

NUM_OBJECTS = 300


def _write_crowded_picture(folder: Path) -> list[str]:
    Image.new("RGB", (400, 400)).save(folder / "a.png")
    corners = [(20 * (i % 20), 20 * (i // 20)) for i in range(NUM_OBJECTS)]
    boxes = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 256}
        | {"bbox": [x, y, 16, 16]}
        for i, (x, y) in enumerate(corners)
    ]
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 400}
    content = {"images": [image], "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    return ["DATASETS.TEST_JSON", str(folder / "boxes.json"), "DATASETS.TEST_IMAGES", str(folder)]


@pytest.mark.parametrize(("limit", "score"), [(100, 33.7), (300, 100.0)])
def test_perfect_detector_of_300_objects(
    limit: int, score: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [*_write_crowded_picture(tmp_path), "OUTPUT_DIR", str(tmp_path)]
    words += ["TEST.DETECTIONS_PER_IMAGE", str(limit)]
    cfg = get_config(write_tiny_config(tmp_path), words)
    register_config_datasets(cfg)
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        evaluator = Trainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    annotations = json.loads((tmp_path / "boxes.json").read_text())["annotations"]
    corners = torch.tensor([item["bbox"] for item in annotations], dtype=torch.float)
    corners[:, 2:] += corners[:, :2]
    found = Instances((400, 400), pred_boxes=Boxes(corners[:limit]))
    found.scores = torch.linspace(0.9, 0.1, limit)
    found.pred_classes = torch.zeros(limit, dtype=torch.long)
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(score, abs=0.05)
    assert ("TEST.DETECTIONS_PER_IMAGE 300: as many count" in caplog.text) == (limit > 100)
