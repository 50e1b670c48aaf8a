"""LVIS by its own rules, with the package lvis."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("detectron2", reason="detection needs Detectron2")
pytest.importorskip("lvis", reason="LVIS is scored by its own package")

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.lvis import register_lvis_instances
from detectron2.structures import Boxes, Instances
from tiny_coco import write_json
from tiny_voc import write_picture

from nasnet_det.detection.config import get_config
from nasnet_det.detection.datasets import check_datasets
from nasnet_det.detection.trainer import Trainer

pytestmark = pytest.mark.peers


def test_perfect_detections_of_lvis_have_ap_100(tmp_path: Path) -> None:
    write_picture(tmp_path / "coco/val2017/a.jpg", (100, 80))
    category = {"frequency": "f", "image_count": 1, "instance_count": 1}
    image = {"id": 1, "width": 100, "height": 80, "coco_url": "http://x/val2017/a.jpg"}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 30], "area": 1200}
    content = {
        "images": [{**image, "neg_category_ids": [2], "not_exhaustive_category_ids": []}],
        "categories": [{"id": 1, "name": "a", **category}, {"id": 2, "name": "b", **category}],
        "annotations": [{**annotation, "segmentation": [[10, 10, 50, 10, 50, 40, 10, 40]]}],
    }
    path = write_json(tmp_path / "lvis.json", content)
    name = "tiny_lvis_v0"
    metadata = {"thing_classes": ["a", "b"]}
    register_lvis_instances(name, metadata, str(path), str(tmp_path / "coco/val2017"))
    try:
        cfg = get_config(opts=["DATASETS.TEST", f"('{name}',)", "OUTPUT_DIR", str(tmp_path / "o")])
        check_datasets(cfg, eval_only=True)
        evaluator = Trainer.build_evaluator(cfg, name)
        evaluator.reset()
        found = Instances((80, 100))
        found.pred_boxes = Boxes(torch.tensor([[10.0, 10, 50, 40]]))
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)
