"""Do the samplers learn? A planted reward on the paper's search space, its optimum known.

    python benchmarks/search_planted_reward.py            # 20 seeds of 1,000 architectures: minutes

The reward is a fixed random function: every choice of every decision has a score, and so has every
pair of choices of neighbouring decisions. The best list is found by dynamic programming. Rewards
are scaled so that the mean over all lists is 0 and the optimum is 1. Every seed is another function
and another search; within a seed all samplers see the same function and the same number of
architectures. It writes benchmarks/results/search_planted_reward.md and .json, and ends with an
error where the controller or evolution is not ahead of random in 19 of 20 seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import torch

from nasnet_det.search.config import get_search_config
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.trials import get_distributions, params_to_choices
from nasnet_det.space import Choices, SearchSpace

RESULTS = Path(__file__).resolve().parent / "results"
FIGURES = ("best", "top 5", "top 25", "last 100")
MUST_WIN = ("controller", "evolution")
WANTED_WINS = 0.95  # 19 of 20 seeds


class PlantedReward:
    """A random function of a list of decisions.

    Args:
        num_choices: number of choices of each decision.
        seed: which function.
        pair_weight: standard deviation of a pair's score; that of a single choice is 1.
    """

    def __init__(self, num_choices: Sequence[int], seed: int, *, pair_weight: float = 0.5) -> None:
        rng = np.random.default_rng(seed)
        self.single = [rng.normal(size=n) for n in num_choices]
        self.pairs = [pair_weight * rng.normal(size=shape) for shape in pairwise(num_choices)]
        self.mean = float(sum(table.mean() for table in [*self.single, *self.pairs]))
        self.optimum = self._find_optimum()
        self.scale = self._score(self.optimum) - self.mean

    def __call__(self, choices: Sequence[int]) -> float:
        """The reward: 0 for the average list, 1 for the best."""
        return (self._score(choices) - self.mean) / self.scale

    def _score(self, choices: Sequence[int]) -> float:
        single = sum(table[c] for table, c in zip(self.single, choices, strict=True))
        pairs = sum(table[c] for table, c in zip(self.pairs, pairwise(choices), strict=True))
        return float(single + pairs)

    def _find_optimum(self) -> Choices:
        """From the last decision back: the best that can follow each choice."""
        following = self.single[-1]
        best_next = []
        for single, pairs in zip(self.single[-2::-1], self.pairs[::-1], strict=True):
            scores = pairs + following
            best_next.append(scores.argmax(axis=1))
            following = single + scores.max(axis=1)
        choices = [int(following.argmax())]
        for table in best_next[::-1]:
            choices.append(int(table[choices[-1]]))
        return tuple(choices)


def run_search(
    name: str, space: SearchSpace, seed: int, num_trials: int, opts: Sequence[str] = ()
) -> list[float]:
    """The rewards of one search, in order.

    Args:
        name: a sampler.
        space: where to search.
        seed: of the planted reward and of the search.
        num_trials: number of architectures, whole minibatches.
        opts: ``KEY VALUE`` pairs of the config.
    """
    cfg = get_search_config(opts=[*opts, "SEARCH.SAMPLER.NAME", name, "SEARCH.SEED", str(seed)])
    planted = PlantedReward(space.num_choices, seed)
    distributions = get_distributions(space)
    study = optuna.create_study(direction="maximize", sampler=build_sampler(cfg, space))
    rewards: list[float] = []
    while len(rewards) < num_trials:
        minibatch = [study.ask(distributions) for _ in range(cfg.SEARCH.SAMPLER.MINIBATCH)]
        for trial in minibatch:
            rewards.append(planted(params_to_choices(space, trial.params)))
            study.tell(trial, rewards[-1])
    return rewards


def summarize(rewards: Sequence[float]) -> dict[str, float]:
    """Best, mean of the best 5 and 25 (as in the paper's figure 6), and mean of the last 100."""
    ordered = sorted(rewards, reverse=True)
    values = (ordered[:1], ordered[:5], ordered[:25], rewards[-100:])
    return {name: float(np.mean(v)) for name, v in zip(FIGURES, values, strict=True)}


def count_wins(results: dict[str, list[dict[str, float]]], name: str) -> dict[str, int]:
    """In how many seeds a sampler is ahead of random, by each figure."""
    pairs = list(zip(results[name], results["random"], strict=True))
    return {figure: sum(one[figure] > other[figure] for one, other in pairs) for figure in FIGURES}


def write_table(results: dict[str, list[dict[str, float]]]) -> str:
    """Mean over the seeds and, in brackets, the number of seeds ahead of random."""
    lines = ["| sampler | " + " | ".join(FIGURES) + " |", "|---" * (1 + len(FIGURES)) + "|"]
    for name, seeds in results.items():
        wins = count_wins(results, name)
        cells = [
            f"{np.mean([seed[figure] for seed in seeds]):.3f}"
            + ("" if name == "random" else f" ({wins[figure]}/{len(seeds)})")
            for figure in FIGURES
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run all searches, one after the other, and write the table."""
    parser = argparse.ArgumentParser(description="Samplers on a planted reward.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=1000, help="architectures of each search")
    parser.add_argument("--samplers", nargs="+", default=["random", "evolution", "controller"])
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    space = SearchSpace()
    start = time.perf_counter()
    results: dict[str, list[dict[str, float]]] = {}
    for name in options.samplers:
        results[name] = []
        for seed in range(options.seeds):
            results[name].append(summarize(run_search(name, space, seed, options.trials)))
            print(f"{name}, seed {seed}: {results[name][-1]}", flush=True)
    report = (
        "# Samplers on a planted reward\n\n"
        f"`python benchmarks/search_planted_reward.py`: {options.seeds} seeds, {options.trials} "
        f"architectures each, the paper's space of {len(space.decisions)} decisions.\n"
        "The mean of all lists has reward 0, the best list 1. In brackets: seeds ahead of random."
        f"\n\n{write_table(results)}\n"
    )
    facts = {
        "num_trials": options.trials,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": optuna.__version__,
        "wall_s": round(time.perf_counter() - start),
        "seeds": results,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "search_planted_reward.md").write_text(report)
    (options.output / "search_planted_reward.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(report)
    behind = [
        name
        for name in MUST_WIN
        if name in results and min(count_wins(results, name).values()) < WANTED_WINS * options.seeds
    ]
    if behind:
        print(f"not ahead of random in {WANTED_WINS:.0%} of the seeds: {', '.join(behind)}")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
