"""Samplers compared in a minute or two: they search among the children of child_table.json.

    python benchmarks/samplers_on_table.py

A sampler proposes as in any search. What is "trained" is the child of the table, not yet taken,
whose graph features are nearest to the proposal's; the sampler is told this child's decisions and
its accuracy after some epochs. So every accuracy was measured, and all samplers lose alike by the
table's gaps. The predictor has its graph features alone here.

A search may take --epochs epochs of training in all: twice as many children after 1 epoch as after
2. Of the children that were taken, the five best by what was told are judged by the table's last
accuracy. Each seed is a search of its own. It writes samplers_on_table.json and .md in --results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import optuna
import torch
from child_table import CONFIG, RESULTS
from intervals import find_interval
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nasnet_det.runs.files import write_content, write_json
from nasnet_det.runs.study_results import DIGITS
from nasnet_det.search.config import get_search_config
from nasnet_det.search.graph_features import compute_graph_features
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.scaling import settle
from nasnet_det.search.trials import choices_to_params, get_distributions, params_to_choices
from nasnet_det.space import Choices, SearchSpace

SAMPLERS = ("random", "evolution", "tpe", "controller", "predictor")
NUM_BEST = 5


class Table(NamedTuple):
    """The children of child_table.json that were trained to their end.

    Attributes:
        space: of the children.
        children: n lists of decisions, each of another network.
        epochs: after which accuracies are known.
        accuracies: (n, number of ``epochs``), from 0 to 1.
    """

    space: SearchSpace
    children: list[Choices]
    epochs: list[int]
    accuracies: np.ndarray


class TableSampler(BaseSampler):
    """A sampler whose proposals are replaced by the nearest children of the table, each once.

    Args:
        inner: the sampler.
        table: what it searches in.
    """

    def __init__(self, inner: BaseSampler, table: Table) -> None:
        self.inner, self.table = inner, table
        self.taken: list[int] = []
        self._left = list(range(len(table.children)))
        features = np.stack([compute_graph_features(table.space, c) for c in table.children])
        spread = features.std(axis=0)
        self._scale = np.where(spread > 0, 1 / np.maximum(spread, 1e-12), 0.0)
        self._features = features * self._scale

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All decisions, whatever the sampler takes together."""
        return get_distributions(self.table.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The decisions of a child of the table."""
        own = self.inner.infer_relative_search_space(study, trial)
        params = self.inner.sample_relative(study, trial, own)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = self.inner.sample_independent(study, trial, name, distribution)
        choices = params_to_choices(self.table.space, params)
        wanted = compute_graph_features(self.table.space, choices) * self._scale
        distances = np.square(self._features[self._left] - wanted).sum(axis=1)
        self.taken.append(self._left.pop(int(distances.argmin())))
        return choices_to_params(self.table.space, self.table.children[self.taken[-1]])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Nothing can be chosen beside the decisions of the space."""
        raise ValueError(f"{param_name!r} is not in the search space")

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See Optuna."""
        self.inner.after_trial(study, trial, state, values)


def main() -> int:
    """Search with each sampler and each fidelity, and write the table of what they reached."""
    options = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    try:
        table = read_table(options.table)
        rows = []
        for place, epochs in enumerate(table.epochs):
            number = options.epochs // epochs
            if not NUM_BEST <= number <= len(table.children):
                print(f"{number} children after {epochs} epochs: not searched")
                continue
            for name in options.samplers:
                reached = [search(table, name, s, place, number) for s in range(options.seeds)]
                rows.append({"sampler": name, "told": epochs, "children": number})
                rows[-1]["reached"] = [round(value, 5) for value in reached]
                print(f"{name}, {number} children after {epochs} epochs: {fmean(reached):.4f}")
    except (ValueError, OSError) as error:
        print(f"samplers_on_table.py: {error}", file=sys.stderr)
        return 1
    last = np.sort(table.accuracies[:, -1])
    report = {
        "children": len(table.children),
        "epochs": options.epochs,
        "judged_after": table.epochs[-1],
        "all": round(float(last.mean()), 5),
        "best": round(float(last[-NUM_BEST:].mean()), 5),
        "rows": rows,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / "samplers_on_table.json", report)
    write_content(options.results / "samplers_on_table.md", to_markdown(report))
    print(to_markdown(report), end="")
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Samplers on a table of children.")
    parser.add_argument("--table", type=Path, default=RESULTS / "child_table.json")
    parser.add_argument("--epochs", type=int, default=120, help="of all children of a search")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"--seeds: wanted at least 2, for an interval, got {options.seeds}")
    return options


def read_table(path: Path) -> Table:
    """Read what child_table.py wrote; children without accuracies are left out.

    Raises:
        ValueError: it has too few children.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    rows = [row for row in rows if row["accuracies"] is not None]
    if len(rows) < 2 * NUM_BEST:
        raise ValueError(f"{path}: wanted at least {2 * NUM_BEST} children, got {len(rows)}")
    return Table(
        SearchSpace(*table["space"]),
        [tuple(map(DIGITS.index, row["decisions"])) for row in rows],
        table["epochs"],
        np.array([row["accuracies"] for row in rows]),
    )


def search(table: Table, name: str, seed: int, place: int, number: int) -> float:
    """The mean last accuracy of the best children that a search found.

    Args:
        table: where it searches.
        name: of its sampler.
        seed: of the search.
        place: among the table's epochs, of the accuracy that the sampler is told.
        number: of children that are taken.
    """
    opts = ["SEARCH.SAMPLER.NAME", name, "SEARCH.SEED", str(seed)]
    opts += ["SEARCH.NUM_TRIALS", str(number), "SEARCH.PREDICTOR.NUM_MEASURED", "0"]
    cfg = settle(get_search_config(CONFIG, opts))
    sampler = TableSampler(build_sampler(cfg, table.space), table)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = get_distributions(table.space)
    told = table.accuracies[:, place]
    for first in range(0, number, cfg.SEARCH.SAMPLER.MINIBATCH):
        last = min(number, first + cfg.SEARCH.SAMPLER.MINIBATCH)
        trials = [study.ask(distributions) for _ in range(first, last)]
        for trial, child in zip(trials, sampler.taken[first:], strict=True):
            study.tell(trial, told[child])
    best = sorted(sampler.taken, key=lambda child: -told[child])[:NUM_BEST]
    return float(table.accuracies[best, -1].mean())


def to_markdown(report: dict[str, Any]) -> str:
    """The table; a gain is the mean over seeds, with its interval of 95%."""
    epochs = report["judged_after"]
    lines = [
        f"The five best of all {report['children']} children have "
        f"{100 * report['best']:.2f}% after {epochs} epochs, all have {100 * report['all']:.2f}%.",
        "",
        f"| sampler | children | told after | the best five after {epochs} | gain over random |",
        "|---|---|---|---|---|",
    ]
    random = {row["told"]: row["reached"] for row in report["rows"] if row["sampler"] == "random"}
    for row in report["rows"]:
        gain = ""
        if row["sampler"] != "random" and row["told"] in random:
            pairs = zip(row["reached"], random[row["told"]], strict=True)
            mean, low, high = find_interval([100 * (one - other) for one, other in pairs])
            gain = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
        cells = [row["sampler"], row["children"], f"{row['told']} epochs"]
        cells += [f"{100 * fmean(row['reached']):.2f}", gain]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
