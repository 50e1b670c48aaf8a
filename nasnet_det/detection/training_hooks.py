"""Which hooks a training has, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules

from nasnet_det.detection.batch_statistics import (
    LossNormalizer,
    PreciseStatistics,
    StatisticsAverage,
)
from nasnet_det.detection.early_stopping import EarlyStopping
from nasnet_det.detection.evaluation import find_best_metric
from nasnet_det.detection.hooks import BestCheckpoint, MetricsWriter
from nasnet_det.detection.periodic_checkpoint import PeriodicCheckpoint
from nasnet_det.detection.progress import ProgressBar
from nasnet_det.detection.seeds import Purpose
from nasnet_det.detection.stopping import StopOnSignal
from nasnet_det.detection.validation_loss import ValidationLoss
from nasnet_det.runs.seeds import derive_seed


def build_hooks(trainer: Any) -> list[hooks.HookBase | None]:
    """Hooks in the order that ``hooks.py`` explains; the checkpoint is last.

    Args:
        trainer: a :class:`~nasnet_det.detection.trainer.Trainer` with everything but hooks.
    """
    cfg, checkpointer = trainer.cfg, trainer.checkpointer
    period, eval_period = cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD
    metric, stopping = find_best_metric(cfg), cfg.SOLVER.EARLY_STOPPING
    is_main = comm.is_main_process()
    found = [
        ProgressBar() if is_main else None,
        hooks.IterationTimer(),
        hooks.LRScheduler(),
        StatisticsAverage(),  # before the moving average, which is the same in all processes
        trainer.average,
        _build_precise_bn(trainer),  # of the average, where there is one
        LossNormalizer(checkpointer.model),
        ValidationLoss(eval_period, trainer) if cfg.TEST.VALIDATION_LOSS else None,
        BestCheckpoint(eval_period, trainer.evaluate, checkpointer=checkpointer, metric=metric),
    ]
    if stopping.PATIENCE:
        patience, delta = stopping.PATIENCE, stopping.MIN_DELTA
        found.append(EarlyStopping(metric, eval_period, patience=patience, min_delta=delta))
    if is_main:
        max_to_keep = cfg.SOLVER.CHECKPOINT_MAX_TO_KEEP
        found += [
            MetricsWriter(Path(cfg.OUTPUT_DIR, "metrics.json"), period, eval_period),
            PeriodicCheckpoint(checkpointer, period, max_to_keep=max_to_keep),
        ]
    return [*found, StopOnSignal(checkpointer, period)]


def _build_precise_bn(trainer: Any) -> hooks.HookBase | None:
    """Statistics for the model that is evaluated."""
    cfg = trainer.cfg.clone()
    if not cfg.TEST.PRECISE_BN.ENABLED or not get_bn_modules(trainer.evaluated_model):
        return None
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # as in Detectron2, to save memory
    cfg.SEED = derive_seed(cfg.SEED, Purpose.STATISTICS)
    return PreciseStatistics(
        cfg.TEST.EVAL_PERIOD,
        trainer.evaluated_model,
        trainer.build_train_loader(cfg),
        cfg.TEST.PRECISE_BN.NUM_ITER,
        seed=cfg.SEED,
    )
