"""The losses of a detector on the pictures of its tests (``TEST.VALIDATION_LOSS``)."""

from __future__ import annotations

import copy
import math
import weakref
from collections import defaultdict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from nasnet_det.detection.datasets import adopt_sets
from nasnet_det.detection.mapper import PictureMapper, ReadableBatches
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.seeds import Purpose, seed_step
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.drop_path import DropPath
from nasnet_det.runs.signals import leave_signals

NAME = "validation"
# What computes otherwise in a training than in a test: running statistics, and nothing at random.
_AS_IN_TESTS = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, DropPath)


class ValidationLoss(hooks.EvalHook):
    """Measure them whenever the detector is evaluated, for ``metrics.json`` and the log.

    Args:
        period: iterations between; 0: at the end only.
        trainer: whose ``evaluated_model`` it is.
    """

    def __init__(self, period: int, trainer: Any) -> None:
        trainer = weakref.proxy(trainer)

        def measure() -> dict[str, Any]:
            finished = trainer.iter >= trainer.max_iter
            iteration = trainer.iter - finished
            return measure_validation_loss(trainer.evaluated_model, trainer.cfg, iteration)

        super().__init__(period, measure)

    def after_train(self) -> None:
        """Measure after the last iteration, unless it failed."""
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()


def measure_validation_loss(model: nn.Module, cfg: CfgNode, iteration: int) -> dict[str, Any]:
    """The mean losses over the pictures of each set of ``DATASETS.TEST``.

    Pictures are resized as in tests and not augmented; normalizations have their running
    statistics. The proposals that are compared with the truth are drawn with the same random
    numbers whenever they are measured.

    Args:
        model: as it is trained; it stays as it is.
        cfg: of the training.
        iteration: that is done, from 0.

    Returns:
        ``{"validation": {"total_loss": ..., <the losses>}}``; with several sets each by its name.
        Pictures that can't be read do not count, NaN where none can; {} but in the main process.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    model = copy.deepcopy(model).train()  # some detectors remember what they have seen
    for module in model.modules():
        if isinstance(module, _AS_IN_TESTS):
            module.eval()
    adopt_sets(cfg)
    names = list(cfg.DATASETS.TEST)
    with (
        torch.no_grad(),
        torch.jit.optimized_execution(False),  # as in a step
        EventStorage(iteration),
        autocast(get_precision(cfg), device_type(cfg)),
    ):
        means = {name: _measure_set(model, cfg, name) for name in names}
    if not comm.is_main_process():
        return {}
    return {NAME: means[names[0]]} if len(names) == 1 else {k: {NAME: v} for k, v in means.items()}


def _measure_set(model: nn.Module, cfg: CfgNode, name: str) -> dict[str, float]:
    loader = build_detection_test_loader(cfg, name, mapper=_Mapper(cfg))
    loader.worker_init_fn = leave_signals
    seed_step(cfg.SEED, Purpose.VALIDATION, 0)
    sums: dict[str, float] = defaultdict(float)
    number = 0
    for batch in ReadableBatches(loader):
        number += len(batch)
        for key, loss in model(batch).items():
            sums[key] += float(loss) * len(batch)
    found = comm.all_gather((number, dict(sums)))
    total = sum(n for n, _ in found)
    keys = dict.fromkeys(key for _, part in found for key in part)
    means = {key: sum(part.get(key, 0.0) for _, part in found) / total for key in keys}
    return {"total_loss": sum(means.values()) if total else math.nan, **means}


class _Mapper:
    """Pictures with their objects, resized as in tests; one that can't be read is a record without
    ``image``."""

    def __init__(self, cfg: CfgNode) -> None:
        plain = {"mixing": None, "pipeline": None, "cuts": False, "recompute_boxes": False}
        resize = [build_test_resize(cfg)]
        self._map = PictureMapper(cfg, is_train=True, augmentations=resize, **plain)

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        return self._map(record) or {}
