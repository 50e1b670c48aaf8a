"""What a classifier's training would take, from some of its steps on made-up images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch
from yacs.config import CfgNode

from nasnet_det.classification.data import load_data
from nasnet_det.classification.learner import Learner
from nasnet_det.classification.loader import Batch
from nasnet_det.classification.run import choose_device
from nasnet_det.classification.teachers import Teacher, TeacherOutput, choose_teacher
from nasnet_det.runs.memory import read_peak_memory

NUM_IMAGENET, NUM_IMAGENET_CLASSES = 1_281_167, 1000
"""Training images and classes of ImageNet (ILSVRC 2012), where no data set is named."""
NUM_WARMUP = 2
DEVICES = (1, 8, 64)


@dataclass(frozen=True)
class Estimate:
    """A training's cost on one device, without the time of reading images and of evaluations.

    Attributes:
        device: cpu or cuda:<i>.
        num_images: of an epoch.
        epochs: how many.
        batch_size: images of a step.
        step_seconds: of each step that was timed, in their order.
        peak_memory_mib: of the steps; None on a system that does not tell.
        checkpoint_mib: what the tensors of a checkpoint take.
        num_parameters: of the network, with its auxiliary head.
    """

    device: str
    num_images: int
    epochs: int
    batch_size: int
    step_seconds: tuple[float, ...]
    peak_memory_mib: float | None
    checkpoint_mib: float
    num_parameters: int

    @property
    def images_per_second(self) -> float:
        """Of the median step."""
        return self.batch_size / median(self.step_seconds)

    @property
    def hours(self) -> float:
        """Of the whole training on this device."""
        steps = self.num_images // self.batch_size * self.epochs
        return steps * median(self.step_seconds) / 3600

    def describe(self) -> str:
        """Lines for a terminal."""
        low, high = min(self.step_seconds), max(self.step_seconds)
        memory = (
            "" if self.peak_memory_mib is None else f", {self.peak_memory_mib:,.0f} MiB at most"
        )
        devices = ", ".join(
            f"{number}: {describe_hours(self.hours / number)}" for number in DEVICES
        )
        return "\n".join(
            [
                f"{self.num_parameters:,} parameters; a checkpoint: {self.checkpoint_mib:.0f} MiB",
                f"a step of {self.batch_size} images on {self.device}: "
                f"{median(self.step_seconds):.3g} s ({low:.3g} to {high:.3g} over "
                f"{len(self.step_seconds)}){memory}",
                f"{self.images_per_second:,.3g} images a second",
                f"{self.epochs} epochs of {self.num_images:,} images: {describe_hours(self.hours)}",
                f"on such devices, each with batches of {self.batch_size}, at best: {devices}",
                "not counted: reading images, evaluations, and what devices tell each other",
            ]
        )


def estimate_training(cfg: CfgNode, *, num_steps: int = 5) -> Estimate:
    """Take some steps of a training, with images of noise, and write nothing.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`. Without
            ``DATA.PATH`` the data set is ImageNet.
        num_steps: to time, at least 1; two more come before them.

    Raises:
        InputError: the config or the data can't be used.
    """
    device = choose_device(cfg.MODEL.DEVICE)
    num_images, num_classes = NUM_IMAGENET, NUM_IMAGENET_CLASSES
    classes: tuple[str, ...] = ()
    if cfg.DATA.PATH:
        data = load_data(cfg)
        num_images, classes = len(data.train), data.classes
        num_classes = len(classes)
    num_images = cfg.DATA.NUM_TRAIN or num_images
    solver, size = cfg.SOLVER, cfg.DATA.IMAGE_SIZE
    teacher = choose_teacher(cfg, None, device)
    steps_per_epoch = num_images // solver.BATCH_SIZE
    learner = Learner(
        *(cfg, num_classes),
        steps_per_epoch=steps_per_epoch,
        device=device,
        teacher=teacher,
        classes=classes,
    )
    if teacher is not None and cfg.DISTILL.CACHE:  # it is asked before the training
        learner.ask_teacher = lambda images, _: _repeat(teacher, images)
    generator = torch.Generator().manual_seed(cfg.SEED)
    shape = (solver.BATCH_SIZE, 3, size, size)
    batch = Batch(
        images=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, num_classes, shape[:1], generator=generator),
        broken=[],
        indices=torch.arange(solver.BATCH_SIZE),
    )
    seconds = []
    for step in range(NUM_WARMUP + num_steps):
        start = time.perf_counter()
        learner.step(batch, step)
        float(learner.loss)  # waits for the device
        seconds.append(time.perf_counter() - start)
    tensors = _list_tensors(learner.state_dict())
    return Estimate(
        device=str(device),
        num_images=num_images,
        epochs=solver.EPOCHS,
        batch_size=solver.BATCH_SIZE,
        step_seconds=tuple(seconds[NUM_WARMUP:]),
        peak_memory_mib=read_peak_memory(device),
        checkpoint_mib=sum(t.numel() * t.element_size() for t in tensors) / 2**20,
        num_parameters=sum(p.numel() for p in learner.model.parameters()),
    )


def describe_hours(hours: float) -> str:
    """In the unit that fits: ``40 s``, ``12 min``, ``7.5 h``, ``31 days``."""
    for unit, length, most in (("s", 1 / 3600, 100), ("min", 1 / 60, 100), ("h", 1, 100)):
        if hours / length < most:
            return f"{hours / length:.2g} {unit}"
    return f"{hours / 24:,.0f} days"


def _repeat(teacher: Teacher, images: torch.Tensor) -> TeacherOutput:
    """What a teacher says of one image, for each."""
    logits, features = teacher(images[:1].float())
    number = len(images)
    return TeacherOutput(
        logits.expand(number, -1), None if features is None else features.expand(number, -1)
    )


def _list_tensors(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        state = list(state.values())
    return [t for part in state for t in _list_tensors(part)] if isinstance(state, list) else []
