"""A detector of a few thousand parameters and a data set of six small pictures, for tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from nasnet_det.genotype import Block, CellSpec, Genotype

CONFIG = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  PIXEL_MEAN: [127.5, 127.5, 127.5]
  PIXEL_STD: [127.5, 127.5, 127.5]
  BACKBONE: {NAME: build_nasnet_fpn_backbone, FREEZE_AT: 0}
  NASNET: {CHANNELS: 8, NUM_CELLS_PER_STAGE: 1}
  FPN: {IN_FEATURES: [c2, c3, c4, c5], OUT_CHANNELS: 8}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  RPN:
    IN_FEATURES: [p2, p3, p4, p5, p6]
    POST_NMS_TOPK_TRAIN: 20
    POST_NMS_TOPK_TEST: 20
    BATCH_SIZE_PER_IMAGE: 16
  ROI_HEADS:
    NAME: StandardROIHeads
    IN_FEATURES: [p2, p3, p4, p5]
    BATCH_SIZE_PER_IMAGE: 16
    SCORE_THRESH_TEST: 0.0
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 3}
SOLVER:
  IMS_PER_BATCH: 2
  BASE_LR: 0.01
  MAX_ITER: 4
  STEPS: []
  WARMUP_ITERS: 2
  CHECKPOINT_PERIOD: 1
INPUT: {MIN_SIZE_TRAIN: [64], MAX_SIZE_TRAIN: 96, MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96, FORMAT: RGB}
DATALOADER: {NUM_WORKERS: 0, ASPECT_RATIO_GROUPING: False, FILTER_EMPTY_ANNOTATIONS: False}
SEED: 1
VERSION: 2
"""


def write_tiny_genotype(folder: Path) -> str:
    """The path of cells with few operations, of each kind that depends on a picture's size."""
    path = folder / "cells.json"
    pools = Block((0, 1), ("avg_pool_3x3", "max_pool_3x3"))
    Genotype(
        CellSpec((Block((0, 1), ("sep_conv_3x3", "identity")),), (1, 2)),
        CellSpec((pools, Block((0, 2), ("sep_conv_5x5", "identity"))), (3,)),
    ).save(path)
    return str(path)


def write_tiny_dataset(folder: Path, *, with_boxes: bool = True) -> list[str]:
    """Six pictures of a red box, the first without an annotation.

    Returns:
        the KEY VALUE pairs that name the data set for training and evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    data: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "first"}, {"id": 2, "name": "second"}],
    }
    for i in range(6):
        pixels = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        pixels[10:40, 20:60] = (255, 0, 0)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        data["images"].append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 64})
        if i and with_boxes:
            box = {"id": i, "image_id": i, "category_id": 1 + i % 2, "iscrowd": 0}
            data["annotations"].append({**box, "bbox": [20, 10, 40, 30], "area": 1200})
    path = folder / "boxes.json"
    path.write_text(json.dumps(data))
    files = {"JSON": str(path), "IMAGES": str(folder)}
    return [
        word
        for split in ("TRAIN", "TEST")
        for key, value in files.items()
        for word in (f"DATASETS.{split}_{key}", value)
    ]


def write_tiny_config(folder: Path) -> str:
    """The path of the detector's config file."""
    path = folder / "tiny.yaml"
    path.write_text(CONFIG)
    return str(path)


def make_toy_detector(width: int = 4) -> nn.Module:
    """No detector, but named like one: trunk and FPN in the backbone, and a head."""
    bottom_up = nn.Module()
    bottom_up.trunk = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.bottom_up = bottom_up
    model.backbone.fpn_lateral2 = nn.Conv2d(width, 4, 1)
    model.head = nn.Linear(4, 2)
    return model


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)
