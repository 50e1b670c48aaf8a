"""One child: an architecture, trained for a short while; its held-out accuracy is the reward.

The paper's recipe (arXiv 1707.07012, appendix A.3): N = 2 normal cells a stage, 20 epochs, SGD with
momentum 0.9 and one cosine period, and as reward the accuracy on held-out training images after the
last epoch. What the paper leaves open is a field of :class:`ChildRecipe`.

A child's own failure is a result, never an exception: a loss that is no number, memory that runs
out, time that is up, or anything that is raised while it trains on a device that works.

A child whose job says what to compare it with is judged after every epoch, and pruned where it is
hopeless: it then ends early, with its last accuracy as reward.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det import evaluation
from nasnet_det.network import NASNet, NASNetOutput
from nasnet_det.plan import NetworkSpec
from nasnet_det.runs.threads import one_thread
from nasnet_det.search.data import ChildData, DataSource, load_child_data
from nasnet_det.search.devices import check_device
from nasnet_det.search.job import ChildJob, ChildResult, Curve
from nasnet_det.space import Choices, SearchSpace
from nasnet_det.train_step import group_by_decay, take_step

PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RECIPE_VERSION = 2
"""What a study knows its children by, too; 2: no weight decay on biases and normalizations."""
_EVAL_BATCH = 500  # held-out images at once


@dataclass(frozen=True)
class ChildRecipe:
    """How children are built and trained; see ``SEARCH.CHILD`` in the config.

    Attributes:
        num_cells_per_stage: N.
        channels: F.
        stem_multiplier: the stem has F times this many channels.
        epochs: passes over the training images.
        batch_size: images in each step; what is left of an epoch is left out.
        lr: learning rate of the first step; it falls to 0 along half a cosine.
        momentum: of SGD (Nesterov is off).
        weight_decay: L2 on the weights of convolutions and of the classifier.
        clip_norm: largest Euclidean norm of the gradient; 0 for no limit.
        drop_path_prob: ScheduledDropPath's final probability.
        aux_weight: of the auxiliary head's loss; 0: it has no such head.
        precision: ``float32``, or ``bfloat16`` (autocast).
    """

    num_cells_per_stage: int = 2
    channels: int = 32
    stem_multiplier: int = 3
    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = 5.0
    drop_path_prob: float = 0.0
    aux_weight: float = 0.0
    precision: str = "float32"

    def network(self, image_size: int) -> NetworkSpec:
        """The size of the network. Normalization's epsilon is TF-slim's for CIFAR."""
        return NetworkSpec(
            num_cells_per_stage=self.num_cells_per_stage,
            channels=self.channels,
            stem="cifar",
            stem_multiplier=self.stem_multiplier,
            input_size=image_size,
            norm_eps=1e-5,
            drop_path_prob=self.drop_path_prob,
        )


class ChildFailure(Exception):
    """The child can't be trained to the end; the message says why."""


@dataclass
class ChildTrainer:
    """Trains children; the images are loaded with the first one.

    It is sent to worker processes, so it holds nothing but plain values until then.

    Attributes:
        recipe: how.
        space: of the choices.
        source: where the images are.
        carries_images: take the images along to other processes, where the files may be missing.
    """

    recipe: ChildRecipe
    space: SearchSpace
    source: DataSource
    carries_images: bool = False
    _data: dict[str, ChildData] = field(default_factory=dict, repr=False)

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        """Train one child on a device.

        Raises:
            DataError: the images can't be loaded, which is no child's failure.
            DeviceError: the device computes no more, which is none either.
        """
        return train_child(job, self.recipe, self.space, self.load(device), device=device)

    def start(self, device: str) -> None:
        """What a worker does before its first child.

        Raises:
            DeviceError: the device computes nothing.
            DataError: the images can't be loaded.
        """
        check_device(device)
        self.load(device)

    def load(self, device: str = "cpu") -> ChildData:
        """The images, on a device."""
        if device not in self._data:
            data = self._data.get("cpu") or load_child_data(self.source)
            self._data[device] = data.to(device)
        return self._data[device]

    def __getstate__(self) -> dict[str, Any]:
        data = {"cpu": self.load()} if self.carries_images else {}
        return {**self.__dict__, "_data": data}


def train_child(
    job: ChildJob,
    recipe: ChildRecipe,
    space: SearchSpace,
    data: ChildData,
    *,
    device: str = "cpu",
) -> ChildResult:
    """Train one child; equal jobs give equal results, bit for bit, on one kind of CPU.

    Raises:
        DeviceError: the device computes no more.
    """
    started = time.monotonic()
    curve, failure = None, ""
    gpus = [torch.device(device)] if torch.device(device).type == "cuda" else []
    try:
        with one_thread(), torch.random.fork_rng(gpus):
            torch.manual_seed(job.seed)
            curve = _train(job, recipe, space, data, device, started)
    except ChildFailure as error:
        failure = str(error)
    except Exception as error:  # whatever it is, the search goes on, unless the device is broken
        failure = _describe(error)
        check_device(device)
    if gpus:
        torch.cuda.empty_cache()  # the next network has other shapes
    seconds = time.monotonic() - started
    if curve is None:
        return ChildResult(job.number, None, failure, seconds)
    reward = curve.accuracies[-1]
    return ChildResult(job.number, reward, "", seconds, curve if job.comparison else None)


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory: {text:.200}"
    return f"{type(error).__name__}: {text:.500}"


def build_child(
    recipe: ChildRecipe,
    space: SearchSpace,
    choices: Choices,
    *,
    num_classes: int,
    image_size: int,
    in_training: bool = False,
) -> NASNet:
    """The network of a list of decisions, with torch's own random numbers.

    Args:
        recipe, space, choices: of the child.
        num_classes, image_size: of its images.
        in_training: with what it has in training only, the auxiliary head.

    Raises:
        InputError: there is no such network, or its maps are too small for the auxiliary head.
    """
    return NASNet(
        recipe.network(image_size),
        space.decode(choices),
        num_classes=num_classes,
        aux_head=in_training and recipe.aux_weight > 0,
    )


def _train(
    job: ChildJob,
    recipe: ChildRecipe,
    space: SearchSpace,
    data: ChildData,
    device: str,
    started: float,
) -> Curve:
    accuracies: list[float] = []
    is_complete = False
    epochs = _train_epochs(job, recipe, space, data, device, started)
    for epoch, model in enumerate(epochs, start=1):
        is_complete = epoch == recipe.epochs
        if job.comparison or is_complete:
            accuracies.append(evaluate(model, data, recipe=recipe, device=device))
        if job.comparison and not is_complete and job.comparison.is_hopeless(accuracies):
            break
    return Curve(tuple(accuracies), is_complete)


def _train_epochs(
    job: ChildJob,
    recipe: ChildRecipe,
    space: SearchSpace,
    data: ChildData,
    device: str,
    started: float,
) -> Iterator[NASNet]:
    """Train, and give the network after each epoch."""
    size = {"num_classes": data.num_classes, "image_size": data.image_size}
    model = build_child(recipe, space, job.choices, **size, in_training=True).to(device)
    optimizer = torch.optim.SGD(
        group_by_decay(model, recipe.weight_decay),
        lr=recipe.lr,
        momentum=recipe.momentum,
        fused=True,
    )
    generator = torch.Generator().manual_seed(job.seed)
    num_images = len(data.train.labels)
    steps_per_epoch = max(1, num_images // recipe.batch_size)
    num_steps = recipe.epochs * steps_per_epoch
    step = 0

    def compute_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with _autocast(recipe, device):
            output = model(images)
            if not isinstance(output, NASNetOutput):
                return F.cross_entropy(output, labels)
            main, auxiliary = (F.cross_entropy(logits, labels) for logits in output)
            return main + recipe.aux_weight * auxiliary

    def check(loss: torch.Tensor) -> None:
        # Of a GPU every 50th loss is looked at: each look waits until it has caught up.
        if (device == "cpu" or step % 50 == 0) and not math.isfinite(loss.item()):
            raise ChildFailure(f"diverged: the loss is {loss.item()} after {step} steps")

    for _ in range(recipe.epochs):
        for images, labels in data.train_batches(recipe.batch_size, generator):
            take_step(
                model,
                optimizer,
                [(images, labels)],
                compute_loss,
                lr=recipe.lr * cosine(step / num_steps),
                progress=step / num_steps,
                clip_norm=recipe.clip_norm,
                check=check,
            )
            step += 1
            if 0 < job.time_limit_s < time.monotonic() - started:
                raise ChildFailure(
                    f"out of time: {job.time_limit_s:g} s were up after {step} of {num_steps} steps"
                )
        yield model


def _autocast(recipe: ChildRecipe, device: str) -> torch.autocast:
    dtype = PRECISIONS[recipe.precision]
    return torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16
    )


def cosine(progress: float) -> float:
    """Half a cosine: 1 at progress 0, 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def evaluate(model: nn.Module, data: ChildData, *, recipe: ChildRecipe, device: str) -> float:
    """Accuracy on the held-out images, 0 to 1.

    Raises:
        ChildFailure: a prediction is not finite.
    """

    def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with _autocast(recipe, device):
            logits = model(images)
        if not bool(torch.isfinite(logits).all()):
            raise ChildFailure("diverged: a prediction is not finite after the last step")
        return logits.float()

    batches = ((images, labels, ()) for images, labels in data.held_out_batches(_EVAL_BATCH))
    classes = [str(i) for i in range(data.num_classes)]
    return evaluation.evaluate(model, batches, classes=classes, predict=predict).top1
