"""Detectron2's own trainers and predictor with this package's models, as its tools use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.config import CfgNode, instantiate
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor, DefaultTrainer, SimpleTrainer
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.detection import get_config, get_lazy_config
from nasnet_det.detection.predictor import Predictor

NAME = "told_own"


@pytest.fixture
def cfg(tmp_path: Path) -> Iterator[CfgNode]:
    """On a set that is registered as users do it."""
    pairs = write_tiny_dataset(tmp_path / "data")
    words = dict(zip(pairs[::2], pairs[1::2], strict=True))
    register_coco_instances(NAME, {}, words["DATASETS.TRAIN_JSON"], words["DATASETS.TRAIN_IMAGES"])
    options = ["SOLVER.MAX_ITER", "2", "MODEL.ROI_HEADS.NUM_CLASSES", "2"]
    cfg = get_config(write_tiny_config(tmp_path), [*options, "OUTPUT_DIR", str(tmp_path / "run")])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    (tmp_path / "run").mkdir()
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


class _Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        return COCOEvaluator(dataset_name, output_dir=cfg.OUTPUT_DIR)


def test_default_trainer_trains_resumes_and_default_predictor_agrees_with_ours(
    cfg: CfgNode,
) -> None:
    trainer = _Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert "AP" in trainer._last_eval_results["bbox"]
    cfg.SOLVER.MAX_ITER = 3
    resumed = _Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2
    resumed.train()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR, "model_final.pth"))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    theirs = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]  # it takes BGR
    ours = Predictor(cfg)(image)
    assert len(theirs) == len(ours) > 0
    torch.testing.assert_close(theirs.scores, ours.scores)
    torch.testing.assert_close(theirs.pred_boxes.tensor, ours.pred_boxes.tensor)


def test_plain_loop_trains_saves_resumes_and_evaluates(cfg: CfgNode) -> None:
    """As ``tools/plain_train_net.py``."""
    starts, cfg.SOLVER.MAX_ITER = [], 4
    for resume in (False, True):
        model = build_model(cfg)
        optimizer = build_optimizer(cfg, model)
        scheduler = build_lr_scheduler(cfg, optimizer)
        checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=scheduler
        )
        found = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        start = found.get("iteration", -1) + 1
        starts.append(start)
        periodic = PeriodicCheckpointer(checkpointer, 2, max_iter=4)
        with EventStorage(start) as storage:
            loader = build_detection_train_loader(cfg)
            for data, iteration in zip(loader, range(start, start + 2), strict=False):
                storage.iter = iteration
                losses = sum(model(data).values())
                assert torch.isfinite(losses)
                optimizer.zero_grad()
                losses.backward()
                optimizer.step()
                scheduler.step()
                periodic.step(iteration)
    assert starts == [0, 2]
    evaluator = COCOEvaluator(NAME, output_dir=cfg.OUTPUT_DIR)
    results = inference_on_dataset(model, build_detection_test_loader(cfg, NAME), evaluator)
    assert "AP" in results["bbox"]


def test_lazy_trainer_trains_and_evaluates(cfg: CfgNode) -> None:
    """As ``tools/lazyconfig_train_net.py``, with the zoo's data, optimizer and evaluator."""
    lazy: Any = get_lazy_config("common/models/faster_rcnn_nasnet_fpn.py").model
    lazy.backbone.bottom_up.update({"channels": 8, "num_cells_per_stage": 1, "norm": "BN"})
    lazy.roi_heads.num_classes = 2
    data = model_zoo.get_config("common/data/coco.py").dataloader
    data.train.dataset.names = data.test.dataset.names = data.evaluator.dataset_name = NAME
    data.train.total_batch_size, data.train.num_workers, data.test.num_workers = 2, 0, 0
    data.train.mapper.update({"use_instance_mask": False, "image_format": "RGB"})
    data.test.mapper.image_format = "RGB"
    data.train.mapper.augmentations[0].short_edge_length = (64,)
    data.test.mapper.augmentations[0].short_edge_length = 64
    model = instantiate(lazy)
    optim = model_zoo.get_config("common/optim.py").SGD
    optim.params.model = model
    trainer = SimpleTrainer(model.train(), instantiate(data.train), instantiate(optim))
    trainer.train(0, 2)
    assert trainer.iter == 2
    evaluator = instantiate(data.evaluator)
    results = inference_on_dataset(model.eval(), instantiate(data.test), evaluator)
    assert "AP" in results["bbox"]
