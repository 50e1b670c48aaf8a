"""What 0 in a search's config stands for: the paper's numbers for its length, others for shorter."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from planted_search import OPTS, search

from nasnet_det.config import list_configs
from nasnet_det.search.config import build_ppo, get_search_config
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.scaling import choose_minibatch, choose_population, choose_rate, settle
from nasnet_det.space import SearchSpace


def read(*opts: str) -> tuple[int, float, int, int]:
    node = settle(get_search_config(opts=opts)).SEARCH
    evolution = node.EVOLUTION
    return node.SAMPLER.MINIBATCH, node.PPO.LR, evolution.POPULATION, evolution.TOURNAMENT


def test_the_papers_length_has_the_papers_numbers() -> None:
    assert read() == (20, 3.5e-4, 100, 25)


def test_shorter_searches_have_smaller_minibatches_and_larger_rates() -> None:
    assert read("SEARCH.NUM_TRIALS", "200") == (10, 0.005, 20, 10)
    lengths = (1, 8, 50, 200, 500, 1000, 5000, 20000, 10**6)
    for less, more in pairwise(lengths):
        assert 1 <= choose_minibatch(less) <= choose_minibatch(more) <= 20
        assert choose_rate(less) >= choose_rate(more) > 0
        assert 20 <= choose_population(less) <= choose_population(more) <= 100


def test_what_is_given_stays_and_the_rate_follows_the_given_minibatch() -> None:
    opts = [
        "SEARCH.NUM_TRIALS",
        "200",
        "SEARCH.SAMPLER.MINIBATCH",
        "4",
        "SEARCH.EVOLUTION.POPULATION",
        "48",
    ]
    assert read(*opts) == (4, choose_rate(50), 48, 12)
    assert read(*opts, "SEARCH.PPO.LR", "0.1")[1] == 0.1


def test_numbers_reach_what_they_are_for() -> None:
    cfg = get_search_config(opts=["SEARCH.NUM_TRIALS", "200"])
    assert build_ppo(cfg, SearchSpace()).optimizer.param_groups[0]["lr"] == 0.005
    cfg.SEARCH.SAMPLER.NAME = "evolution"
    sampler = build_sampler(cfg, SearchSpace())
    assert (sampler.minibatch, sampler.population, sampler.tournament) == (10, 20, 10)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [n for n in list_configs() if n.startswith("search/")])
def test_shipped_configs_leave_the_choice_to_the_rule(name: str) -> None:
    node = get_search_config(name).SEARCH
    assert (node.PPO.LR, node.EVOLUTION.POPULATION, node.EVOLUTION.TOURNAMENT) == (0, 0, 0)
    assert (8 if name == "search/demo.yaml" else 0) == node.SAMPLER.MINIBATCH


def test_search_that_is_made_longer_keeps_the_numbers_that_it_began_with(tmp_path: Path) -> None:
    free = [key for pair in zip(OPTS[::2], OPTS[1::2], strict=True) for key in pair
            if pair[0] not in ("SEARCH.PPO.LR", "SEARCH.SAMPLER.MINIBATCH")]  # fmt: skip
    assert len(free) == len(OPTS) - 4
    zeros = ("SEARCH.PPO.LR", "0", "SEARCH.SAMPLER.MINIBATCH", "0")
    begun = ("SEARCH.PPO.LR", "0.008", "SEARCH.SAMPLER.MINIBATCH", "2")
    assert read(*free, "SEARCH.NUM_TRIALS", "8")[:2] == (2, 0.008)
    search(tmp_path / "grown", *zeros, "SEARCH.NUM_TRIALS", "8")
    found = search(tmp_path / "grown", *zeros, resume=True)
    assert found == search(tmp_path / "plain", *begun)
