"""The planted reward's known optimum, and a small version of the benchmark."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest

from benchmarks import search_planted_reward as benchmark


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.mark.parametrize("seed", range(5))
def test_optimum_and_mean_are_those_of_all_lists(seed: int) -> None:
    num_choices = (2, 3, 1, 4, 2)
    planted = benchmark.PlantedReward(num_choices, seed, pair_weight=2.0)
    rewards = {c: planted(c) for c in itertools.product(*map(range, num_choices))}
    assert max(rewards, key=lambda c: rewards[c]) == planted.optimum
    assert rewards[planted.optimum] == pytest.approx(1)
    assert np.mean(list(rewards.values())) == pytest.approx(0, abs=1e-12)


SMALL = [
    "SEARCH.SPACE.NUM_BLOCKS",
    "3",
    "SEARCH.SPACE.OPERATIONS",
    "['identity','conv_1x1','sep_conv_3x3','avg_pool_3x3']",
]


@pytest.mark.parametrize("name", ["controller", "evolution"])
def test_samplers_are_ahead_of_random(name: str) -> None:
    random, learned = (
        benchmark.summarize(benchmark.run_search(sampler, 0, [*SMALL, "SEARCH.NUM_TRIALS", "400"]))
        for sampler in ("random", name)
    )
    assert learned["best"] > random["best"]
    assert learned["top 25"] > random["top 25"] + 0.1
    assert learned["last tenth"] > random["last tenth"] + 0.2


def test_shipped_config_learns_and_the_papers_numbers_do_not_in_so_few_children() -> None:
    """200 children: with the paper's rate and minibatch the controller ends where it began."""
    papers = ["SEARCH.PPO.LR", "3.5e-4", "SEARCH.SAMPLER.MINIBATCH", "20"]
    settings: list[tuple[str, list[str], float, float]] = [
        ("controller", [], 0.35, 1.0),
        ("evolution", [], 0.1, 1.0),
        ("controller", papers, -0.1, 0.1),
    ]
    for name, opts, least, most in settings:
        for seed in range(1 if opts else 2):
            rewards = benchmark.run_search(name, seed, opts, "search/cifar10_cpu.yaml")
            assert len(rewards) == 200
            assert least < benchmark.summarize(rewards)["last tenth"] < most


def test_command_writes_its_table_and_fails_where_nothing_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After one minibatch the controller has learned nothing: it is not ahead in each seed."""
    words = f"x --configs search/demo.yaml --seeds 4 --trials 10 --output {tmp_path} --samplers"
    words += " random controller"
    monkeypatch.setattr(sys, "argv", words.split())
    assert benchmark.main() == 1
    assert "not ahead of random in 95% of the seeds: controller with 10" in capsys.readouterr().out
    table = (tmp_path / "search_planted_reward.md").read_text()
    assert "| controller | " in table
    assert "/4)" in table
    facts = json.loads((tmp_path / "search_planted_reward.json").read_text())
    assert [search["num_trials"] for search in facts["searches"]] == [10]
    seeds = facts["searches"][0]["seeds"]
    assert [len(seeds[name]) for name in ("random", "controller")] == [4, 4]
