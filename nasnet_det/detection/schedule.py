"""How long a training is, and in how many parts it computes a batch."""

from __future__ import annotations

import logging
import math
from typing import Any

from detectron2.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.detection.datasets import find_coco

logger = logging.getLogger(__name__)


def check_batch(cfg: CfgNode, num_processes: int) -> None:
    """See that the processes and their parts can share ``SOLVER.IMS_PER_BATCH``.

    Raises:
        ConfigError: they can't.
    """
    batch, num_parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.NUM_PARTS
    if batch % num_processes or batch < 1:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH: wanted a multiple of the number of processes, {num_processes}, "
            f"got {batch}"
        )
    if num_parts > batch // num_processes:
        raise ConfigError(
            f"SOLVER.NUM_PARTS: wanted at most {batch // num_processes}, the pictures of "
            f"SOLVER.IMS_PER_BATCH in each process, got {num_parts}"
        )


def count_iterations(cfg: CfgNode, loader: Any) -> CfgNode:
    """With ``SOLVER.MAX_EPOCHS``, a config whose ``MAX_ITER`` is as long, and whose ``STEPS``
    follow in proportion; else the config itself.

    Args:
        cfg: of the training, scaled to its processes.
        loader: of its pictures; an epoch is as many pictures as its data set has.

    Raises:
        ConfigError: the data set has no length.
    """
    num_epochs = cfg.SOLVER.MAX_EPOCHS
    if not num_epochs:
        return cfg
    try:
        num_pictures = len(loader.dataset.records)
    except (AttributeError, TypeError):
        raise ConfigError(
            "SOLVER.MAX_EPOCHS: wanted 0, since the loader of the training's pictures does not "
            f"tell how many there are, got {num_epochs}"
        ) from None
    max_iter = math.ceil(num_epochs * num_pictures / cfg.SOLVER.IMS_PER_BATCH)
    steps = tuple(round(step * max_iter / cfg.SOLVER.MAX_ITER) for step in cfg.SOLVER.STEPS)
    logger.info(
        "%d epochs of %d pictures are %d iterations; SOLVER.STEPS %s",
        *(num_epochs, num_pictures, max_iter, steps),
    )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = max_iter, steps
    cfg.freeze()
    return cfg


def estimate_iterations(cfg: CfgNode) -> int:
    """``SOLVER.MAX_ITER``, or as many as ``SOLVER.MAX_EPOCHS`` are where the pictures are known."""
    sets = [find_coco(name) for name in cfg.DATASETS.TRAIN] if cfg.SOLVER.MAX_EPOCHS else []
    number = sum(len(coco.image_ids) for coco in sets if coco is not None)
    if not number:
        return int(cfg.SOLVER.MAX_ITER)
    return math.ceil(cfg.SOLVER.MAX_EPOCHS * number / cfg.SOLVER.IMS_PER_BATCH)
