"""How a search chooses its next architecture, behind one interface: Optuna's sampler.

``build_sampler`` makes any of them from a config:

========== ======================================================================================
controller the paper's: an LSTM that learns from rewards by PPO
random     uniform over the lists of decisions, the paper's baseline
evolution  regularized evolution (AmoebaNet, arXiv 1802.01548, section 3)
predictor  a linear model of the reward chooses among candidates
tpe        Optuna's tree-structured Parzen estimator
nsga2      Optuna's NSGA-II, for several goals at once
========== ======================================================================================

What a sampler proposes for a trial depends on the seed,
the trial's number and the results of earlier minibatches (trials 0 to 19, 20 to 39, ...), and on
nothing else. So a search that asks for a whole minibatch before it tells any of its results is the
same for any number of workers, and the same again after it was killed. (In an asynchronous search
it is all results that are there.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.config import build_ppo
from nasnet_det.search.controller_sampler import AsyncControllerSampler, ControllerSampler
from nasnet_det.search.evolution_sampler import EvolutionSampler
from nasnet_det.search.predictor_sampler import PredictorSampler
from nasnet_det.search.recipe import build_recipe
from nasnet_det.search.scaling import settle
from nasnet_det.search.streams import Stream
from nasnet_det.search.zero_cost import ZeroCostMeasures
from nasnet_det.space import SearchSpace


class TrialSeededSampler(BaseSampler):
    """An Optuna sampler that is made anew for each trial, its seed mixed from the trial's number.

    Args:
        build: makes the sampler from a seed.
        seed: 0 or more.
    """

    def __init__(self, build: Callable[[int], BaseSampler], *, seed: int = 0) -> None:
        self._build, self.seed = build, seed
        self._samplers: dict[int, BaseSampler] = {}  # of trials under way

    def _sampler(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            seed = derive_seed(self.seed, Stream.OPTUNA, trial.number)
            self._samplers[trial.number] = self._build(seed)
        return self._samplers[trial.number]

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """See Optuna."""
        sampler = self._sampler(trial)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See Optuna."""
        self._sampler(trial).after_trial(study, trial, state, values)
        del self._samplers[trial.number]


def _build_controller(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    kind = AsyncControllerSampler if cfg.SEARCH.ASYNCHRONOUS else ControllerSampler
    minibatch, seed = cfg.SEARCH.SAMPLER.MINIBATCH, cfg.SEARCH.SEED
    return kind(space, build_ppo(cfg, space), minibatch=minibatch, seed=seed)


def _build_evolution(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    return EvolutionSampler(
        space,
        population=cfg.SEARCH.EVOLUTION.POPULATION,
        tournament=cfg.SEARCH.EVOLUTION.TOURNAMENT,
        minibatch=cfg.SEARCH.SAMPLER.MINIBATCH,
        seed=cfg.SEARCH.SEED,
        asynchronous=cfg.SEARCH.ASYNCHRONOUS,
    )


def _build_predictor(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    measure = None
    if cfg.SEARCH.PREDICTOR.NUM_MEASURED:
        recipe, size = build_recipe(cfg), cfg.SEARCH.DATA.IMAGE_SIZE
        measure = ZeroCostMeasures(recipe, space, image_size=size)
    return PredictorSampler(
        space,
        num_startup=cfg.SEARCH.PREDICTOR.NUM_STARTUP_TRIALS,
        num_candidates=cfg.SEARCH.PREDICTOR.NUM_CANDIDATES,
        measure=measure,
        num_measured=cfg.SEARCH.PREDICTOR.NUM_MEASURED,
        minibatch=cfg.SEARCH.SAMPLER.MINIBATCH,
        seed=cfg.SEARCH.SEED,
        asynchronous=cfg.SEARCH.ASYNCHRONOUS,
    )


def _build_random(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    return TrialSeededSampler(lambda seed: RandomSampler(seed=seed), seed=cfg.SEARCH.SEED)


def _build_tpe(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    num_startup = cfg.SEARCH.TPE.NUM_STARTUP_TRIALS
    return TrialSeededSampler(
        lambda seed: TPESampler(n_startup_trials=num_startup, seed=seed), seed=cfg.SEARCH.SEED
    )


def _build_nsga2(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    population = cfg.SEARCH.NSGA2.POPULATION
    return TrialSeededSampler(
        lambda seed: NSGAIISampler(population_size=population, seed=seed), seed=cfg.SEARCH.SEED
    )


SAMPLERS: dict[str, Callable[[CfgNode, SearchSpace], BaseSampler]] = {
    "controller": _build_controller,
    "random": _build_random,
    "evolution": _build_evolution,
    "predictor": _build_predictor,
    "tpe": _build_tpe,
    "nsga2": _build_nsga2,
}


def build_sampler(cfg: CfgNode, space: SearchSpace) -> BaseSampler:
    """The sampler that ``SEARCH.SAMPLER.NAME`` names.

    Raises:
        InputError: no sampler has this name (the nearest is named), or a key has an impossible
            value.
    """
    name = cfg.SEARCH.SAMPLER.NAME
    if name not in SAMPLERS:
        raise InputError(
            f"SEARCH.SAMPLER.NAME: unknown sampler {name!r}, {nearest(name, SAMPLERS)}"
        )
    return SAMPLERS[name](settle(cfg), space)
