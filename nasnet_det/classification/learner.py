"""A classifier in training, and everything that one step changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from yacs.config import CfgNode

from nasnet_det.classification.augment import build_mixing
from nasnet_det.classification.distillation import (
    Student,
    build_student,
    compute_distillation_loss,
    compute_label_loss,
)
from nasnet_det.classification.distributed import (
    average,
    average_in_place,
    gather,
    get_rank,
    get_world_size,
    wrap_model,
)
from nasnet_det.classification.initial_weights import load_initial_weights
from nasnet_det.classification.library_classifier import LibraryClassifier
from nasnet_det.classification.loader import Batch
from nasnet_det.classification.models import build_model
from nasnet_det.classification.optimizers import build_ema, build_optimizer, get_lr
from nasnet_det.classification.predictor import Predictor, autocast
from nasnet_det.classification.teachers import Teacher, TeacherOutput
from nasnet_det.config import ConfigError
from nasnet_det.network import NASNet, NASNetOutput
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.train_step import load_optimizer_state, take_step

AskTeacher = Callable[[torch.Tensor, torch.Tensor], TeacherOutput]


class Learner:
    """A model with its optimizer, moving average, loss scaling and random numbers.

    With several processes each has its part of the batch. The gradients are averaged over them, and
    so are the running statistics of normalizations after each step, so that all processes hold the
    same model, bit for bit.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        num_classes: length of the logits.
        steps_per_epoch: steps in each epoch.
        device: where it is computed.
        teacher: whose outputs are learned too, or None.
        classes: names of the data set's classes, which the teacher may know.

    Attributes:
        model: the network.
        ema: its moving average, or None.
        ask_teacher: images after mixing (B, 3, H, W) and their indices (B,) -> what the teacher
            says of them; the teacher itself where nothing else is set.
        loss: mean over the batch of the last step, on the device.

    Raises:
        ConfigError: there is no such network, or the processes can't train it.
    """

    def __init__(
        self,
        cfg: CfgNode,
        num_classes: int,
        *,
        steps_per_epoch: int,
        device: torch.device,
        teacher: Teacher | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        check_processes(cfg, device)
        torch.manual_seed(cfg.SEED)
        self.cfg, self.steps_per_epoch = cfg, steps_per_epoch
        self.num_steps = steps_per_epoch * cfg.SOLVER.EPOCHS
        self.predictor = Predictor(cfg, device)
        model = build_model(cfg, num_classes, pretrained=True)
        self.model: NASNet | LibraryClassifier = self.predictor.place(model)
        self._student: Student | None = None
        if teacher is not None:
            self._student = build_student(self.model, teacher, cfg, classes)
            self.ask_teacher: AskTeacher = self._build_ask(teacher)
        self.optimizer = build_optimizer(cfg, self._student or self.model)
        self.ema = build_ema(self.model, cfg.EMA.DECAY) if cfg.EMA.DECAY else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=cfg.SOLVER.PRECISION == "float16")
        self.loss = torch.zeros((), device=device)
        # The first step whose loss was not finite, or -1: on the device, as looking waits for it.
        self._bad_step = torch.full((), -1, device=device)
        self._statistics = [b for b in self.model.buffers() if b.is_floating_point()]
        self._mix = build_mixing(cfg, num_classes)
        self._runner: Any = self._student or self.model
        if get_world_size() > 1:
            self._runner = wrap_model(self._runner)
        if cfg.SOLVER.COMPILE:
            self._runner = torch.compile(self._runner)
        if get_rank():  # the main process goes on as it would alone
            torch.manual_seed(derive_seed(cfg.SEED, get_rank()))

    def start_from_weights(self, classes: Sequence[str]) -> None:
        """Take the weights of ``MODEL.WEIGHTS``; see :func:`load_initial_weights`."""
        if isinstance(self.model, LibraryClassifier):
            raise ConfigError(
                "MODEL.WEIGHTS: wanted '' to train MODEL.NETWORK, which MODEL.PRETRAINED True "
                f"starts from its library's weights, got {self.cfg.MODEL.WEIGHTS!r}"
            )
        load_initial_weights(self.model, self.cfg, classes)
        if self.ema is not None:
            self.ema.module.load_state_dict(self.model.state_dict())

    @property
    def evaluated_model(self) -> nn.Module:
        """The moving average, or the model itself where there is none."""
        return self.model if self.ema is None else self.ema.module

    def get_lr(self, iteration: int) -> float:
        """The learning rate of a step."""
        return get_lr(self.cfg.SOLVER, iteration, self.steps_per_epoch)

    def step(
        self, batch: Batch, iteration: int, *, check: Callable[[], None] | None = None
    ) -> None:
        """One step of the optimizer.

        Args:
            batch: this process's part.
            iteration: steps before this one.
            check: is called when the loss is known and the weights are not yet changed; may raise.
        """
        solver = self.cfg.SOLVER
        images = batch.images.to(self.predictor.device, non_blocking=True)
        labels = batch.labels.to(self.predictor.device, non_blocking=True)
        if self._mix is not None:
            images, labels = self._mix(images.float(), labels)
        parts = list(
            zip(images.chunk(solver.NUM_PARTS), labels.chunk(solver.NUM_PARTS), strict=True)
        )
        taught = self._ask_about_parts(images, batch.indices)
        num_left = len(parts)

        def compute_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            nonlocal num_left
            num_left -= 1
            waits = num_left and get_world_size() > 1  # gradients are averaged with the last part
            with self._runner.no_sync() if waits else nullcontext():
                return self._compute_loss(images, labels, next(taught, None))

        def see(loss: torch.Tensor) -> None:
            self.loss = average(loss)
            is_first = (self._bad_step < 0) & ~torch.isfinite(self.loss)
            self._bad_step = torch.where(is_first, iteration, self._bad_step)
            if check is not None:
                check()

        take_step(
            self.model,
            self.optimizer,
            parts,
            compute_loss,
            lr=self.get_lr(iteration),
            progress=iteration / self.num_steps,
            clip_norm=solver.CLIP_NORM,
            scaler=self.scaler,
            check=see,
        )
        average_in_place(self._statistics)
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def _build_ask(self, teacher: Teacher) -> AskTeacher:
        def ask(images: torch.Tensor, _: torch.Tensor) -> TeacherOutput:
            with autocast(images.device, self.predictor.dtype):
                return teacher(images)

        return ask

    def _ask_about_parts(
        self, images: torch.Tensor, indices: torch.Tensor
    ) -> Iterator[TeacherOutput]:
        """What the teacher says of each part of a batch; nothing without a teacher."""
        if self._student is None:
            return iter(())
        logits, features = self.ask_teacher(images, indices)
        num_parts = self.cfg.SOLVER.NUM_PARTS
        pieces = [None] * num_parts if features is None else features.chunk(num_parts)
        return map(TeacherOutput, logits.chunk(num_parts), pieces)

    def _compute_loss(
        self, images: torch.Tensor, labels: torch.Tensor, taught: TeacherOutput | None
    ) -> torch.Tensor:
        output = self.predictor(self._runner, images)
        heads: dict[str, torch.Tensor] = {}
        if taught is not None:
            output, heads = output
        all_logits = output if isinstance(output, NASNetOutput) else (output,)
        smoothing = self.cfg.SOLVER.LABEL_SMOOTHING
        measure = compute_label_loss if self.cfg.DISTILL.IMAGES else F.cross_entropy
        losses = [measure(logits, labels, label_smoothing=smoothing) for logits in all_logits]
        loss = losses[0]
        if len(losses) > 1:
            loss = loss + self.cfg.AUX.WEIGHT * losses[1]
        if taught is None:
            return loss
        return compute_distillation_loss(loss, all_logits[0], heads, taught, self.cfg.DISTILL)

    def find_bad_step(self) -> int:
        """The first step whose loss was not finite, or -1; waits for the device."""
        return int(self._bad_step)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on; every process has to ask for it."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            **({"heads": self._student.heads.state_dict()} if self._student else {}),
            "random": gather(self._get_random_state()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave to as many processes.

        Raises:
            KeyError, RuntimeError, ValueError: it is of something else.
        """
        self.model.load_state_dict(state["model"])
        if self._student is not None:
            self._student.heads.load_state_dict(state["heads"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if len(state["random"]) == get_world_size():
            self._set_random_state(state["random"][get_rank()])

    def _get_random_state(self) -> dict[str, torch.Tensor | None]:
        device = self.predictor.device
        return {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def _set_random_state(self, state: dict[str, torch.Tensor | None]) -> None:
        if state["cpu"] is not None:
            torch.set_rng_state(state["cpu"])
        if self.predictor.device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.predictor.device)


def check_processes(cfg: CfgNode, device: torch.device) -> None:
    """See that a batch can be divided among the processes.

    Raises:
        ConfigError: it can't, or the normalization can't be computed by several.
    """
    world_size, solver = get_world_size(), cfg.SOLVER
    num_images = solver.BATCH_SIZE // world_size
    if solver.BATCH_SIZE % world_size:
        raise ConfigError(
            f"SOLVER.BATCH_SIZE: wanted a multiple of the number of processes, {world_size}, got "
            f"{solver.BATCH_SIZE}"
        )
    if num_images < solver.NUM_PARTS:
        raise ConfigError(
            f"SOLVER.NUM_PARTS: wanted at most {num_images}, the images of each process, got "
            f"{solver.NUM_PARTS}"
        )
    largest = -(-num_images // solver.NUM_PARTS)  # part of a batch
    if cfg.AUX.WEIGHT and 1 in (largest, num_images % largest) and cfg.MODEL.NASNET.NORM == "BN":
        raise ConfigError(
            "SOLVER.BATCH_SIZE: wanted at least 2 images in each of the SOLVER.NUM_PARTS of each "
            "process, over which the auxiliary head (AUX.WEIGHT) normalizes, got a part of 1"
        )
    if world_size > 1 and device.type == "cpu" and cfg.MODEL.NASNET.NORM == "SyncBN":
        raise ConfigError(
            "MODEL.NASNET.NORM: SyncBN of several processes needs GPUs; take BN or GN"
        )
