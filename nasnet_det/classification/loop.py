"""The training loop of classifiers.

A step depends on its number, on the state that a checkpoint holds, and on nothing else: learning
rate and drop path are functions of the number, the images are too (``data.py``), and the random
numbers of dropout are saved. So a training that was killed and resumed gives, on one kind of CPU
and with as many threads, the weights of one that was not, bit for bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

import nasnet_det
from nasnet_det.classification.checkpoint import (
    BEST,
    FINAL,
    LAST,
    CheckpointError,
    find_non_finite,
    load_checkpoint,
    save_checkpoint,
)
from nasnet_det.classification.config import build_model
from nasnet_det.classification.data import (
    Batch,
    ClassificationData,
    build_test_loader,
    build_train_loader,
)
from nasnet_det.classification.evaluation import Evaluation, evaluate
from nasnet_det.classification.optimizers import build_ema, build_optimizer, get_lr
from nasnet_det.classification.run import Metrics, check_same_run, get_identity
from nasnet_det.config import ConfigError
from nasnet_det.image_files import DataError
from nasnet_det.network import NASNetOutput

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMED_BROKEN = 20  # of the broken images, so many stand in the log by name

logger = logging.getLogger(__name__)


class NonFiniteLossError(ArithmeticError):
    """The training has diverged; the message says where, and from what it can go on."""


class Predictor:
    """Runs a model on images of bytes.

    Args:
        cfg: with the whitening, the precision and the order in memory.
        device: of the model.
    """

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        self.device = device
        self.dtype = DTYPES[cfg.SOLVER.PRECISION]
        if self.dtype == torch.float16 and device.type == "cpu":
            raise ConfigError("SOLVER.PRECISION: float16 needs a GPU; a CPU can take bfloat16")
        self.memory_format = (
            torch.channels_last if cfg.MODEL.NASNET.CHANNELS_LAST else torch.contiguous_format
        )
        mean, std = cfg.DATA.PIXEL_MEAN, cfg.DATA.PIXEL_STD
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for values in (mean, std)
        )

    def place(self, model: nn.Module) -> Any:
        """Move a model to the device, in its order in memory."""
        return model.to(self.device).to(memory_format=self.memory_format)

    def __call__(self, model: nn.Module, images: torch.Tensor) -> Any:
        """(B, 3, H, W) bytes -> the model's output, whose logits are float32."""
        images = images.to(self.device, non_blocking=True)
        images = ((images.float() - self.mean) / self.std).contiguous(
            memory_format=self.memory_format
        )
        with torch.autocast(
            self.device.type,
            dtype=self.dtype if self.dtype != torch.float32 else torch.bfloat16,
            enabled=self.dtype != torch.float32,
        ):
            output = model(images)
        if isinstance(output, NASNetOutput):
            return NASNetOutput(*(logits.float() for logits in output))
        return output.float()


class BrokenImages:
    """Counts images that can't be read, and names the first in the log."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add(self, text: str) -> None:
        """One more; an image counts once."""
        if text not in self.names:
            self.names.add(text)
            if len(self.names) <= _NAMED_BROKEN:
                logger.warning("image %s can't be read and is skipped", text)
            elif len(self.names) == _NAMED_BROKEN + 1:
                logger.warning("more images can't be read; their names are left out from here on")


class Trainer:
    """One training, from its first step or from a checkpoint.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        data: see :func:`~nasnet_det.classification.data.load_data`.
        device: where it is computed.
        on_step: is called after each step.

    Attributes:
        iteration: steps that are done.
        best, score: accuracy and iteration of the best and of the last evaluation, or {}.

    Raises:
        ConfigError: there is no such network.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data: ClassificationData,
        *,
        device: torch.device,
        on_step: Callable[[Trainer], None] | None = None,
    ) -> None:
        torch.manual_seed(cfg.SEED)
        self.cfg, self.data, self.on_step = cfg, data, on_step
        self.folder = Path(cfg.OUTPUT_DIR)
        self.predictor = Predictor(cfg, device)
        self.model = self.predictor.place(build_model(cfg, len(data.classes)))
        self.optimizer = build_optimizer(cfg, self.model)
        self.ema = build_ema(self.model, cfg.EMA.DECAY) if cfg.EMA.DECAY else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=cfg.SOLVER.PRECISION == "float16")
        num_images = cfg.DATA.NUM_TRAIN or len(data.train.labels)
        self.steps_per_epoch = num_images // cfg.SOLVER.BATCH_SIZE
        self.num_steps = self.steps_per_epoch * cfg.SOLVER.EPOCHS
        self.iteration = 0
        self.best: dict[str, float] = {}
        self.score: dict[str, float] = {}
        self.broken = BrokenImages()
        # The first step whose loss was not finite, or -1: on the device, as looking waits for it.
        self._bad_step = torch.full((), -1, device=device)
        self._loss = torch.zeros((), device=device)

    def resume(self) -> bool:
        """Go on from the folder's last checkpoint; False if there is none.

        Raises:
            CheckpointError: it is damaged or of another training.
        """
        path = self.folder / LAST
        if not path.is_file():
            return False
        state = load_checkpoint(path)
        check_same_run(state, self.cfg, self.data.classes, len(self.data.train.labels), path)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            torch.set_rng_state(state["random"]["cpu"])
            if self.predictor.device.type == "cuda" and state["random"]["cuda"] is not None:
                torch.cuda.set_rng_state(state["random"]["cuda"], self.predictor.device)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} does not fit this training: {reason:.300}") from None
        self.iteration, self.best = state["iteration"], state["best"]
        self.score = state["score"]
        logger.info("Going on from iteration %d of %d", self.iteration, self.num_steps)
        return True

    def train(self) -> Evaluation:
        """Train to the end.

        Returns:
            the last evaluation.

        Raises:
            NonFiniteLossError: the training has diverged.
            DataError: images can't be read, one after another.
            FileError: the disk is full.
        """
        logger.info(
            "Training %s parameters on %d images for %d epochs of %d iterations, on %s",
            f"{sum(p.numel() for p in self.model.parameters()):,}",
            self.cfg.DATA.NUM_TRAIN or len(self.data.train.labels),
            self.cfg.SOLVER.EPOCHS,
            self.steps_per_epoch,
            self.predictor.device,
        )
        loader = build_train_loader(self.cfg, self.data, start=self.iteration, stop=self.num_steps)
        test_loader = build_test_loader(self.cfg, self.data.test)
        metrics = Metrics(self.folder, self.iteration)
        result: Evaluation | None = None
        try:
            clock = _Clock(self.iteration)
            for batch in _read(loader):
                lr = self._step(batch)
                if self._is_due(self.cfg.SOLVER.LOG_PERIOD):
                    self._log(metrics, lr, clock)
                if self.iteration % self.steps_per_epoch == 0:
                    self._check_finite()
                    epoch = self.iteration // self.steps_per_epoch
                    period = self.cfg.TEST.EVAL_PERIOD
                    if self.iteration == self.num_steps or (period and epoch % period == 0):
                        result = self.evaluate(test_loader)
                        self._record(result, metrics)
                        clock.restart(self.iteration)
                    self.save()
                elif self._is_due(self.cfg.SOLVER.CHECKPOINT_PERIOD):
                    self.save()
                if self.on_step is not None:
                    self.on_step(self)
        finally:
            metrics.close()
        self._save_model(FINAL)
        if self.broken.names:
            logger.warning("%d images can't be read", len(self.broken.names))
        return result or self.evaluate(test_loader)  # it was killed after the last checkpoint

    def _is_due(self, period: int) -> bool:
        return period > 0 and self.iteration % period == 0

    def _step(self, batch: Batch) -> float:
        """One step of the optimizer; returns its learning rate."""
        cfg = self.cfg.SOLVER
        for text in batch.broken:
            self.broken.add(text)
        lr = get_lr(cfg, self.iteration, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        self.model.trunk.drop_path_progress.value = self.iteration / self.num_steps
        self.optimizer.zero_grad()
        self._loss = torch.zeros_like(self._loss)
        for images, labels in zip(
            batch.images.chunk(cfg.NUM_PARTS), batch.labels.chunk(cfg.NUM_PARTS), strict=True
        ):
            loss = self._compute_loss(images, labels) * (len(labels) / len(batch.labels))
            self.scaler.scale(loss).backward()
            self._loss += loss.detach()
        is_first = (self._bad_step < 0) & ~torch.isfinite(self._loss)
        self._bad_step = torch.where(is_first, self.iteration, self._bad_step)
        if self.predictor.device.type == "cpu":
            self._check_finite()
        if cfg.CLIP_NORM:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), cfg.CLIP_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.iteration += 1
        return lr

    def _compute_loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        labels = labels.to(self.predictor.device, non_blocking=True)
        output = self.predictor(self.model, images)
        smoothing = self.cfg.SOLVER.LABEL_SMOOTHING
        if not isinstance(output, NASNetOutput):
            return F.cross_entropy(output, labels, label_smoothing=smoothing)
        main, auxiliary = (
            F.cross_entropy(logits, labels, label_smoothing=smoothing) for logits in output
        )
        return main + self.cfg.AUX.WEIGHT * auxiliary

    def _check_finite(self) -> None:
        step = int(self._bad_step)
        if step >= 0:
            self._fail(f"the loss is not a finite number in iteration {step}", step)

    def _fail(self, what: str, step: int) -> None:
        path = self.folder / LAST
        if path.is_file():
            number = load_checkpoint(path)["iteration"]
            saved = f"the last good checkpoint is {path} (iteration {number})"
        else:
            saved = "there is no checkpoint yet"
        lr = get_lr(self.cfg.SOLVER, step, self.steps_per_epoch)
        raise NonFiniteLossError(
            f"{what}, with learning rate {lr:g}; {saved}; try a lower SOLVER.LR, "
            "SOLVER.CLIP_NORM or SOLVER.WARMUP_EPOCHS"
        )

    def _log(self, metrics: Metrics, lr: float, clock: _Clock) -> None:
        self._check_finite()
        loss = float(self._loss)
        steps_per_s = clock.rate(self.iteration)
        images_per_s = steps_per_s * self.cfg.SOLVER.BATCH_SIZE
        eta = timedelta(seconds=round((self.num_steps - self.iteration) / steps_per_s))
        epoch = self.iteration / self.steps_per_epoch
        logger.info(
            "epoch %.2f of %d, iteration %d of %d: loss %.4f, lr %.3g, %.1f images/s, %s left",
            *(epoch, self.cfg.SOLVER.EPOCHS, self.iteration, self.num_steps),
            *(loss, lr, images_per_s, eta),
        )
        values = {"epoch": epoch, "loss": loss, "lr": lr, "images_per_s": images_per_s}
        metrics.write(self.iteration, values)

    def evaluate(self, loader: DataLoader) -> Evaluation:
        """Evaluate the moving average, or the model itself where there is none."""
        return evaluate(
            self.evaluated_model,
            loader,
            classes=self.data.classes,
            predict=self.predictor,
            on_broken=self.broken.add,
        )

    def _record(self, result: Evaluation, metrics: Metrics) -> None:
        """Log an evaluation, and save the model if it is the best."""
        epoch = self.iteration / self.steps_per_epoch
        logger.info(
            "epoch %g: top-1 %.4f, top-5 %.4f, loss %.4f on %d test images",
            *(epoch, result.top1, result.top5, result.loss, result.num_images),
        )
        values = {"top1": result.top1, "top5": result.top5, "loss": result.loss}
        metrics.write(
            self.iteration, {"epoch": epoch, **{f"test/{k}": v for k, v in values.items()}}
        )
        self.score = {"top1": result.top1, "top5": result.top5, "iteration": self.iteration}
        if not self.best or result.top1 > self.best["top1"]:
            self.best = self.score
            self._save_model(BEST)

    @property
    def evaluated_model(self) -> nn.Module:
        """The moving average, or the model itself where there is none."""
        return self.model if self.ema is None else self.ema.module

    def save(self) -> None:
        """Make the present state the last checkpoint.

        Raises:
            NonFiniteLossError: it holds what is not a finite number; the checkpoint is as it was.
            FileError: the disk is full; likewise.
        """
        self._check_finite()
        if name := find_non_finite(self.model.state_dict()):
            step = self.iteration - 1
            self._fail(f"{name} is not a finite number after iteration {step}", step)
        device = self.predictor.device
        state = {
            **self._describe(),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            },
            "best": self.best,
            "num_images": len(self.data.train.labels),
        }
        save_checkpoint(self.folder / LAST, state)

    def _save_model(self, name: str) -> None:
        model = self.evaluated_model.state_dict()
        save_checkpoint(self.folder / name, {**self._describe(), "model": model})

    def _describe(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "config": get_identity(self.cfg),
            "classes": list(self.data.classes),
            "genotype": self.model.trunk.genotype.to_dict(),
            "spec": asdict(self.model.trunk.spec),
            "score": self.score,
            "version": nasnet_det.__version__,
        }


class _Clock:
    """Steps a second since the last look."""

    def __init__(self, iteration: int) -> None:
        self.restart(iteration)

    def restart(self, iteration: int) -> None:
        self._start, self._iteration = time.monotonic(), iteration

    def rate(self, iteration: int) -> float:
        seconds = max(1e-9, time.monotonic() - self._start)
        rate = max(1, iteration - self._iteration) / seconds
        self.restart(iteration)
        return rate


def _read(loader: DataLoader) -> Any:
    """The batches of a loader; an error of a worker as the sentence that it was there."""
    try:
        yield from loader
    except DataError as error:
        raise DataError(str(error).strip().splitlines()[-1].split("DataError: ")[-1]) from None
