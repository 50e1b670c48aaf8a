"""What the project's own samplers have in common, as Optuna sees it."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from nasnet_det.errors import InputError
from nasnet_det.search.trials import choices_to_params, get_distributions
from nasnet_det.space import Choices, SearchSpace


class SpaceSampler(BaseSampler):
    """What the project's own samplers have in common: they make all decisions of a trial at once.

    Args:
        space: the search space.
        minibatch: number of trials in a minibatch.
        seed: 0 or more.
    """

    takes_costs = False
    """Whether goals to minimize may follow the one to maximize."""

    def __init__(self, space: SearchSpace, *, minibatch: int = 20, seed: int = 0) -> None:
        if minibatch < 1:
            raise InputError(f"wanted a minibatch of at least 1, got {minibatch}")
        self.space, self.minibatch, self.seed = space, minibatch, seed

    def propose(self, study: Study, number: int) -> Choices:
        """The decisions of a trial."""
        raise NotImplementedError

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Optuna's question for the parameters that are chosen together: all."""
        first, *others = study.directions
        is_known = first is StudyDirection.MAXIMIZE and StudyDirection.MAXIMIZE not in others
        if not is_known or (others and not self.takes_costs):
            wanted = "at first one goal" if self.takes_costs else "one goal"
            raise InputError(
                f"{type(self).__name__} wants a study with {wanted} to maximize, "
                f"got directions {[d.name.lower() for d in study.directions]}"
            )
        return get_distributions(self.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal as parameters."""
        return choices_to_params(self.space, self.propose(study, trial.number))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Nothing can be chosen beside the decisions of the space."""
        raise ValueError(f"{param_name!r} with {param_distribution} is not in the search space")
