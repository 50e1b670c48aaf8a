"""The controller as a sampler: it draws minibatches and learns from their rewards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from optuna.study import Study

from nasnet_det.search.ppo import PPO, PPOStats
from nasnet_det.search.seed import Stream, derive_seed
from nasnet_det.search.space import Choices, SearchSpace
from nasnet_det.search.space_sampler import SpaceSampler
from nasnet_det.search.threads import one_thread
from nasnet_det.search.trials import get_rewarded_trials, params_to_choices

logger = logging.getLogger(__name__)


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

    def propose(self, study: Study, number: int) -> Choices:
        """The trial's row of its minibatch."""
        index, row = divmod(number, self.minibatch)
        if index < self.num_learned:
            raise ValueError(
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
        rewarded = get_rewarded_trials(study, first, first + self.minibatch)
        if rewarded:
            choices = [params_to_choices(self.space, trial.params) for trial, _ in rewarded]
            stats = self.ppo.update(torch.tensor(choices), [reward for _, reward in rewarded])
            logger.info("minibatch %d: %s", self.num_learned, stats)
            if self.on_update:
                self.on_update(self.num_learned, stats)
        else:
            logger.warning("minibatch %d: no trial has a reward", self.num_learned)
        self.num_learned += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that later proposals depend on beside the study."""
        return {"ppo": self.ppo.state_dict(), "num_learned": self.num_learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, exactly."""
        self.ppo.load_state_dict(state["ppo"])
        self.num_learned = state["num_learned"]
        self._drawn = (-1, [])
