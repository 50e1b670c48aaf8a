"""Regularized evolution (AmoebaNet)."""

from __future__ import annotations

import numpy as np
from optuna.study import Study

from nasnet_det.errors import InputError
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.space_sampler import SpaceSampler
from nasnet_det.search.streams import Stream
from nasnet_det.search.trials import get_rewarded_trials, params_to_choices
from nasnet_det.space import Choices, SearchSpace


class EvolutionSampler(SpaceSampler):
    """Regularized evolution: the oldest die, whatever their reward.

    The population are the youngest architectures with a reward. The best of a random tournament
    is copied with one decision changed. Source of the numbers: arXiv 1802.01548, section 3.2
    (population 100, tournament 25). Where that paper changes a hidden state or an operation, here
    any one decision takes any other value, each as likely (ours).

    Args:
        space, minibatch, seed: see :class:`SpaceSampler`.
        population: architectures that are alive; as many are drawn at random first.
        tournament: architectures that compete, drawn with replacement.
        asynchronous: the population are all that are finished, not those before this minibatch.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int = 100,
        tournament: int = 25,
        minibatch: int = 20,
        seed: int = 0,
        asynchronous: bool = False,
    ) -> None:
        super().__init__(space, minibatch=minibatch, seed=seed)
        if population < 1 or tournament < 1:
            raise InputError(
                f"wanted a population and a tournament of at least 1, got {population} and "
                f"{tournament}"
            )
        self.population, self.tournament = population, tournament
        self.asynchronous = asynchronous

    def propose(self, study: Study, number: int) -> Choices:
        """A random list at first, then a child of the population."""
        rng = np.random.default_rng(derive_seed(self.seed, Stream.EVOLUTION, number))
        stop = number if self.asynchronous else number - number % self.minibatch
        rewarded = get_rewarded_trials(study, 0, stop, all_finished=not self.asynchronous)
        alive = rewarded[-self.population :]
        if len(alive) < self.population:
            return tuple(int(rng.integers(n)) for n in self.space.num_choices)
        candidates = [alive[i] for i in rng.integers(len(alive), size=self.tournament)]
        parent, _ = max(candidates, key=lambda candidate: candidate[1])
        return self.mutate(params_to_choices(self.space, parent.params), rng)

    def mutate(self, choices: Choices, rng: np.random.Generator) -> Choices:
        """The same list with one decision changed."""
        open_decisions = [i for i, n in enumerate(self.space.num_choices) if n > 1]
        place = open_decisions[rng.integers(len(open_decisions))]
        step = 1 + int(rng.integers(self.space.num_choices[place] - 1))
        changed = (choices[place] + step) % self.space.num_choices[place]
        return (*choices[:place], changed, *choices[place + 1 :])
