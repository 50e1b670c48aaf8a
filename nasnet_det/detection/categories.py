"""What the labels of a trained detector mean: the names and COCO ids of its classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from nasnet_det.detection.datasets import get_categories
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.record import read_starts
from nasnet_det.weights.file import read_weights

Category = dict[str, Any]
"""``id``, as the data set of the training has it, and ``name``."""


def find_categories(cfg: CfgNode) -> list[Category]:
    """Names and COCO ids of a model's classes, in the order of its labels.

    They stand in the checkpoint that the training wrote. For other weights they stand in the
    ``run.json`` beside them; else in the data sets of the config, where those are at hand; else the
    classes are numbered.
    """
    number = count_classes(cfg)
    saved = _read_checkpoint(cfg.MODEL.WEIGHTS)
    names = saved.get("classes") or []
    of_run = _of_run(Path(cfg.MODEL.WEIGHTS).parent)
    for categories in (_list_of(saved.get("categories")), of_run, _of_datasets(cfg)):
        known = [category["name"] for category in categories]
        if len(known) == number and names in ([], known):
            return categories
    if len(names) != number:
        names = [f"class {i}" for i in range(1, number + 1)]
    return [{"id": i, "name": str(name)} for i, name in enumerate(names, start=1)]


def adopt_num_classes(cfg: CfgNode) -> None:
    """Set the numbers of classes to that of the checkpoint, where it tells them.

    Args:
        cfg: changed in place.
    """
    saved = _read_checkpoint(cfg.MODEL.WEIGHTS).get("classes")
    if saved:
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = len(saved)


def count_classes(cfg: CfgNode) -> int:
    """How many classes the model of a config has."""
    return int(get_head(cfg).NUM_CLASSES)


def get_head(cfg: CfgNode) -> CfgNode:
    """The keys of the part that classifies boxes and suppresses what is found twice."""
    is_retinanet = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    return cfg.MODEL.RETINANET if is_retinanet else cfg.MODEL.ROI_HEADS


def _of_datasets(cfg: CfgNode) -> list[Category]:
    """The categories of the config's data sets; [] where none is at hand."""
    return next(filter(None, map(get_categories, (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN))), [])


def _read_checkpoint(path: str) -> Mapping[str, Any]:
    if not os.path.isfile(path):
        return {}
    try:
        return read_weights(path, mmap=True)
    except CheckpointError:  # who loads the weights says it
        return {}


def _of_run(folder: Path) -> list[Category]:
    try:
        return _list_of(read_starts(folder)[-1]["categories"])
    except (ValueError, LookupError, TypeError):
        return []


def _list_of(saved: Any) -> list[Category]:
    try:
        return [{"id": item["id"], "name": str(item["name"])} for item in saved or []]
    except (LookupError, TypeError):
        return []
