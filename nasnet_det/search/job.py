"""What goes to a worker and what comes back: a job, a result, and how the child went.

Plain values, so that they are pickled; what trains and what records them need not know each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from nasnet_det.space import Choices


class Comparison(Protocol):
    """What a child is compared with, after each of its epochs."""

    def is_hopeless(self, accuracies: Sequence[float]) -> bool:
        """Whether to prune it, from the accuracies after each epoch so far."""


@dataclass(frozen=True)
class ChildJob:
    """What a worker is asked to train.

    Attributes:
        number: of the trial.
        choices: the architecture.
        seed: of everything that is random in the training.
        time_limit_s: seconds after which the child has failed; 0 for no limit.
        comparison: when it is pruned; None: never.
    """

    number: int
    choices: Choices
    seed: int
    time_limit_s: float = 0.0
    comparison: Comparison | None = None


class Curve(NamedTuple):
    """How a child went, epoch by epoch.

    Attributes:
        accuracies: on the held-out images, after each epoch that it was trained.
        is_complete: it was trained to the end; otherwise it was pruned.
    """

    accuracies: tuple[float, ...]
    is_complete: bool


@dataclass(frozen=True)
class ChildResult:
    """What came of it.

    Attributes:
        number: of the trial.
        reward: accuracy on the held-out images, 0 to 1; None if the child failed.
        failure: why it failed, one sentence; "" if it did not.
        seconds: how long it took.
        curve: how it went, where its job had a comparison and it did not fail.
    """

    number: int
    reward: float | None
    failure: str
    seconds: float
    curve: Curve | None = None


TrainChild = Callable[[ChildJob, str], ChildResult]
"""Trains one child on a device."""
