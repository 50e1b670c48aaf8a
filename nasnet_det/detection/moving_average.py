"""The exponential moving average of a detector's weights, which is evaluated and saved in place of
the last ones (``SOLVER.EMA``)."""

from __future__ import annotations

import copy

import torch
from detectron2.engine import HookBase
from torch import nn

WARMUP_POWER = 2 / 3  # timm's ModelEmaV3: reaches a decay of 0.999 after 31,600 iterations


def get_decay(decay: float, iteration: int, *, warmup: bool) -> float:
    """The weight of the past in an iteration, as timm's ``ModelEmaV3`` has it.

    Args:
        decay: at most.
        iteration: from 0, in which the average is the weights themselves.
        warmup: whether it rises to ``decay`` with the number of iterations.
    """
    if iteration == 0:
        return 0.0
    return min(decay, 1 - (1 + iteration) ** -WARMUP_POWER) if warmup else decay


class MovingAverage(HookBase):
    """Update the average after every iteration; see the module.

    It is a function of the iterations that are done, so it has no state but ``model``, and every
    process has the same.

    Args:
        model: in training, not wrapped; its weights are the first average.
        decay: the weight of the past, in (0, 1).
        warmup: see :func:`get_decay`.

    Attributes:
        model: a copy that holds the average: of weights, and of running means and variances.
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: bool) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._source, self._decay, self._warmup = model, decay, warmup

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the weights."""
        weight = 1 - get_decay(self._decay, self.trainer.iter, warmup=self._warmup)
        averages, current = self.model.state_dict(), self._source.state_dict()
        floats = [name for name, value in averages.items() if value.is_floating_point()]
        counters = sorted(averages.keys() - set(floats))  # of batches
        torch._foreach_lerp_([averages[n] for n in floats], [current[n] for n in floats], weight)
        if counters:
            torch._foreach_copy_([averages[n] for n in counters], [current[n] for n in counters])
