"""Search by a predictor: a linear model of the reward says which of many candidates to train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nasnet_det.errors import InputError
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.runs.threads import one_thread
from nasnet_det.search.graph_features import compute_graph_features
from nasnet_det.search.promotion import promote
from nasnet_det.search.space_sampler import SpaceSampler
from nasnet_det.search.streams import Stream
from nasnet_det.search.trials import get_rewarded_trials, params_to_choices
from nasnet_det.space import Choices, SearchSpace

NUM_PARENTS = 20  # the best so far, of which candidates are made (ours, as the next two)
MOST_MUTATIONS = 3  # decisions in which a candidate may differ from its parent
MOST_FITTED = 2000  # children, the youngest, from which the model learns
MOST_MEASURED = 200  # children, the youngest, whose measures count too
MEASURE_WEIGHT = 8.0  # of a measure beside a graph feature; see benchmarks/zero_cost.py
MEASURES_KEY = "zero_cost_measures"
RIDGES = tuple(10.0**power for power in range(-2, 5))  # in units of the mean squared row


class _Data(NamedTuple):
    """What models are fitted to: standardized features (n, F), and for each goal values (n,), the
    higher the better, with their ridge.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    features: torch.Tensor
    goals: list[tuple[torch.Tensor, float]]

    @classmethod
    def of(cls, raw: torch.Tensor, goals: list[torch.Tensor], weights: torch.Tensor) -> _Data:
        """Of features as they are; ``weights`` (F,) say how much each counts."""
        mean, scale = raw.mean(0), raw.std(0)
        scale = torch.where(scale > 0, weights / scale, 0)  # what all have alike says nothing
        features = (raw - mean) * scale
        ridges = [choose_ridge(features, goal - goal.mean()) for goal in goals]
        return cls(mean, scale, features, list(zip(goals, ridges, strict=True)))

    def score(
        self, raw: torch.Tensor, shares: Sequence[float], rng: np.random.Generator
    ) -> torch.Tensor:
        """What models of randomly weighted children say of (m, F) features, summed: (m,).

        Each goal has its share, in its own standard deviations.
        """
        weights = torch.from_numpy(rng.exponential(size=len(self.features)))
        models = []
        for (values, ridge), share in zip(self.goals, shares, strict=True):
            model = fit_ridge(self.features, values, weights, ridge)
            models.append(model * share / values.std().clamp(min=1e-12))
        return ((raw - self.mean) * self.scale) @ torch.stack(models).sum(0)


class _Models(NamedTuple):
    """What is known before a minibatch.

    Attributes:
        graph: of the graph features, of many children.
        measured: of graph features and measures, of the youngest; None: there are no measures.
        parents: the best children.
    """

    graph: _Data
    measured: _Data | None
    parents: list[Choices]


class PredictorSampler(SpaceSampler):
    """Ridge regression on features of networks, with a model of its own for each proposal.

    A proposal's model is fitted to all children with a reward, each with a random weight (the
    Bayesian bootstrap). So the models differ where the children leave it open what is good, and
    taking the best candidate by one of them is Thompson's choice between looking there and taking
    what is known. The candidates that are best by their graph features alone are measured
    (:mod:`nasnet_det.search.zero_cost`), and a second model that has learned what measures say
    takes one of them. Half of the candidates are the best children with one to three decisions
    changed, the others are random; what was proposed before is none. (All ours.)

    Costs that are to be small, such as multiply-adds, are goals beside the reward. Each has a model
    of its logarithm. A proposal weighs the goals at random, each in its own standard deviations, as
    ParEGO does (Knowles, 2006), so that together they look for a whole front; then the best
    children are those that NSGA-II would keep.

    Args:
        space, minibatch, seed: see :class:`SpaceSampler`.
        num_startup: children with a reward before there is a model; until then all are random.
        num_candidates: for each proposal.
        measure: gives the measures of an architecture; None: graph features alone.
        num_measured: candidates of a proposal that are measured.
        asynchronous: all that are finished count, not those before this minibatch.
    """

    takes_costs = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        num_startup: int = 20,
        num_candidates: int = 200,
        measure: Callable[[Choices], np.ndarray] | None = None,
        num_measured: int = 8,
        minibatch: int = 20,
        seed: int = 0,
        asynchronous: bool = False,
    ) -> None:
        super().__init__(space, minibatch=minibatch, seed=seed)
        if num_measured < 0:
            raise InputError(f"wanted a number of candidates to measure, got {num_measured}")
        if num_startup < 2 or num_candidates < 2:
            raise InputError(
                "wanted at least 2 children before a predictor's first model and at least 2 "
                f"candidates, got {num_startup} and {num_candidates}"
            )
        self.num_startup, self.num_candidates = num_startup, num_candidates
        self.asynchronous = asynchronous
        self._measure, self.num_measured = measure, num_measured if measure else 0
        self._measures: dict[Choices, np.ndarray] = {}
        self._proposed: tuple[int, list[Choices]] = (-1, [])
        self._compute_features = lru_cache(maxsize=50_000)(self._compute)

    def _compute(self, choices: Choices) -> np.ndarray:
        return compute_graph_features(self.space, choices)

    def propose(self, study: Study, number: int) -> Choices:
        """The trial's row of its minibatch."""
        first = number if self.asynchronous else number - number % self.minibatch
        if self._proposed[0] != first:
            self._proposed = first, self._propose_minibatch(study, first)
        return self._proposed[1][number - first]

    def _propose_minibatch(self, study: Study, first: int) -> list[Choices]:
        models = self._prepare(study, first)
        known = {
            self.space.canonicalize(params_to_choices(self.space, trial.params))
            for trial in study.get_trials(deepcopy=False)
            if trial.number < first and trial.params
        }
        proposals: list[Choices] = []
        for i in range(first, first + (1 if self.asynchronous else self.minibatch)):
            rng = np.random.default_rng(derive_seed(self.seed, Stream.PREDICTOR, i))
            proposals.append(self._choose(models, known, rng) if models else self._draw(rng))
            known.add(self.space.canonicalize(proposals[-1]))
        return proposals

    def _prepare(self, study: Study, first: int) -> _Models | None:
        """What is known before a minibatch; None: too little for a model."""
        rewarded = get_rewarded_trials(study, 0, first, all_finished=not self.asynchronous)
        if len(rewarded) < self.num_startup:
            return None
        pairs = [(params_to_choices(self.space, t.params), reward) for t, reward in rewarded]
        costs = [(-reward, *(t.values or ())[1:]) for t, reward in rewarded]
        places = range(len(costs))
        has_costs = len(costs[0]) > 1
        order = promote(costs, len(costs)) if has_costs else sorted(places, key=lambda p: costs[p])
        parents = list(dict.fromkeys(pairs[place][0] for place in order))[:NUM_PARENTS]
        pairs, costs = pairs[-MOST_FITTED:], costs[-MOST_FITTED:]
        with one_thread():
            raw = self._stack(choices for choices, _ in pairs)
            reward, *others = torch.tensor(costs, dtype=torch.float64).neg().unbind(1)
            goals = [reward, *(-(-cost).clamp(min=1).log() for cost in others)]
            graph = _Data.of(raw, goals, torch.ones(raw.shape[1]))
            measured = None
            if self.num_measured:
                for trial, _ in rewarded[-MOST_MEASURED:]:
                    self._recall(trial)
                choices = [choices for choices, _ in pairs[-MOST_MEASURED:]]
                raw = torch.cat([raw[-MOST_MEASURED:], self._stack_measures(choices)], dim=1)
                weights = torch.ones(raw.shape[1])
                weights[graph.features.shape[1] :] = MEASURE_WEIGHT
                measured = _Data.of(raw, [goal[-MOST_MEASURED:] for goal in goals], weights)
        return _Models(graph, measured, parents)

    def _stack(self, architectures: Iterable[Choices]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._compute_features(c) for c in architectures]))

    def _stack_measures(self, architectures: Iterable[Choices]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._get_measures(c) for c in architectures]))

    def _get_measures(self, choices: Choices) -> np.ndarray:
        if choices not in self._measures:
            assert self._measure is not None
            self._measures[choices] = self._measure(choices)
        return self._measures[choices]

    def _recall(self, trial: FrozenTrial) -> None:
        """The measures that a study keeps of a trial, so that a resumed search need not measure."""
        if MEASURES_KEY in trial.system_attrs:
            choices = params_to_choices(self.space, trial.params)
            self._measures[choices] = np.array(trial.system_attrs[MEASURES_KEY])

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Keep the measures of a child in the study."""
        if self.num_measured and values is not None:
            measures = self._get_measures(params_to_choices(self.space, trial.params))
            study._storage.set_trial_system_attr(trial._trial_id, MEASURES_KEY, measures.tolist())

    def _choose(self, models: _Models, known: set[Choices], rng: np.random.Generator) -> Choices:
        candidates = [
            self._mutate(models.parents[rng.integers(len(models.parents))], rng)
            if i % 2
            else self._draw(rng)
            for i in range(self.num_candidates)
        ]
        new = [c for c in candidates if self.space.canonicalize(c) not in known]
        candidates = new or candidates  # of a small space all may be known
        with one_thread():
            num_goals = len(models.graph.goals)
            shares = rng.dirichlet([1.0] * num_goals).tolist() if num_goals > 1 else [1.0]
            scores = models.graph.score(self._stack(candidates), shares, rng)
            if models.measured is not None:
                best = scores.argsort(descending=True, stable=True)[: self.num_measured]
                candidates = [candidates[i] for i in best.tolist()]
                raw = torch.cat([self._stack(candidates), self._stack_measures(candidates)], dim=1)
                scores = models.measured.score(raw, shares, rng)
        return candidates[int(scores.argmax())]

    def _draw(self, rng: np.random.Generator) -> Choices:
        return tuple(int(rng.integers(number)) for number in self.space.num_choices)

    def _mutate(self, choices: Choices, rng: np.random.Generator) -> Choices:
        changed = list(choices)
        for _ in range(1 + int(rng.integers(MOST_MUTATIONS))):
            place = int(rng.integers(len(changed)))
            changed[place] = int(rng.integers(self.space.num_choices[place]))
        return tuple(changed)


def fit_ridge(
    features: torch.Tensor, rewards: torch.Tensor, weights: torch.Tensor, ridge: float
) -> torch.Tensor:
    """The linear model of least weighted squared error, shrunk.

    Args:
        features: (n, F).
        rewards, weights: (n,).
        ridge: weight of the model's squared norm, in units of the rows' mean squared norm.

    Returns:
        (F,); its intercept is left out, as only the order of its predictions counts.
    """
    weights = weights / weights.mean()
    centred = features - (weights[:, None] * features).mean(0)
    targets = rewards - (weights * rewards).mean()
    root = weights.sqrt()
    rows = root[:, None] * centred
    gram = rows @ rows.T
    penalty = ridge * gram.diagonal().mean().clamp(min=1e-12)
    eye = torch.eye(len(rows), dtype=rows.dtype)
    return rows.T @ torch.linalg.solve(gram + penalty * eye, root * targets)


def choose_ridge(features: torch.Tensor, rewards: torch.Tensor) -> float:
    """The ridge that predicts each child best from the others.

    Args:
        features: (n, F), each of mean 0.
        rewards: (n,), of mean 0.
    """
    gram = features @ features.T
    values, vectors = torch.linalg.eigh(gram)
    values, unit = values.clamp(min=0), gram.diagonal().mean().clamp(min=1e-12)
    turned = vectors.T @ rewards
    errors = []
    for ridge in RIDGES:
        shrinkage = values / (values + ridge * unit)
        fitted = vectors @ (shrinkage * turned)
        leverage = (vectors.square() * shrinkage).sum(1) + 1 / len(rewards)
        errors.append(float(((rewards - fitted) / (1 - leverage).clamp(min=1e-6)).square().mean()))
    return RIDGES[int(np.argmin(errors))]
