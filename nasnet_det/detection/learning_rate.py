"""The learning-rate range test of Smith (arXiv 1506.01186): a short training with a rising rate.

The loss first hardly moves, then falls, then rises again. The suggestion is where it falls fastest,
as in fastai and Lightning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.step import NonFiniteLossError
from nasnet_det.detection.trainer import Trainer
from nasnet_det.detection.trial import prepare_trial
from nasnet_det.errors import InputError

MIN_ITERATIONS = 20
WINDOW = 0.1  # of the iterations, over which losses are averaged: batches differ
DIVERGED = 4.0  # times the smallest mean loss, as in fastai


@dataclass(frozen=True)
class RateTrial:
    """A training whose rate rose with each iteration.

    Attributes:
        rates: ``SOLVER.BASE_LR`` of each iteration, rising by one factor.
        losses: the total loss before the step with that rate.
        smooth: their means over a window around each, without a lag.
        suggestion: the rate at which they fall fastest; None where they don't.
        batch_size: pictures in each batch, for which alone the rates hold.
        has_diverged: whether the loss rose so far that the trial was ended.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    suggestion: float | None
    batch_size: int
    has_diverged: bool


def find_learning_rate(
    cfg: CfgNode, *, lowest: float = 1e-6, highest: float = 1.0, num_iterations: int = 100
) -> RateTrial:
    """Try the learning rates for a config.

    Every parameter's rate keeps its proportion to ``SOLVER.BASE_LR``. The model starts from
    ``MODEL.WEIGHTS`` and is thrown away: no file is written.

    Args:
        cfg: see :func:`~nasnet_det.detection.config.get_config`; it is not changed.
        lowest, highest: the first and the last rate.
        num_iterations: at most, each with a batch of ``SOLVER.IMS_PER_BATCH``.

    Raises:
        InputError: the rates, the config, the data or the weights can't be used.
    """
    if not 0 < lowest < highest or not math.isfinite(highest):
        raise InputError(f"wanted rates with 0 < lowest < highest, got {lowest:g} and {highest:g}")
    if num_iterations < MIN_ITERATIONS:
        raise InputError(f"wanted at least {MIN_ITERATIONS} iterations, got {num_iterations}")
    if not cfg.SOLVER.BASE_LR > 0:
        refuse("SOLVER.BASE_LR", "more than 0 for a trial of rates", cfg.SOLVER.BASE_LR)
    trainer = Trainer(prepare_trial(cfg))
    trainer.checkpointer.load(trainer.cfg.MODEL.WEIGHTS, checkpointables=[])
    rates = [float(rate) for rate in np.geomspace(lowest, highest, num_iterations)]
    losses: list[float] = []
    smallest, window = math.inf, _count_window(num_iterations)
    has_diverged = False
    for loss in _train(trainer, rates):
        losses.append(loss)
        mean = float(np.mean(losses[-window:]))
        has_diverged = not mean <= DIVERGED * smallest  # NaN is no number
        if has_diverged:
            break
        if len(losses) >= window:
            smallest = min(smallest, mean)
    losses = [loss for loss in losses if math.isfinite(loss)]
    rates = rates[: len(losses)]
    smooth = smooth_losses(losses, window)
    suggestion = suggest_rate(rates, smooth)
    batch_size = trainer.cfg.SOLVER.IMS_PER_BATCH
    return RateTrial(
        *(tuple(rates), tuple(losses), tuple(smooth), suggestion, batch_size, has_diverged)
    )


def _train(trainer: Trainer, rates: list[float]) -> Iterator[float]:
    """The loss of each iteration; NaN, and the end, where it is no finite number."""
    step, groups = trainer._trainer, trainer.optimizer.param_groups
    factors = [group["initial_lr"] / trainer.cfg.SOLVER.BASE_LR for group in groups]
    with EventStorage() as storage:
        for iteration, rate in enumerate(rates):
            storage.iter = step.iter = iteration
            for group, factor in zip(groups, factors, strict=True):
                group["lr"] = rate * factor
            try:
                step.run_step()
            except NonFiniteLossError:
                yield math.nan
                return
            yield storage.latest()["total_loss"][0]


def _count_window(num_iterations: int) -> int:
    return max(3, round(WINDOW * num_iterations))


def smooth_losses(losses: list[float], window: int) -> list[float]:
    """The mean over ``window`` losses around each, over fewer at the ends."""
    half = window // 2
    return [float(np.mean(losses[max(0, i - half) : i + half + 1])) for i in range(len(losses))]


def suggest_rate(rates: list[float], smooth: list[float]) -> float | None:
    """Where smoothed losses fall fastest over the logarithm of the rate.

    The first and the last tenth are no candidates: few losses are averaged there.

    Returns:
        None where the loss falls nowhere.
    """
    margin = max(1, len(smooth) // 10)
    if len(smooth) < 3 * margin:
        return None
    slopes = np.gradient(smooth, np.log(rates))[margin:-margin]
    steepest = int(np.argmin(slopes))
    return rates[margin + steepest] if slopes[steepest] < 0 else None
