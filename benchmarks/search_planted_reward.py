"""Do the samplers learn, as the shipped configs have them? A planted reward, its optimum known.

    python benchmarks/search_planted_reward.py            # 10 seeds of each config: 4 minutes
    python benchmarks/search_planted_reward.py --trials 50 100 1000 --seeds 4

The reward is a fixed random function: every choice of every decision has a score, and so has every
pair of choices of neighbouring decisions. The best list is found by dynamic programming. Rewards
are scaled so that the mean over all lists is 0 and the optimum is 1. What a sampler is told has
noise: two trainings of the same random list correlate at 0.7, which is what short trainings of
children do. The figures are without it, and "best" means what was told to be so.

Every seed is another function and another search; within a seed all samplers see the same function
and the same number of architectures. It writes benchmarks/results/search_planted_reward.md and
.json, and ends with an error where the controller or evolution is not ahead of random in 19 of 20
seeds; the single best is left out there, as with such noise it is luck.
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
from typing import Any

import numpy as np
import optuna
import torch

from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.scaling import settle
from nasnet_det.search.trials import get_distributions, params_to_choices
from nasnet_det.space import Choices

RESULTS = Path(__file__).resolve().parent / "results"
CONFIGS = ("search/cifar10_cpu.yaml", "search/cifar10_gpu.yaml")
FIGURES = ("best", "top 5", "top 25", "last tenth")
JUDGED = FIGURES[1:]
MUST_WIN = ("controller", "evolution")
WANTED_WINS = 0.95  # 19 of 20 seeds
NOISE = 0.065  # standard deviation; that of the rewards of random lists is 0.099

Seeds = dict[str, list[dict[str, float]]]
"""The figures of each seed, by sampler."""


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


def run_search(name: str, seed: int, opts: Sequence[str] = (), config: str = "") -> list[tuple]:
    """The rewards of one search, in order: the true one, and what the sampler was told.

    Args:
        name: a sampler.
        seed: of the planted reward, of the noise and of the search.
        opts: ``KEY VALUE`` pairs of the config.
        config: a file; empty: the defaults.
    """
    opts = [*opts, "SEARCH.SAMPLER.NAME", name, "SEARCH.SEED", str(seed)]
    opts += ["SEARCH.PREDICTOR.NUM_MEASURED", "0"]  # the reward knows nothing of networks
    cfg = settle(get_search_config(config, opts))
    space = build_space(cfg)
    planted, noise = PlantedReward(space.num_choices, seed), np.random.default_rng([seed, 1])
    distributions = get_distributions(space)
    study = optuna.create_study(direction="maximize", sampler=build_sampler(cfg, space))
    rewards: list[tuple] = []
    while len(rewards) < cfg.SEARCH.NUM_TRIALS:
        number = min(cfg.SEARCH.SAMPLER.MINIBATCH, cfg.SEARCH.NUM_TRIALS - len(rewards))
        for trial in [study.ask(distributions) for _ in range(number)]:
            reward = planted(params_to_choices(space, trial.params))
            rewards.append((reward, reward + NOISE * noise.normal()))
            study.tell(trial, rewards[-1][1])
    return rewards


def summarize(rewards: Sequence[tuple]) -> dict[str, float]:
    """The best, and the means of the best 5 and 25 and of the last tenth."""
    ordered = [true for true, _ in sorted(rewards, key=lambda pair: -pair[1])]
    last = [true for true, _ in rewards[-max(1, len(rewards) // 10) :]]
    values = (ordered[:1], ordered[:5], ordered[:25], last)
    return {name: float(np.mean(v)) for name, v in zip(FIGURES, values, strict=True)}


def count_wins(results: Seeds, name: str) -> dict[str, int]:
    """In how many seeds a sampler is ahead of random, by each figure."""
    pairs = list(zip(results[name], results["random"], strict=True))
    return {figure: sum(one[figure] > other[figure] for one, other in pairs) for figure in FIGURES}


def write_table(results: Seeds) -> str:
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


def run_config(
    config: str, samplers: Sequence[str], num_seeds: int, opts: Sequence[str]
) -> dict[str, Any]:
    """All searches of one config, with the numbers that were chosen for their length."""
    search = settle(get_search_config(config, opts)).SEARCH
    seeds: Seeds = {}
    for name in samplers:
        seeds[name] = []
        for seed in range(num_seeds):
            seeds[name].append(summarize(run_search(name, seed, opts, config)))
            print(f"{config} {name}, seed {seed}: {seeds[name][-1]}", flush=True)
    return {
        "config": config,
        "num_trials": search.NUM_TRIALS,
        "minibatch": search.SAMPLER.MINIBATCH,
        "rate": search.PPO.LR,
        "population": search.EVOLUTION.POPULATION,
        "seeds": seeds,
    }


def main() -> int:
    """Run all searches, one after the other, and write the table."""
    parser = argparse.ArgumentParser(description="Samplers on a planted reward.")
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, nargs="+", help="in place of the configs' own")
    parser.add_argument("--samplers", nargs="+", default=["random", "evolution", "controller"])
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    start = time.perf_counter()
    lengths = [["SEARCH.NUM_TRIALS", str(number)] for number in options.trials or []]
    searches = [
        run_config(config, options.samplers, options.seeds, opts)
        for config in options.configs
        for opts in lengths or [[]]
    ]
    report = (
        f"# Samplers on a planted reward\n\n`python benchmarks/search_planted_reward.py`: "
        f"{options.seeds} seeds each. The mean of all lists has reward 0, the best list 1; the "
        f"samplers are told it with noise of {NOISE}. In brackets: seeds ahead of random.\n"
    )
    for one in searches:
        report += (
            f"\n`{one['config']}`: {one['num_trials']} children, minibatches of "
            f"{one['minibatch']}, rate {one['rate']:g}, population {one['population']}\n\n"
            f"{write_table(one['seeds'])}\n"
        )
    facts = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": optuna.__version__,
        "wall_s": round(time.perf_counter() - start),
        "searches": searches,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "search_planted_reward.md").write_text(report)
    (options.output / "search_planted_reward.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(report)
    behind = [
        f"{name} with {one['num_trials']}"
        for one in searches
        for name in MUST_WIN
        if name in one["seeds"]
        and (wins := count_wins(one["seeds"], name))
        and min(wins[figure] for figure in JUDGED) < WANTED_WINS * options.seeds
    ]
    if behind:
        print(f"not ahead of random in {WANTED_WINS:.0%} of the seeds: {', '.join(behind)}")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
