"""The predictor: features of the network alone, a ridge by the book, and whom it proposes."""

from __future__ import annotations

import random

import numpy as np
import optuna
import pytest
import torch

from nasnet_det.search.config import get_search_config
from nasnet_det.search.graph_features import compute_graph_features
from nasnet_det.search.predictor_sampler import (
    RIDGES,
    PredictorSampler,
    choose_ridge,
    fit_ridge,
)
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.trials import get_distributions, params_to_choices
from nasnet_det.space import Decision, SearchSpace

SPACE = SearchSpace()
SMALL = SearchSpace(2, ("identity", "conv_1x1"), ("add",))


# ---- Features


def test_lists_that_describe_one_network_have_the_same_features() -> None:
    rng = random.Random(0)
    for _ in range(20):
        choices = SPACE.sample(rng)
        features = compute_graph_features(SPACE, choices)
        assert np.array_equal(features, compute_graph_features(SPACE, SPACE.canonicalize(choices)))
        swapped = list(choices)
        swapped[0], swapped[1], swapped[2], swapped[3] = (choices[i] for i in (1, 0, 3, 2))
        if choices[4] == 0:  # add: its sides can be exchanged
            assert np.array_equal(features, compute_graph_features(SPACE, swapped))


def test_features_count_what_is_in_each_cell() -> None:
    """Of two blocks: identity(h) + conv(h_prev), then conv(block 0) + conv(block 0)."""
    normal = (0, 1, 0, 1, 0, 2, 2, 1, 1, 0)
    reduction = (0, 0, 0, 0, 0, 1, 1, 0, 0, 0)
    features = compute_graph_features(SMALL, (*normal, *reduction))
    tail = features[sum(SMALL.num_choices) :]
    # operations on inputs, operations on blocks, combiners, reads of h and h_prev, outputs, depth
    assert tail[:9].tolist() == [1, 1, 0, 2, 2, 1, 1, 1, 2]
    assert tail[9:].tolist() == [4, 0, 0, 0, 2, 2, 2, 2, 1]
    assert features[: sum(SMALL.num_choices)].sum() == len(SMALL.decisions)


# ---- The model


def test_ridge_is_the_weighted_least_squares_of_augmented_rows() -> None:
    """Recomputed without the kernel: the penalty as so many rows more, the mean as a column."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(30, 8)), rng.normal(size=30), rng.exponential(size=30)
    model = fit_ridge(*map(torch.from_numpy, (x, y, w)), 0.3)
    w = w / w.mean()
    x0, y0 = x - (w @ x) / 30, y - (w @ y) / 30
    penalty = 0.3 * (w * (x0**2).sum(1)).mean()
    rows = np.vstack([np.sqrt(w)[:, None] * x0, np.sqrt(penalty) * np.eye(8)])
    targets = np.concatenate([np.sqrt(w) * y0, np.zeros(8)])
    wanted = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(model.numpy(), wanted, rtol=1e-8)


def test_ridge_is_small_for_clear_rewards_and_large_for_noise() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(60, 10)))
    x = x - x.mean(0)
    clear = x @ torch.from_numpy(rng.normal(size=10))
    noise = torch.from_numpy(rng.normal(size=60))
    assert choose_ridge(x, clear - clear.mean()) == RIDGES[0]
    assert choose_ridge(x, noise - noise.mean()) >= 1


# ---- What it proposes


def test_nothing_is_proposed_twice_until_a_space_is_used_up() -> None:
    space = SearchSpace(1, ("identity", "conv_1x1"), ("add",))
    sampler = PredictorSampler(space, num_startup=4, num_candidates=64, minibatch=4)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    keys = []
    for _ in range(15):
        for trial in [study.ask(get_distributions(space)) for _ in range(4)]:
            choices = params_to_choices(space, trial.params)
            keys.append(space.canonicalize(choices))
            study.tell(trial, float(sum(choices)))
    count = space.count_architectures()
    first = keys[4:40]
    assert len(set(first)) == len(first) < count
    assert len(set(keys)) > 0.5 * count


def test_it_is_ahead_of_random_with_few_children_and_much_noise() -> None:
    """A reward that counts one operation, under noise twice as large as what it can tell apart."""
    rng = np.random.default_rng(0)
    means = {}
    for name in ("random", "predictor"):
        opts = ["SEARCH.SAMPLER.NAME", name, "SEARCH.NUM_TRIALS", "100"]
        opts += ["SEARCH.PREDICTOR.NUM_MEASURED", "0"]
        study = optuna.create_study(
            direction="maximize", sampler=build_sampler(get_search_config(opts=opts), SPACE)
        )
        true = []
        for _ in range(14):
            for trial in [study.ask(get_distributions(SPACE)) for _ in range(7)]:
                true.append(sum(value == "sep_conv_5x5" for value in trial.params.values()))
                study.tell(trial, true[-1] + 2 * rng.normal())
        means[name] = np.mean(true[-28:])
    assert means["predictor"] > means["random"] + 2


def _measure_area(points: list[tuple[float, float]]) -> float:
    """Between a front of rewards and costs and the worst that can be, reward 0 and cost 20."""
    area, best = 0.0, 0.0
    for reward, cost in sorted(points, key=lambda point: (point[1], -point[0])):
        if reward > best:
            area, best = area + (reward - best) * (20 - cost), reward
    return area


def test_its_front_of_reward_and_cost_is_ahead_of_random() -> None:
    """One operation is worth what it costs, one costs and is worth nothing, channels are both."""
    space = SearchSpace(extras=(Decision("channels", (8, 16, 32)),))
    areas = {}
    for name in ("random", "predictor"):
        opts = ["SEARCH.SAMPLER.NAME", name, "SEARCH.NUM_TRIALS", "98"]
        opts += ["SEARCH.PREDICTOR.NUM_MEASURED", "0"]
        study = optuna.create_study(
            directions=["maximize", "minimize"],
            sampler=build_sampler(get_search_config(opts=opts), space),
        )
        points = []
        for _ in range(14):
            for trial in [study.ask(get_distributions(space)) for _ in range(7)]:
                values = list(trial.params.values())
                worth = values.count("sep_conv_5x5") + values[-1] / 16
                cost = worth + values.count("sep_conv_7x7") + values.count("conv_3x3")
                points.append((float(worth), float(1 + cost)))
                study.tell(trial, points[-1])
        areas[name] = _measure_area(points)
    assert areas["predictor"] > 1.1 * areas["random"]


@pytest.mark.parametrize("key", ["NUM_STARTUP_TRIALS", "NUM_CANDIDATES"])
def test_impossible_predictor_is_one_sentence(key: str) -> None:
    opts = ["SEARCH.SAMPLER.NAME", "predictor", f"SEARCH.PREDICTOR.{key}", "1"]
    with pytest.raises(ValueError, match="wanted at least 2 children before a predictor's"):
        build_sampler(get_search_config(opts=opts), SPACE)


def _search_measured(study: optuna.Study, num: int) -> list[float]:
    """Rewards that the measures tell, and the graph hardly: one bit of the choices' hash."""
    rewards = []
    for _ in range(num):
        trial = study.ask(get_distributions(SPACE))
        rewards.append(_tell(params_to_choices(SPACE, trial.params)))
        study.tell(trial, rewards[-1])
    return rewards


def _tell(choices: tuple[int, ...]) -> float:
    return random.Random(str(SPACE.canonicalize(choices))).random()


def test_it_learns_what_measures_say() -> None:
    means = {}
    for num_measured in (0, 10):
        sampler = PredictorSampler(
            SPACE,
            num_startup=10,
            num_candidates=30,
            measure=lambda choices: np.array([-_tell(choices), 0.5]),
            num_measured=num_measured,
            minibatch=1,
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        means[num_measured] = np.mean(_search_measured(study, 30)[10:])
    assert means[10] > means[0] + 0.2


def test_a_study_keeps_the_measures_of_its_children() -> None:
    measured: list[tuple[int, ...]] = []

    def measure(choices: tuple[int, ...]) -> np.ndarray:
        measured.append(choices)
        return np.array([_tell(choices)])

    options = {"num_startup": 4, "num_candidates": 6, "measure": measure, "num_measured": 2}
    study = optuna.create_study(
        direction="maximize", sampler=PredictorSampler(SPACE, minibatch=1, **options)
    )
    _search_measured(study, 6)
    trained = [params_to_choices(SPACE, trial.params) for trial in study.trials]
    assert set(trained) <= set(measured)
    before = len(measured)
    study.sampler = PredictorSampler(SPACE, minibatch=1, **options)  # a resumed search
    study.ask(get_distributions(SPACE))
    assert len(measured) == before + 2
    assert not set(measured[before:]) & set(trained)
