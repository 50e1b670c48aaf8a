"""Numbers that depend on how many children a search has: what 0 in its config stands for.

The paper's rate and minibatch are for 20,000 children; with 200 of them the controller has hardly
moved when the search is over. The rule, with n children:

- A minibatch has the root of n / 2, at most the paper's 20: a short search needs updates too.
- The controller's rate falls with its number u of updates as u to the power of -0.68. The power is
  that which leads from 0.005 at 20 updates to the paper's 0.00035 at 1,000; below 10 updates it
  stays what it is there.
- Evolution keeps the root of n architectures alive, 20 at least and the paper's 100 at most; a
  quarter of them compete, as there, but not less than 10.

``benchmarks/search_planted_reward.py`` measures it for several n. A study keeps the numbers that it
began with, also where it is made longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

PAPER_MINIBATCH, PAPER_RATE, PAPER_UPDATES = 20, 3.5e-4, 1000  # arXiv 1707.07012, appendix A
PAPER_POPULATION = 100  # arXiv 1802.01548, section 3.2
MEASURED_RATE, MEASURED_UPDATES = 0.005, 20
FEWEST_UPDATES = 10


def choose_minibatch(num_trials: int) -> int:
    """Architectures that are proposed together in a search of so many children."""
    return max(1, min(PAPER_MINIBATCH, round(math.sqrt(num_trials / 2))))


def choose_rate(num_updates: float) -> float:
    """Learning rate of a controller that is updated so many times."""
    power = math.log(MEASURED_RATE / PAPER_RATE) / math.log(PAPER_UPDATES / MEASURED_UPDATES)
    rate = PAPER_RATE * (PAPER_UPDATES / max(FEWEST_UPDATES, num_updates)) ** power
    return float(f"{rate:.2g}")


def choose_population(num_trials: int) -> int:
    """Architectures that evolution keeps alive."""
    return max(20, min(PAPER_POPULATION, round(math.sqrt(num_trials))))


def settle(cfg: CfgNode, recorded: Mapping[str, Any] | None = None) -> CfgNode:
    """The same config with numbers in place of 0.

    Args:
        cfg: of a search.
        recorded: what the study began with, by full key; None: it is new.
    """
    settled = cfg.clone()
    search, recorded = settled.SEARCH, recorded or {}

    def fill(node: CfgNode, name: str, key: str, value: float) -> None:
        if node[key] == 0:
            node[key] = recorded.get(f"SEARCH.{name}.{key}", value)

    num_trials = max(1, search.NUM_TRIALS)
    fill(search.SAMPLER, "SAMPLER", "MINIBATCH", choose_minibatch(num_trials))
    num_updates = num_trials / max(1, search.SAMPLER.MINIBATCH)
    fill(search.PPO, "PPO", "LR", choose_rate(num_updates))
    fill(search.EVOLUTION, "EVOLUTION", "POPULATION", choose_population(num_trials))
    tournament = max(10, search.EVOLUTION.POPULATION // 4)
    fill(search.EVOLUTION, "EVOLUTION", "TOURNAMENT", tournament)
    return settled
