"""Detectron2's trainer with the holes closed that a long training falls into.

The parts: ``step.py`` for one iteration, ``hooks.py`` for what happens around it, ``loader.py`` for
its pictures, ``checkpoint.py`` for the files from which a run goes on, and ``stopping.py`` for
signals.

An iteration depends on the weights, on ``SEED``, on the process and on its own number, and on
nothing else. So a training that was killed and resumed gives, on one kind of CPU and with as many
threads and processes, the weights of one that was not, bit for bit. The number of data workers does
not matter.
"""

from __future__ import annotations

import logging
import os
import weakref
from importlib.util import find_spec
from inspect import getattr_static
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

import nasnet_det
from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone_card import CHECKPOINT_KEY, describe_backbone
from nasnet_det.detection.batch_statistics import PreciseStatistics, StatisticsAverage
from nasnet_det.detection.build_errors import explain_build_errors
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.config_relations import check_proposals
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import adopt_sets, list_categories, list_classes
from nasnet_det.detection.evaluation import (
    AUGMENTED,
    add_augmented,
    build_evaluator,
    check_evaluators,
    find_best_metric,
    record_results,
)
from nasnet_det.detection.failed_batch import keep_failed_batch
from nasnet_det.detection.hooks import BestCheckpoint, MetricsWriter
from nasnet_det.detection.inference import prepare_inference
from nasnet_det.detection.loader import build_train_loader, start_from
from nasnet_det.detection.mapper import PictureMapper, ReadableBatches
from nasnet_det.detection.optimizer import build_optimizer
from nasnet_det.detection.processes import LostProcessError, is_lost_connection
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.resume import obey_config
from nasnet_det.detection.run import agree_on_seed
from nasnet_det.detection.seeds import Purpose, seed_step
from nasnet_det.detection.step import (
    CheckedStep,
    NonFiniteLossError,
    autocast,
    device_type,
    get_precision,
)
from nasnet_det.detection.stopping import StopOnSignal
from nasnet_det.detection.tiles import TiledDetector
from nasnet_det.errors import InputError, MissingPackageError
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.runs.signals import leave_signals

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """A training or an evaluation of a config; see the module.

    Args:
        cfg: with the keys of ``add_nasnet_config``; its data sets are registered. A ``SEED`` of -1
            is that of the run in ``OUTPUT_DIR``, where there is one, else a new one.

    Raises:
        ConfigError: the model can't be built like this.
        MissingPackageError: an evaluator, or ``VIS_PERIOD``, wants one that is not there.
        DataError: a set of ``DATASETS.TEST`` can't be evaluated, or sets have different classes.
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's would build its own step and checkpointer
        check_values(cfg)
        if cfg.VIS_PERIOD > 0 and find_spec("cv2") is None:  # Detectron2 draws with it
            raise MissingPackageError("cv2", "pip install opencv-python-headless")
        # Of a subclass's own evaluators nothing is known.
        if getattr_static(type(self), "build_evaluator") is vars(Trainer)["build_evaluator"]:
            check_evaluators(cfg)
        cfg = agree_on_seed(self.auto_scale_workers(cfg, comm.get_world_size()))
        seed_step(cfg.SEED, Purpose.WEIGHTS, 0)
        precision = get_precision(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        device = {"device_ids": None} if device_type(cfg) == "cpu" else {}
        # A feature that no head uses has parameters without a gradient, on which DDP would fail.
        # Looking for them also keeps its buckets, so a resumed run adds in the same order.
        model = create_ddp_model(
            model, broadcast_buffers=False, find_unused_parameters=True, **device
        )
        self._trainer = CheckedStep(
            model, data_loader, optimizer, precision=precision, device_type=device_type(cfg)
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            extra={
                "config": cfg.dump(),
                "version": nasnet_det.__version__,
                CHECKPOINT_KEY: describe_backbone(cfg),
                "classes": list_classes((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)),
                "categories": list_categories(cfg.DATASETS.TRAIN),
            },
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """As Detectron2's; what can't be built is the config's fault."""
        check_values(cfg)
        check_proposals(cfg)
        with explain_build_errors(cfg):
            return super().build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`nasnet_det.detection.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Hooks in the order that ``hooks.py`` explains; the checkpoint is last."""
        cfg = self.cfg
        period = cfg.SOLVER.CHECKPOINT_PERIOD
        stop = StopOnSignal(self.checkpointer, period)
        every_process = [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            self._build_precise_bn(),
            StatisticsAverage(),
            BestCheckpoint(
                cfg.TEST.EVAL_PERIOD,
                self._evaluate,
                checkpointer=self.checkpointer,
                metric=find_best_metric(cfg),
            ),
        ]
        if not comm.is_main_process():
            return [*every_process, stop]
        return [
            *every_process,
            MetricsWriter(Path(cfg.OUTPUT_DIR, "metrics.json"), period, cfg.TEST.EVAL_PERIOD),
            hooks.PeriodicCheckpointer(self.checkpointer, period),
            stop,
        ]

    def _build_precise_bn(self) -> hooks.HookBase | None:
        cfg = self.cfg.clone()
        if not cfg.TEST.PRECISE_BN.ENABLED or not get_bn_modules(self.model):
            return None
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # as in Detectron2, to save memory
        cfg.SEED = derive_seed(cfg.SEED, Purpose.STATISTICS)
        return PreciseStatistics(
            cfg.TEST.EVAL_PERIOD,
            self.model,
            self.build_train_loader(cfg),
            cfg.TEST.PRECISE_BN.NUM_ITER,
            seed=cfg.SEED,
        )

    def build_writers(self) -> list[EventWriter]:
        """The log with the time that is left, ``metrics.json`` and TensorBoard's events."""
        output = self.cfg.OUTPUT_DIR
        os.makedirs(output, exist_ok=True)
        # Events of iterations that are done again disappear.
        purge = {"purge_step": self.start_iter} if self.start_iter else {}
        return [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(os.path.join(output, "metrics.json")),
            TensorboardXWriter(output, **purge),
        ]

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest whole checkpoint, or load ``MODEL.WEIGHTS``.

        Raises:
            CheckpointError: none is whole, or the weights can't be loaded or don't fit.
        """
        with obey_config(self._trainer.optimizer, self.scheduler):
            self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if not self.checkpointer.resumed_from:
            return
        self.start_iter = self.iter + 1  # a checkpoint has the last iteration that is done
        if not start_from(self.data_loader, self.start_iter):
            logger.warning(
                "The training's pictures start from the beginning again: its loader is not one of "
                "nasnet_det.detection.loader.build_train_loader"
            )

    def train(self) -> dict[str, Any] | None:
        """Train to ``SOLVER.MAX_ITER``.

        Returns:
            the results of the last evaluation, on the first process; None without any.

        Raises:
            NonFiniteLossError: a loss became infinite or NaN.
            FileError: a checkpoint can't be written.
            LostProcessError: another process has ended.
            StoppedBySignal: a signal came, and the last iteration is saved.
        """
        loop_logger = logging.getLogger("detectron2.engine.train_loop")
        loop_logger.addFilter(_shorten_traceback)
        try:
            TrainerBase.train(self, self.start_iter, self.max_iter)
        except RuntimeError as error:
            if is_lost_connection(error):
                raise LostProcessError from error
            raise
        finally:
            loop_logger.removeFilter(_shorten_traceback)
            self._trainer._data_loader_iter_obj = None  # its workers end
        return getattr(self, "_last_eval_results", None)

    def run_step(self) -> None:
        """One iteration; see :class:`CheckedStep`."""
        seed_step(self.cfg.SEED, Purpose.STEP, self.iter)
        try:
            super().run_step()
        except NonFiniteLossError as error:
            kept = keep_failed_batch(
                self.cfg.OUTPUT_DIR,
                error.batch if comm.get_rank() in error.ranks else None,
                first_rank=min(error.ranks, default=0),
                model=self.checkpointer.model,
                precision=self._trainer.precision,
                seed=self.cfg.SEED,
                iteration=self.iter,
            )
            good = self.checkpointer.last_finite_checkpoint() or "none"
            raise NonFiniteLossError(
                f"{error}; last checkpoint with finite weights: {good}; {kept}lower "
                "SOLVER.BASE_LR, raise SOLVER.WARMUP_ITERS or enable SOLVER.CLIP_GRADIENTS"
            ) from None
        except ValueError as error:  # torch's batch normalization
            if not str(error).startswith("Expected more than 1 value per channel"):
                raise
            raise ConfigError(
                "SOLVER.IMS_PER_BATCH: wanted more pictures for each process, larger ones "
                "(INPUT.MIN_SIZE_TRAIN), or MODEL.NASNET.NORM GN or FrozenBN, since the one value "
                f"of a channel has no variance, got {self.cfg.SOLVER.IMS_PER_BATCH}"
            ) from error

    def after_train(self) -> None:
        """Evaluate and close the files."""
        if self.start_iter >= self.max_iter:  # nothing was left to do, and the base counted one
            self.iter = self.start_iter
        super().after_train()

    def _evaluate(self) -> dict[str, Any]:
        finished = self.iter >= self.max_iter
        self._last_eval_results = self.test(
            self.cfg,
            self.model,
            iteration=self.iter - finished,
            weights=os.path.join(self.cfg.OUTPUT_DIR, "model_final.pth") if finished else "",
            augment=finished,  # it takes many times as long
        )
        return self._last_eval_results

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """See :func:`nasnet_det.detection.loader.build_train_loader`, which takes a mapper too."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> ReadableBatches:
        """As Detectron2's, with ``INPUT.SQUARE_TEST`` and without images that can't be read."""
        resize = [] if cfg.TEST.TILES.SIZE else [build_test_resize(cfg)]  # of tiles: in the model
        adopt_sets(cfg)
        mapper = PictureMapper(cfg, is_train=False, augmentations=resize)
        loader = build_detection_test_loader(cfg, dataset_name, mapper=mapper)
        loader.worker_init_fn = leave_signals
        return ReadableBatches(loader)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """See :func:`nasnet_det.detection.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name, output_folder or "")

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Any = None,
        *,
        iteration: int | None = None,
        weights: str = "",
        augment: bool = True,
    ) -> dict[str, Any]:
        """Evaluate on every set of ``DATASETS.TEST`` and write ``OUTPUT_DIR/results.json``.

        Args:
            cfg, evaluators: as in Detectron2.
            model: a copy is evaluated, see :mod:`nasnet_det.detection.inference`.
            iteration: the last iteration that the model was trained for, where known.
            weights: the file that the model came from, where it came from one.
            augment: whether ``TEST.AUG`` counts: once more with test-time augmentation, as tasks
                such as ``bbox_TTA``.

        Returns:
            task -> metric -> value; with several sets, set -> task -> metric -> value.
        """
        check_values(cfg)
        model = prepare_inference(model, cfg)
        seen = TiledDetector.from_config(cfg, model) if cfg.TEST.TILES.SIZE else model
        with autocast(get_precision(cfg), device_type(cfg)):
            results = super().test(cfg, seen, evaluators)
            if augment and cfg.TEST.AUG.ENABLED:
                folder = os.path.join(cfg.OUTPUT_DIR, f"inference{AUGMENTED}")
                augmented = super().test(
                    cfg,
                    GeneralizedRCNNWithTTA(cfg, model).train(model.training),
                    evaluators
                    or [cls.build_evaluator(cfg, name, folder) for name in cfg.DATASETS.TEST],
                )
                add_augmented(cfg, results, augmented)
        if comm.is_main_process():
            record_results(cfg, results, iteration=iteration, weights=weights)
        return results


def _shorten_traceback(record: logging.LogRecord) -> bool:
    """Log what is the user's to solve in one line instead of Detectron2's traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and is_lost_connection(error):
        error = LostProcessError()
    if isinstance(error, InputError | LostProcessError):
        record.msg, record.args = "Training stopped: %s", (str(error),)
        record.exc_info = record.exc_text = None
    return True
