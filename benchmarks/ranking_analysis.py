"""What the trainings of ranking.py say: rank correlations, their table and their plot.

All of it is made of ranking.json alone, also while some of the trainings are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from zero_cost import NUM_DRAWS, predict_rewards

from nasnet_det.drawing.figure_style import INK, STYLES, make_axes
from nasnet_det.report.front.ranks import FEWEST
from nasnet_det.runs.study_results import DIGITS
from nasnet_det.search.graph_features import compute_graph_features
from nasnet_det.search.predictor_sampler import MEASURE_WEIGHT
from nasnet_det.search.zero_cost import MEASURES
from nasnet_det.space import Choices, SearchSpace

RUNGS = ("short", "reward", "long")
STATISTICS = {"spearman": "Spearman", "kendall": "Kendall", "top": "Kendall, top quarter"}
NUM_FITTED = 50  # children that the predictor has seen
NUM_RESAMPLES = 2000

Pairs = list[tuple[np.ndarray, np.ndarray]]
"""Values (n,) and (n,) that should have one order; of several pairs the mean counts."""


def analyse(report: dict[str, Any]) -> dict[str, Any]:
    """Rank correlations with the mean of the long trainings, and of two of these.

    Returns:
        ``complete``, how many architectures count; ``failed``, how many don't, as one of their
        trainings failed; and ``rows`` with the statistics, each with the ends of its interval of
        95%, or None where it means nothing.
    """
    found: dict[int, dict[tuple[str, int], float | None]] = {}
    for run in report["runs"]:
        found.setdefault(run["child"], {})[run["rung"], run["seed"]] = run["accuracy"]
    wanted = {(rung, seed) for rung in RUNGS for seed in list_seeds(report)}
    ended = {child: results for child, results in found.items() if set(results) == wanted}
    complete = [child for child, results in ended.items() if None not in results.values()]
    rows, number = [], len(complete)
    if number >= FEWEST:
        accuracies = {key: np.array([ended[child][key] for child in complete]) for key in wanted}
        truth = np.mean([accuracies["long", seed] for seed in list_seeds(report)], axis=0)
        drawn = np.random.default_rng(0).multinomial(number, [1 / number] * number, NUM_RESAMPLES)
        weights = np.concatenate([np.ones((1, number)), drawn])
        top = keep_top(truth, weights)
        for name, pairs in list_rows(report, complete, accuracies, truth):
            values = {
                "spearman": [spearman(*pair, weights) for pair in pairs],
                "kendall": [kendall(*pair, weights) for pair in pairs],
                "top": [kendall(*pair, top) for pair in pairs],
            }
            label = name_row(name, report["made_of"]["epochs"])
            bounds = {key: bound(values[key]) for key in STATISTICS}
            rows.append({"name": name, "label": label, **bounds})
    return {"complete": number, "failed": len(ended) - number, "rows": rows}


def list_seeds(report: dict[str, Any]) -> range:
    """Of each rung."""
    return range(1, report["made_of"]["seeds"] + 1)


def list_rows(
    report: dict[str, Any],
    children: Sequence[int],
    accuracies: dict[tuple[str, int], np.ndarray],
    truth: np.ndarray,
) -> Iterator[tuple[str, Pairs]]:
    """Name and pairs of each row."""
    long = [accuracies["long", seed] for seed in list_seeds(report)]
    if len(long) > 1:
        yield "ceiling", list(combinations(long, 2))
    for rung in RUNGS[:-1]:
        yield rung, [(accuracies[rung, seed], truth) for seed in list_seeds(report)]
    names = [str(child) for child in children]
    yield "recorded", [(np.array([report["rewards"][name] for name in names]), truth)]
    predictions = predict(report, children)
    if len(predictions):
        yield "predictor", [(row, truth) for row in predictions]
    measures = np.array([report["measures"][name] for name in names])
    for name, column in zip(MEASURES, measures.T, strict=True):
        yield name, [(column, truth)]


def read_decisions(decisions: str) -> Choices:
    """Digits of a study as choices."""
    return tuple(map(DIGITS.index, decisions))


def predict(report: dict[str, Any], children: Sequence[int]) -> np.ndarray:
    """Rewards by a predictor that knows 50 of the study's children that are not trained here.

    Returns:
        (draws of the 50, number of ``children``); no draws where there are fewer than 50.
    """
    made_of = report["made_of"]
    names = list(made_of["children"])
    pool = [place for place, name in enumerate(names) if int(name) not in made_of["chosen"]]
    if len(pool) < NUM_FITTED:
        return np.empty((0, len(children)))
    space = SearchSpace(*made_of["space"])
    choices = map(read_decisions, made_of["children"].values())
    graph = np.stack([compute_graph_features(space, one) for one in choices])
    parts = [(graph, 1.0), (np.array([report["measures"][n] for n in names]), MEASURE_WEIGHT)]
    rewards = np.array([report["rewards"][name] for name in names])
    places = [names.index(str(child)) for child in children]
    draws = (np.random.default_rng(s).permutation(pool)[:NUM_FITTED] for s in range(NUM_DRAWS))
    return np.stack([predict_rewards(parts, rewards, fitted)[places] for fitted in draws])


def name_row(name: str, epochs: dict[str, int]) -> str:
    """A row of the analysis, in words."""
    names = {
        "ceiling": "another seed of long training",
        "short": f"{epochs['short']} epoch" + "s" * (epochs["short"] > 1),
        "reward": f"{epochs['reward']} epochs: the reward",
        "recorded": "the study's reward",
        "predictor": f"predictor of {NUM_FITTED} children",
    }
    return names.get(name, f"untrained: {name.replace('_', ' ')}")


# ---- Statistics of many samples at once


def spearman(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank correlations of samples that have values (n,) and (n,) ``weights`` (B, n) times.

    Returns:
        (B,); NaN where all values are equal.
    """
    # Half a place for each equal value: they share a rank.
    ranks = (weights @ ((v[:, None] < v) + (v[:, None] == v) / 2) for v in (a, b))
    totals = weights.sum(1, keepdims=True).clip(min=1)
    x, y = (rank - (weights * rank).sum(1, keepdims=True) / totals for rank in ranks)
    return _divide(*((weights * product).sum(1) for product in (x * y, x * x, y * y)))


def kendall(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of such samples; of one architecture drawn twice the pair is an equal one."""
    x, y = (np.sign(v[:, None] - v) for v in (a, b))
    return _divide(*((weights @ signs * weights).sum(1) for signs in (x * y, x * x, y * y)))


def _divide(products: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    size = np.sqrt(first * second)
    return np.divide(products, size, where=size > 0, out=np.full_like(size, np.nan))


def keep_top(truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights (B, n) of each sample's best quarter by ``truth`` (n,); 0 where it is too few."""
    order = np.argsort(-truth, kind="stable")
    ordered = weights[:, order]
    number = weights.sum(1, keepdims=True) // 4
    kept = np.empty_like(weights)
    kept[:, order] = np.clip(number - (ordered.cumsum(1) - ordered), 0, ordered)
    return kept * (number >= FEWEST)


def bound(values: Sequence[np.ndarray]) -> list[float] | None:
    """Of the mean over the pairs: the first sample's value, and the interval of the others."""
    mean = np.mean(values, axis=0)
    if np.isnan(mean[0]):
        return None
    return [round(float(v), 4) for v in (mean[0], *np.nanpercentile(mean[1:], (2.5, 97.5)))]


# ---- What is written


def to_markdown(report: dict[str, Any]) -> str:
    """The table."""
    analysis, made_of = report["analysis"], report["made_of"]
    lines = [f"| what orders | {' | '.join(STATISTICS.values())} |", "|---|---|---|---|"]
    for row in analysis["rows"]:
        texts = ["{:.2f} ({:.2f} to {:.2f})".format(*row[k]) if row[k] else "" for k in STATISTICS]
        lines.append(f"| {row['label']} | {' | '.join(texts)} |")
    minutes = sum(run["seconds"] for run in report["runs"]) / 60
    steps = made_of["epochs"]["long"] * made_of["steps_per_epoch"]
    lines += [
        "",
        f"In brackets: 95% of {NUM_RESAMPLES:,} draws of the architectures. "
        f"{analysis['complete']} of {len(made_of['chosen'])} are complete, {analysis['failed']} "
        f"failed; seeds: {made_of['seeds']}, steps of long training: {steps:,}, minutes of a "
        f"core: {minutes:.0f} ({report['machine']}).",
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any]) -> Figure:
    """Reward and long training of each architecture; Spearman of each row, with its interval."""
    figure, (scatter, points) = make_axes(
        2, num_columns=2, size=(4.5, 3.8), share_x=False, share_y=False
    )
    epochs = report["made_of"]["epochs"]
    found: dict[int, dict[str, list[float]]] = {}
    for run in report["runs"]:
        if run["accuracy"] is not None:
            rungs = found.setdefault(run["child"], {})
            rungs.setdefault(run["rung"], []).append(100 * run["accuracy"])
    for rungs in found.values():
        if {"reward", "long"} <= set(rungs):
            pair = [rungs["reward"], rungs["long"]]
            x, y = (float(np.mean(values)) for values in pair)
            ends = [[[m - min(v)], [max(v) - m]] for m, v in zip((x, y), pair, strict=True)]
            bars = {"xerr": ends[0], "yerr": ends[1], "color": STYLES[0]["color"]}
            scatter.errorbar(x, y, fmt="o", ms=3, lw=0.7, **bars)
    scatter.set_xlabel(f"after {epochs['reward']} epochs: accuracy, percent, mean and seeds")
    scatter.set_ylabel(f"after {epochs['long']} epochs")
    rows = [row for row in report["analysis"]["rows"] if row["spearman"]]
    for place, row in enumerate(rows):
        value, low, high = row["spearman"]
        color = STYLES[row["name"] == "ceiling"]["color"]
        points.plot([low, high], [place, place], lw=1.2, color=color)
        points.plot(value, place, "o", ms=4, color=color)
    points.set_yticks(range(len(rows)), [row["label"] for row in rows])
    points.axvline(0, color=INK, lw=0.6)
    points.set(
        xlabel="Spearman with long training", xlim=(-1, 1), ylim=(max(1, len(rows)) - 0.5, -0.5)
    )
    return figure
