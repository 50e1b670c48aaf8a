"""Pruning: children that are hopeless beside earlier ones end before their last epoch.

The rules are those of Optuna's pruners, to the letter. What travels with a job is one accuracy for
each epoch, the least with which a child goes on, so the thousandth child costs what the first does.
It is made of the children of earlier minibatches and never of those of the same one. So which
children are pruned does not depend on who is finished first, and a search is the same for any
number of workers and after a kill.

A pruned child ends as Optuna's PRUNED, with its last accuracy as value. That is what a sampler
learns from; it is below what the child would have reached, which is the price of the time saved.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.near_names import nearest
from nasnet_det.search.job import Curve


@dataclass(frozen=True)
class Comparison:
    """What one child is compared with.

    Attributes:
        least: epoch -> the accuracy below which a child ends after it; epochs that are not there
            end none.
        counts_best: a child's best accuracy so far counts, not its last.
    """

    least: Mapping[int, float] = field(default_factory=dict)
    counts_best: bool = False

    def is_hopeless(self, accuracies: Sequence[float]) -> bool:
        """Whether a child ends now.

        Args:
            accuracies: after each of its epochs so far.
        """
        least = self.least.get(len(accuracies))
        reached = max(accuracies) if self.counts_best else accuracies[-1]
        return least is not None and reached < least


class Pruner(Protocol):
    """A rule, and what it has to know of earlier children."""

    def add(self, curve: Curve) -> None:
        """One more child that later ones are compared with."""

    def compare(self) -> Comparison:
        """What the next child is compared with."""


class MedianPruner:
    """A child ends where its best accuracy is below the median of the complete ones.

    Args:
        num_startup_trials: complete children before any is pruned.
        min_epochs: the first epoch after which one can end.
    """

    def __init__(self, *, num_startup_trials: int, min_epochs: int) -> None:
        self.num_startup_trials, self.min_epochs = num_startup_trials, min_epochs
        self._num_complete = 0
        self._accuracies: dict[int, list[float]] = defaultdict(list)  # by epoch, in order

    def add(self, curve: Curve) -> None:
        """See :class:`Pruner`."""
        if curve.is_complete:
            self._num_complete += 1
            for epoch, accuracy in enumerate(curve.accuracies, start=1):
                insort(self._accuracies[epoch], accuracy)

    def compare(self) -> Comparison:
        """See :class:`Pruner`."""
        if self._num_complete < self.num_startup_trials:
            return Comparison()
        medians = {
            epoch: (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
            for epoch, ordered in self._accuracies.items()
            if epoch >= self.min_epochs
        }
        return Comparison(medians, counts_best=True)


class HalvingPruner:
    """Asynchronous successive halving (ASHA, arXiv 1810.05934).

    After ``min_epochs`` epochs, and each time there are ``reduction_factor`` times as many, a child
    goes on if it is among the best ``1 / reduction_factor`` of those that came so far; while they
    are fewer, if it is the best.

    Args:
        min_epochs, reduction_factor: see above.
    """

    def __init__(self, *, min_epochs: int, reduction_factor: int) -> None:
        self.min_epochs, self.reduction_factor = min_epochs, reduction_factor
        self._accuracies: dict[int, list[float]] = defaultdict(list)  # by epoch, in order

    def add(self, curve: Curve) -> None:
        """See :class:`Pruner`."""
        epoch = self.min_epochs
        while epoch <= len(curve.accuracies):
            insort(self._accuracies[epoch], curve.accuracies[epoch - 1])
            epoch *= self.reduction_factor

    def compare(self) -> Comparison:
        """See :class:`Pruner`; the new child is one of those that are counted."""
        return Comparison(
            {
                epoch: ordered[-max(1, (len(ordered) + 1) // self.reduction_factor)]
                for epoch, ordered in self._accuracies.items()
            }
        )


def _build_median(node: CfgNode) -> Pruner:
    return MedianPruner(num_startup_trials=node.NUM_STARTUP_TRIALS, min_epochs=node.MIN_EPOCHS)


def _build_asha(node: CfgNode) -> Pruner:
    return HalvingPruner(min_epochs=node.MIN_EPOCHS, reduction_factor=node.REDUCTION_FACTOR)


PRUNERS: dict[str, Callable[[CfgNode], Pruner]] = {
    "median": _build_median,
    "asha": _build_asha,
}


def build_pruner(cfg: CfgNode) -> Pruner | None:
    """The pruner that ``SEARCH.PRUNER.NAME`` names; None for the empty name.

    Raises:
        ConfigError: there is none of this name (the nearest is named), a key has an impossible
            value, or the search has several goals.
    """
    node = cfg.SEARCH.PRUNER
    if not node.NAME:
        return None
    if node.NAME not in PRUNERS:
        raise ConfigError(
            f"SEARCH.PRUNER.NAME: unknown pruner {node.NAME!r}, {nearest(node.NAME, PRUNERS)}"
        )
    for key, least in (("MIN_EPOCHS", 1), ("NUM_STARTUP_TRIALS", 0), ("REDUCTION_FACTOR", 2)):
        if node[key] < least:
            raise ConfigError(f"SEARCH.PRUNER.{key}: wanted at least {least}, got {node[key]}")
    if node.MIN_EPOCHS >= cfg.SEARCH.CHILD.EPOCHS:
        raise ConfigError(
            "SEARCH.PRUNER.MIN_EPOCHS: wanted less than SEARCH.CHILD.EPOCHS "
            f"({cfg.SEARCH.CHILD.EPOCHS}), as no child can be pruned before, got {node.MIN_EPOCHS}"
        )
    if list(cfg.SEARCH.GOALS) != ["accuracy"]:
        raise ConfigError(
            f"SEARCH.PRUNER.NAME: the pruner {node.NAME} compares accuracy alone, wanted "
            f"SEARCH.GOALS ['accuracy'], got {list(cfg.SEARCH.GOALS)}"
        )
    return PRUNERS[node.NAME](node)
