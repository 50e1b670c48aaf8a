"""Pruning: children that are hopeless beside earlier ones end before their last epoch.

The rules are Optuna's pruners. A pruner asks its study for the other trials; the one that it gets
here lies in the worker's memory and holds the children of earlier minibatches, which travel with
the job, and never those of the same minibatch. So which children are pruned does not depend on who
is finished first, and a search is the same for any number of workers and after a kill.

A pruned child ends as Optuna's PRUNED, with its last accuracy as value. That is what a sampler
learns from; it is below what the child would have reached, which is the price of the time saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState, create_trial
from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.genotype import nearest
from nasnet_det.search.job import Curve
from nasnet_det.search.journal import silence_optuna
from nasnet_det.search.trials import trial_to_curve


@dataclass(frozen=True)
class Comparison:
    """A rule, and the children that it compares with; plain values, so it travels with a job.

    Attributes:
        pruner: Optuna's.
        earlier: how earlier children went.
    """

    pruner: BasePruner
    earlier: tuple[Curve, ...] = ()

    def begin(self) -> Judge:
        """Begin with a new child."""
        return Judge(self)


class Judge:
    """Compares one child, after each of its epochs.

    Args:
        comparison: the rule and the earlier children.
    """

    def __init__(self, comparison: Comparison) -> None:
        silence_optuna()
        self._study = optuna.create_study(direction="maximize", pruner=comparison.pruner)
        self._study.add_trials([_to_trial(curve) for curve in comparison.earlier])
        self._trial = self._study.ask()

    def is_hopeless(self, accuracies: Sequence[float]) -> bool:
        """Whether to prune it.

        Args:
            accuracies: after each epoch so far; only the last is new.
        """
        self._trial.report(accuracies[-1], len(accuracies))
        return self._trial.should_prune()

    @property
    def notes(self) -> dict[str, Any]:
        """What the pruner has to know about this child when it judges later ones."""
        return dict(self._study.get_trials(deepcopy=False)[-1].system_attrs)


def _to_trial(curve: Curve) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE if curve.is_complete else TrialState.PRUNED,
        value=curve.accuracies[-1],
        intermediate_values=dict(enumerate(curve.accuracies, start=1)),
        system_attrs=curve.notes,
    )


def make_comparison(pruner: BasePruner, trials: Iterable[FrozenTrial]) -> Comparison:
    """What a new child is compared with: those of some trials that were trained themselves."""
    curves = (trial_to_curve(t) for t in trials if "duplicate_of" not in t.user_attrs)
    return Comparison(pruner, tuple(curve for curve in curves if curve))


def _build_median(node: CfgNode) -> BasePruner:
    return MedianPruner(n_startup_trials=node.NUM_STARTUP_TRIALS, n_warmup_steps=node.MIN_EPOCHS)


def _build_asha(node: CfgNode) -> BasePruner:
    return SuccessiveHalvingPruner(
        min_resource=node.MIN_EPOCHS, reduction_factor=node.REDUCTION_FACTOR
    )


PRUNERS: dict[str, Callable[[CfgNode], BasePruner]] = {
    "median": _build_median,
    "asha": _build_asha,
}


def build_pruner(cfg: CfgNode) -> BasePruner | None:
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
