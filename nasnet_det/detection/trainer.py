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
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase, create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    JSONWriter,
)
from torch import nn

from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone_card import CHECKPOINT_KEY, describe_backbone, find_library
from nasnet_det.detection.base_trainer import BaseTrainer
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.config_relations import check_proposals
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import list_categories, list_classes
from nasnet_det.detection.evaluation import check_evaluators
from nasnet_det.detection.failed_batch import explain_failure
from nasnet_det.detection.loader import build_train_loader, start_from
from nasnet_det.detection.moving_average import MovingAverage
from nasnet_det.detection.optimizer import build_optimizer
from nasnet_det.detection.processes import LostProcessError, is_lost_connection, log_failure
from nasnet_det.detection.resume import obey_config
from nasnet_det.detection.run import agree_on_seed
from nasnet_det.detection.schedule import check_batch, count_iterations
from nasnet_det.detection.seeds import Purpose, seed_step
from nasnet_det.detection.step import CheckedStep, NonFiniteLossError, device_type, get_precision
from nasnet_det.detection.trackers import build_trackers
from nasnet_det.detection.training_hooks import build_hooks
from nasnet_det.errors import MissingPackageError
from nasnet_det.version import __version__

logger = logging.getLogger(__name__)


class Trainer(BaseTrainer):
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
        check_proposals(cfg)
        if cfg.VIS_PERIOD > 0 and find_spec("cv2") is None:  # Detectron2 draws with it
            raise MissingPackageError("cv2", "pip install opencv-python-headless")
        # Of a subclass's own evaluators nothing is known.
        if getattr_static(type(self), "build_evaluator") is vars(BaseTrainer)["build_evaluator"]:
            check_evaluators(cfg)
        num_processes = comm.get_world_size()
        cfg = agree_on_seed(self.auto_scale_workers(cfg, num_processes))
        check_batch(cfg, num_processes)
        data_loader = self.build_train_loader(cfg)
        cfg = count_iterations(cfg, data_loader)
        seed_step(cfg.SEED, Purpose.WEIGHTS, 0)
        precision = get_precision(cfg)
        detector = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, detector)
        device = {"device_ids": None} if device_type(cfg) == "cpu" else {}
        # A feature that no head uses has parameters without a gradient, on which DDP would fail.
        # Looking for them also keeps its buckets, so a resumed run adds in the same order.
        model = create_ddp_model(
            detector, broadcast_buffers=False, find_unused_parameters=True, **device
        )
        self._trainer = CheckedStep(
            model,
            data_loader,
            optimizer,
            precision=precision,
            device_type=device_type(cfg),
            num_parts=cfg.SOLVER.NUM_PARTS,
            seed_part=lambda iteration, part: seed_step(
                cfg.SEED, Purpose.STEP, iteration, part=part
            ),
        )
        ema = cfg.SOLVER.EMA
        self.average = (
            MovingAverage(detector, decay=ema.DECAY, warmup=ema.WARMUP) if ema.DECAY else None
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            average=self.average and self.average.model,
            extra={
                "config": cfg.dump(),
                "version": __version__,
                CHECKPOINT_KEY: describe_backbone(cfg),
                "classes": list_classes((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)),
                "categories": list_categories(cfg.DATASETS.TRAIN),
            },
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.why_ended = "all iterations are done"
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`nasnet_det.detection.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @property
    def evaluated_model(self) -> nn.Module:
        """The moving average of the weights, or the model itself where there is none."""
        return self.model if self.average is None else self.average.model

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """See :func:`nasnet_det.detection.training_hooks.build_hooks`."""
        return build_hooks(self)

    def build_writers(self) -> list[EventWriter]:
        """The log with the time that is left, ``metrics.json``, and those of ``TRACKERS``."""
        output = self.cfg.OUTPUT_DIR
        os.makedirs(output, exist_ok=True)
        return [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(os.path.join(output, "metrics.json")),
            *build_trackers(self.cfg, start_iter=self.start_iter),
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
        try:
            self._run_iterations()
        except RuntimeError as error:
            if is_lost_connection(error):
                raise LostProcessError from error
            raise
        finally:
            self._trainer._data_loader_iter_obj = None  # its workers end
        return getattr(self, "_last_eval_results", None)

    def _run_iterations(self) -> None:
        """As Detectron2's loop, but that a hook may bring ``max_iter`` forward."""
        logger.info("Starting training from iteration %d", self.start_iter)
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1  # after the last one it is max_iter
            except Exception as error:
                log_failure(error)
                raise
            finally:
                self.after_train()

    def run_step(self) -> None:
        """One iteration; see :class:`CheckedStep`."""
        try:
            super().run_step()
        except NonFiniteLossError as error:
            raise explain_failure(
                error,
                self.checkpointer,
                self.cfg.OUTPUT_DIR,
                precision=self._trainer.precision,
                seed=self.cfg.SEED,
                iteration=self.iter,
            ) from None
        except ValueError as error:  # torch's batch normalization
            if not str(error).startswith("Expected more than 1 value per channel"):
                raise
            place = "part" if self.cfg.SOLVER.NUM_PARTS > 1 else "process"
            library = find_library(self.cfg).upper()
            norm = f"{library}.NORM FrozenBN" if library else "NASNET.NORM GN or FrozenBN"
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH: wanted more pictures for each {place}, larger ones "
                f"(INPUT.MIN_SIZE_TRAIN), or MODEL.{norm}, since the one value of a channel has no "
                f"variance, got {self.cfg.SOLVER.IMS_PER_BATCH}"
            ) from error

    def evaluate(self) -> dict[str, Any]:
        """Evaluate what is trained so far; see :meth:`test`."""
        finished = self.iter >= self.max_iter
        self._last_eval_results = self.test(
            self.cfg,
            self.evaluated_model,
            iteration=self.iter - finished,
            weights=os.path.join(self.cfg.OUTPUT_DIR, "model_final.pth") if finished else "",
            augment=finished,  # it takes many times as long
        )
        return self._last_eval_results

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """See :func:`nasnet_det.detection.loader.build_train_loader`, which takes a mapper too."""
        return build_train_loader(cfg)
