"""How an architecture and its reward are written in an Optuna trial.

Every decision is one categorical parameter, named and valued as in
:class:`~nasnet_det.space.Decision`, so that dashboards show ``normal.0.op_1: sep_conv_5x5``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nasnet_det.errors import InputError
from nasnet_det.search.job import Curve
from nasnet_det.space import Choices, SearchSpace

REWARDED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of children that a sampler learns from."""


def get_distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The parameters of a trial, for ``study.ask``."""
    return {d.name: CategoricalDistribution(d.values) for d in space.decisions}


def choices_to_params(space: SearchSpace, choices: Sequence[int]) -> dict[str, Any]:
    """A list of decisions as the parameters of a trial."""
    return {d.name: d.values[c] for d, c in zip(space.decisions, choices, strict=True)}


def params_to_choices(space: SearchSpace, params: Mapping[str, Any]) -> Choices:
    """The inverse of :func:`choices_to_params`.

    Raises:
        InputError: a parameter is missing or has a value that the space lacks.
    """
    for decision in space.decisions:
        if params.get(decision.name) not in decision.values:
            raise InputError(
                f"a trial of another search space: wanted {decision.name} to be one of "
                f"{list(decision.values)}, got {params.get(decision.name)!r}"
            )
    return tuple(d.values.index(params[d.name]) for d in space.decisions)


def trial_to_curve(trial: FrozenTrial) -> Curve | None:
    """How a finished child went; None where that was not recorded, or it failed or is under way."""
    if trial.state not in REWARDED_STATES or not trial.intermediate_values:
        return None
    return Curve(
        tuple(value for _, value in sorted(trial.intermediate_values.items())),
        trial.state is TrialState.COMPLETE,
    )


def get_rewarded_trials(
    study: Study, first: int, stop: int, *, all_finished: bool = True
) -> list[tuple[FrozenTrial, float]]:
    """The trials from ``first`` to ``stop - 1`` that have a reward, with it, by number.

    A trial that failed has none. One that was pruned has its last value. Of several goals the
    reward is the first.

    Raises:
        InputError: not all of these trials are finished, though they should be.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if first <= t.number < stop]
    num_finished = sum(t.state.is_finished() for t in trials)
    if all_finished and num_finished < stop - first:
        raise InputError(
            f"wanted trials {first} to {stop - 1} finished before number {stop} is proposed, "
            f"got {num_finished} of {stop - first}"
        )
    return [
        (t, t.values[0])
        for t in sorted(trials, key=lambda t: t.number)
        if t.state in REWARDED_STATES and t.values
    ]
