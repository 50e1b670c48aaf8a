"""The training loop of classifiers.

A step depends on its number, on the state that a checkpoint holds, and on nothing else: learning
rate and drop path are functions of the number, the images are too (``loader.py``), and the random
numbers of dropout are saved. So a training that was killed and resumed gives, on one kind of CPU
and with as many threads, the weights of one that was not, bit for bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from yacs.config import CfgNode

import nasnet_det
from nasnet_det.classification.checkpoint import (
    BEST,
    FINAL,
    LAST,
    find_non_finite,
    load_checkpoint,
    save_checkpoint,
)
from nasnet_det.classification.data import ClassificationData
from nasnet_det.classification.distributed import (
    add_up,
    find_largest,
    gather,
    get_world_size,
    is_main_process,
    wait_for_all,
)
from nasnet_det.classification.learner import Learner
from nasnet_det.classification.loader import (
    Batch,
    build_test_loader,
    build_train_loader,
    choose_train_images,
)
from nasnet_det.classification.run import (
    Metrics,
    check_same_network,
    check_same_run,
    describe_network,
    get_identity,
)
from nasnet_det.classification.shards import Shards
from nasnet_det.classification.teacher_cache import TeacherCache
from nasnet_det.classification.teachers import choose_teacher
from nasnet_det.data.broken_pictures import BrokenPictures
from nasnet_det.errors import InputError
from nasnet_det.evaluation import Evaluation, evaluate
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.signals import SignalCatcher, StoppedBySignal

logger = logging.getLogger(__name__)


class NonFiniteLossError(InputError):
    """The training has diverged; the message says where, and from what it can go on."""


class Trainer:
    """One training, from its first step or from a checkpoint.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        data: see :func:`~nasnet_det.classification.data.load_data`.
        device: where it is computed.
        on_step: is called after each step.
        teacher: whose outputs are learned in place of those of ``DISTILL.TEACHER``: images
            (B, 3, H, W) in RGB and the scale of bytes, float32 -> logits (B, C).

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
        teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.cfg, self.data, self.on_step = cfg, data, on_step
        self.folder = Path(cfg.OUTPUT_DIR)
        num_images = cfg.DATA.NUM_TRAIN or len(data.train)
        self.steps_per_epoch = num_images // cfg.SOLVER.BATCH_SIZE
        self._teacher = choose_teacher(cfg, teacher, device)
        self.learner = Learner(
            cfg,
            len(data.classes),
            steps_per_epoch=self.steps_per_epoch,
            device=device,
            teacher=self._teacher,
            classes=data.classes,
        )
        self.num_steps = self.learner.num_steps
        self.iteration = 0
        self.best: dict[str, float] = {}
        self.score: dict[str, float] = {}
        self.broken = BrokenPictures(cfg.DATA.BROKEN_IMAGES)
        self._recount = 1.0  # how many iterations are as much as one was
        self._signals = SignalCatcher("iteration")

    def resume(self) -> bool:
        """Go on from the folder's last checkpoint; False if there is none.

        Raises:
            CheckpointError: it is damaged or of another training.
        """
        path = self.folder / LAST
        if not path.is_file():
            return False
        state = load_checkpoint(path)
        changes = check_same_run(state, self.cfg, self.data.classes, len(self.data.train), path)
        check_same_network(state, self.learner.model, path)
        try:
            self.learner.load_state_dict(state)
            num_processes = len(state["random"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} does not fit this training: {reason:.300}") from None
        self.iteration, self.best = state["iteration"], state["best"]
        self.score = state["score"]
        for change in changes:
            logger.info("From now on %s", change.arrow)
            if change.key == "SOLVER.BATCH_SIZE":
                num_images = self.cfg.DATA.NUM_TRAIN or len(self.data.train)
                self._count_anew(self.steps_per_epoch / (num_images // change.was))
        logger.info("Going on from iteration %d of %d", self.iteration, self.num_steps)
        if num_processes != get_world_size():
            logger.warning(
                "%d processes began this training and %d go on with it: the weights will not be "
                "the same bit for bit",
                *(num_processes, get_world_size()),
            )
        return True

    def _count_anew(self, scale: float) -> None:
        """Count what is done in steps of another batch, so that the epochs stay what they are."""
        self._recount = scale
        self.iteration = round(self.iteration * scale)
        for found in (self.best, self.score):
            if found:
                found["iteration"] = round(found["iteration"] * scale)

    def train(self) -> Evaluation:
        """Train to the end.

        Returns:
            the last evaluation.

        Raises:
            NonFiniteLossError: the training has diverged.
            DataError: images can't be read, one after another.
            FileError: the disk is full.
            ConfigError: the weights to start from are of another network.
            StoppedBySignal: Ctrl-C or SIGTERM came, and the last iteration is saved.
        """
        if self.cfg.MODEL.WEIGHTS and self.iteration == 0:
            self.learner.start_from_weights(self.data.classes)
        logger.info(
            "Training %s parameters on %d images for %d epochs of %d iterations, on %s",
            f"{sum(p.numel() for p in self.learner.model.parameters()):,}",
            self.cfg.DATA.NUM_TRAIN or len(self.data.train),
            self.cfg.SOLVER.EPOCHS,
            self.steps_per_epoch,
            self.learner.predictor.device,
        )
        self._ask_teacher_once()
        loader = build_train_loader(self.cfg, self.data, start=self.iteration, stop=self.num_steps)
        test_loader = build_test_loader(self.cfg, self.data.test)
        metrics = self._open_metrics() if is_main_process() else None
        result: Evaluation | None = None
        self._signals.catch()
        try:
            clock = _Clock(self.iteration)
            for batch in loader:
                self._step(batch)
                if self._is_due(self.cfg.SOLVER.LOG_PERIOD):
                    self._log(metrics, clock)
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
                self._stop_on_signal()
                if self.on_step is not None:
                    self.on_step(self)
        finally:
            self._signals.restore()
            if metrics is not None:
                metrics.close()
        self._save_model(FINAL)
        if broken := set().union(*gather(self.broken.names)):
            logger.info("%d images can't be read", len(broken))
        return result or self.evaluate(test_loader)  # it was killed after the last checkpoint

    def _ask_teacher_once(self) -> None:
        """With ``DISTILL.CACHE``: what the teacher says of all images that are left to be seen."""
        if self._teacher is None or not self.cfg.DISTILL.CACHE or self.iteration == self.num_steps:
            return
        images = choose_train_images(self.cfg, self.data)
        assert not isinstance(images, Shards)  # load_data has refused them
        device = self.learner.predictor.device
        self.learner.ask_teacher = TeacherCache(self.cfg, self._teacher, images, device)

    def _open_metrics(self) -> Metrics:
        return Metrics(self.folder, self.iteration, scale=self._recount)

    def _is_due(self, period: int) -> bool:
        return period > 0 and self.iteration % period == 0

    def _step(self, batch: Batch) -> None:
        """One step of the optimizer. The loss on a GPU is looked at now and then: it waits."""
        for text in batch.broken:
            self.broken.add(text)
        looks = self.learner.predictor.device.type == "cpu"
        self.learner.step(batch, self.iteration, check=self._check_finite if looks else None)
        self.iteration += 1

    def _stop_on_signal(self) -> None:
        """Save and stop where any process got a signal; what is done to the last step is ended."""
        number = find_largest(self._signals.number)
        if not number or self.iteration == self.num_steps:
            return
        self.save()
        wait_for_all()  # nobody leaves before it is saved
        raise StoppedBySignal(
            number, f"{self.iteration} iterations are saved, and --resume goes on from there"
        )

    def _check_finite(self) -> None:
        step = self.learner.find_bad_step()
        if step >= 0:
            self._fail(f"the loss is not a finite number in iteration {step}", step)

    def _fail(self, what: str, step: int) -> None:
        path = self.folder / LAST
        if path.is_file():
            number = load_checkpoint(path)["iteration"]
            saved = f"the last good checkpoint is {path} (iteration {number})"
        else:
            saved = "there is no checkpoint yet"
        lr = self.learner.get_lr(step)
        raise NonFiniteLossError(
            f"{what}, with learning rate {lr:g}; {saved}; try a lower SOLVER.LR, "
            "SOLVER.CLIP_NORM or SOLVER.WARMUP_EPOCHS"
        )

    def _log(self, metrics: Metrics | None, clock: _Clock) -> None:
        self._check_finite()
        loss, lr = float(self.learner.loss), self.learner.get_lr(self.iteration - 1)
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
        if metrics is not None:
            metrics.write(self.iteration, values)

    def evaluate(self, loader: DataLoader) -> Evaluation:
        """Evaluate the moving average, or the model itself where there is none."""
        return evaluate(
            self.learner.evaluated_model,
            loader,
            classes=self.data.classes,
            predict=self.learner.predictor,
            on_broken=self.broken.add,
            add_up=add_up,
        )

    def _record(self, result: Evaluation, metrics: Metrics | None) -> None:
        """Log an evaluation, and save the model if it is the best."""
        epoch = self.iteration / self.steps_per_epoch
        logger.info(
            "epoch %g: top-1 %.4f, top-5 %.4f, loss %.4f on %d test images",
            *(epoch, result.top1, result.top5, result.loss, result.num_images),
        )
        values = {"top1": result.top1, "top5": result.top5, "loss": result.loss}
        if metrics is not None:
            metrics.write(
                self.iteration, {"epoch": epoch, **{f"test/{k}": v for k, v in values.items()}}
            )
        self.score = {"top1": result.top1, "top5": result.top5, "iteration": self.iteration}
        if not self.best or result.top1 > self.best["top1"]:
            self.best = self.score
            self._save_model(BEST)

    def save(self) -> None:
        """Make the present state the last checkpoint.

        Raises:
            NonFiniteLossError: it holds what is not a finite number; the checkpoint is as it was.
            FileError: the disk is full; likewise.
        """
        self._check_finite()
        if name := find_non_finite(self.learner.model.state_dict()):
            step = self.iteration - 1
            self._fail(f"{name} is not a finite number after iteration {step}", step)
        state = {
            **self._describe(),
            **self.learner.state_dict(),
            "best": self.best,
            "num_images": len(self.data.train),
        }
        if is_main_process():
            save_checkpoint(self.folder / LAST, state)

    def _save_model(self, name: str) -> None:
        if is_main_process():
            model = self.learner.evaluated_model.state_dict()
            save_checkpoint(self.folder / name, {**self._describe(), "model": model})

    def _describe(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "config": get_identity(self.cfg),
            "classes": list(self.data.classes),
            **describe_network(self.learner.model),
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
