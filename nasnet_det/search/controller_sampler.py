"""The controller as a sampler: it draws architectures and learns from their rewards."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nasnet_det.errors import InputError
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.runs.threads import one_thread
from nasnet_det.search.ppo import PPO, PPOStats
from nasnet_det.search.space_sampler import SpaceSampler
from nasnet_det.search.streams import Stream
from nasnet_det.search.trials import choices_to_params, get_rewarded_trials, params_to_choices
from nasnet_det.space import Choices, SearchSpace

logger = logging.getLogger(__name__)

COLLAPSED = 0.02
"""Part of the highest entropy below which a controller has settled (ours): of 50 decisions one or
two are still open."""


class ControllerSampler(SpaceSampler):
    """The paper's controller, one PPO update after each minibatch.

    Minibatch k is drawn from the controller after it has learned minibatches 0 to k - 1. Learning
    happens when minibatch k is asked for, so the state that :meth:`state_dict` saves may be of any
    earlier minibatch: the rest is learned again from the study.

    Args:
        space, minibatch, seed: see :class:`SpaceSampler`.
        ppo: the learner and its controller.
        on_update: called with the minibatch's number and what the update did.
    """

    def __init__(
        self,
        space: SearchSpace,
        ppo: PPO,
        *,
        minibatch: int = 20,
        seed: int = 0,
        on_update: Callable[[int, PPOStats], None] | None = None,
    ) -> None:
        super().__init__(space, minibatch=minibatch, seed=seed)
        self.ppo = ppo
        self.on_update = on_update
        self.num_learned = 0  # minibatches, those without any reward included
        self._drawn: tuple[int, list[list[int]]] = (-1, [])
        self._is_collapsed = False

    def propose(self, study: Study, number: int) -> Choices:
        """The trial's row of its minibatch."""
        index, row = divmod(number, self.minibatch)
        if index < self.num_learned:
            raise InputError(
                f"the controller has learned {self.num_learned} minibatches of {self.minibatch} "
                f"and can't go back to trial {number}"
            )
        with one_thread():
            while self.num_learned < index:
                self._learn(study)
            if self._drawn[0] != index:
                generator = torch.Generator().manual_seed(
                    derive_seed(self.seed, Stream.MINIBATCH, index)
                )
                rollout = self.ppo.controller.sample(self.minibatch, generator)
                self._drawn = index, rollout.choices.tolist()
        return tuple(self._drawn[1][row])

    def _learn(self, study: Study) -> None:
        first = self.num_learned * self.minibatch
        self._update(get_rewarded_trials(study, first, first + self.minibatch))

    def _update(self, rewarded: Sequence[tuple[FrozenTrial, float]]) -> None:
        """Learn from a minibatch, of which these have a reward."""
        if rewarded:
            choices = [params_to_choices(self.space, trial.params) for trial, _ in rewarded]
            rewards = [reward for _, reward in rewarded]
            old_log_probs = self._get_old_log_probs([trial for trial, _ in rewarded])
            stats = self.ppo.update(torch.tensor(choices), rewards, old_log_probs)
            logger.info("minibatch %d: %s", self.num_learned, stats)
            self._warn_of_collapse(stats.entropy)
            if self.on_update:
                self.on_update(self.num_learned, stats)
        else:
            logger.warning("minibatch %d: no trial has a reward", self.num_learned)
        self.num_learned += 1

    def _warn_of_collapse(self, entropy: float) -> None:
        """Say once that hardly anything new will be proposed."""
        highest = sum(map(math.log, self.space.num_choices))
        if entropy < COLLAPSED * highest and not self._is_collapsed:
            logger.warning(
                "minibatch %d: the controller has settled, its entropy is %.1f of %.1f nats; what "
                "it proposes from now on is hardly new (a smaller SEARCH.PPO.LR or a larger "
                "SEARCH.PPO.ENTROPY_WEIGHT keeps it searching)",
                self.num_learned,
                entropy,
                highest,
            )
        self._is_collapsed = entropy < COLLAPSED * highest

    def _get_old_log_probs(self, trials: Sequence[FrozenTrial]) -> torch.Tensor | None:
        """None: the controller is still the one that drew them."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Everything that later proposals depend on beside the study."""
        return {"ppo": self.ppo.state_dict(), "num_learned": self.num_learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, exactly."""
        self.ppo.load_state_dict(state["ppo"])
        self.num_learned = state["num_learned"]
        self._drawn = (-1, [])


class AsyncControllerSampler(ControllerSampler):
    """The controller for results that come in any order.

    An architecture is drawn from the controller as it is when it is asked for, and an update is
    made whenever a minibatch of trials has finished. So an architecture may be older than the
    controller that learns from it: the log-probability that it was drawn with stays with its trial,
    and is the old one of PPO's ratio.
    """

    _LOG_PROB = "controller:log_prob"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._finished: list[tuple[FrozenTrial, float | None]] = []  # not yet a whole minibatch
        self._num_finished_minibatches = 0

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One architecture of its own, as parameters."""
        seed = derive_seed(self.seed, Stream.MINIBATCH, trial.number)
        with one_thread():
            drawn = self.ppo.controller.sample(1, torch.Generator().manual_seed(seed))
        log_prob = drawn.log_probs.item()
        study._storage.set_trial_system_attr(trial._trial_id, self._LOG_PROB, log_prob)
        return choices_to_params(self.space, drawn.choices[0].tolist())

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Learn if a minibatch is whole, unless a loaded state has learned it already."""
        self._finished.append((trial, values[0] if values else None))
        if len(self._finished) < self.minibatch:
            return
        if self._num_finished_minibatches == self.num_learned:
            with one_thread():
                self._update([(t, reward) for t, reward in self._finished if reward is not None])
        self._num_finished_minibatches += 1
        self._finished = []

    def _get_old_log_probs(self, trials: Sequence[FrozenTrial]) -> torch.Tensor | None:
        return torch.tensor([trial.system_attrs[self._LOG_PROB] for trial in trials])
