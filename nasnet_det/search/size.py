"""How large a child is, before it is trained, and the limits that it has to keep."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from nasnet_det.complexity import count_multiply_adds, count_parameters
from nasnet_det.space import Choices, SearchSpace


class ChildSize(NamedTuple):
    """Trainable parameters, and multiply-adds for one image."""

    params: int
    macs: int


def measure_size(model: nn.Module, image_size: int) -> ChildSize:
    """Parameters and multiply-adds of a network.

    Args:
        model: a classifier of images, on the CPU.
        image_size: height and width in pixels.
    """
    macs = count_multiply_adds(model, torch.zeros(1, 3, image_size, image_size))
    return ChildSize(count_parameters(model).trainable, macs)


class SizeLimits(NamedTuple):
    """The most that a child may have; 0 for no limit."""

    max_params: int = 0
    max_macs: int = 0

    def find_fault(self, size: ChildSize) -> str:
        """Which limit a size breaks, as a sentence; "" if none."""
        for name, limit, value in (
            ("parameters", self.max_params, size.params),
            ("multiply-adds", self.max_macs, size.macs),
        ):
            if 0 < limit < value:
                return f"too large: {value:,} {name}, the limit is {limit:,}"
        return ""


def find_small(
    space: SearchSpace, measure: Callable[[Choices], ChildSize], place: int, limit: int
) -> int:
    """The smallest size that a short search finds, or the first that is not above a limit.

    The smallest of some random architectures is made smaller, one decision after another, until no
    single one helps. Sizes are almost sums over a cell's decisions, so this ends near the minimum.

    Args:
        space: of the choices.
        measure: the size of an architecture.
        place: in :class:`ChildSize`, of the number that counts.
        limit: where to stop.
    """
    rng = random.Random(0)
    starts = [space.sample(rng) for _ in range(10)]
    size, choices = min((measure(c)[place], c) for c in starts)
    improved = True
    while improved and size > limit:
        improved = False
        for i, number in enumerate(space.num_choices):
            others = (
                (*choices[:i], value, *choices[i + 1 :])
                for value in range(number)
                if value != choices[i]
            )
            best = min(((measure(c)[place], c) for c in others), default=(size, choices))
            if best[0] < size:
                (size, choices), improved = best, True
            if size <= limit:
                break
    return size
