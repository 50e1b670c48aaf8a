"""Trainings whose configs differ in the seed and in what changes nothing, put together.

Two such groups are compared by trainings that have the same seed.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasnet_det.report.detection.intervals import UNKNOWN, Estimate, find_mean_interval
from nasnet_det.report.detection.reported_run import ReportedRun
from nasnet_det.report.detection.scores import METRICS
from nasnet_det.runs.keys import Effect, get_effect


@dataclass(frozen=True)
class Spread:
    """Several trainings' scores in percent; ``std`` is divided by one less than their number."""

    mean: float
    low: float
    high: float
    std: float


@dataclass(frozen=True)
class SeedGroup:
    """Trainings of one config, evaluated after as many iterations on the same data.

    Attributes:
        name: what their names have in common.
        runs: their names.
        seeds: theirs.
        data: SHA-256 of what they were evaluated on.
        scores: by metric; None where a training has none.
        values: the same of each training.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    data: str
    scores: dict[str, Spread | None]
    values: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class SeedDifference:
    """The scores of one group minus those of another, in percent.

    Attributes:
        group, minus: their names.
        seeds: those that both have.
        scores: by metric, the mean of the seeds' differences with Student's interval.
    """

    group: str
    minus: str
    seeds: tuple[int, ...]
    scores: dict[str, Estimate]


def compare_groups(groups: Sequence[SeedGroup]) -> list[SeedDifference]:
    """Each group against the first on the same data, where two or more seeds are in both."""
    firsts: dict[str, SeedGroup] = {}
    out = []
    for group in groups:
        base = firsts.setdefault(group.data, group)
        seeds = sorted({seed for seed in group.seeds if seed is not None} & set(base.seeds))
        if base is not group and len(seeds) > 1:
            scores = {metric: _subtract(group, base, metric, seeds) for metric in METRICS}
            out.append(SeedDifference(group.name, base.name, tuple(seeds), scores))
    return out


def _subtract(group: SeedGroup, base: SeedGroup, metric: str, seeds: Sequence[int]) -> Estimate:
    """Over the first training with each seed."""
    pairs = [[g.values[metric][g.seeds.index(seed)] for g in (group, base)] for seed in seeds]
    differences = [one - other for one, other in pairs if one is not None and other is not None]
    if len(differences) < len(pairs):
        return UNKNOWN
    return Estimate(statistics.fmean(differences), find_mean_interval(differences))


def group_seeds(runs: Sequence[ReportedRun]) -> list[SeedGroup]:
    """The groups of two or more, in the order of their first run."""
    groups: dict[tuple[Any, ...], list[ReportedRun]] = {}
    for run in runs:
        if run.evaluation is not None:
            groups.setdefault(_describe(run), []).append(run)
    members = [group for group in groups.values() if len(group) > 1]
    names = [_name(group) for group in members]
    return [
        _make_group(name if names.count(name) == 1 else ", ".join(run.name for run in group), group)
        for name, group in zip(names, members, strict=True)
    ]


def _make_group(name: str, runs: Sequence[ReportedRun]) -> SeedGroup:
    evaluations = [run.summary.evaluation for run in runs]
    values = {
        metric: tuple(e.scores[metric].value if e else None for e in evaluations)
        for metric in METRICS
    }
    return SeedGroup(
        name,
        tuple(run.name for run in runs),
        tuple(run.summary.provenance.seed for run in runs),
        next(run.evaluation.truth.sha256 for run in runs if run.evaluation),
        {metric: _spread(values[metric]) for metric in METRICS},
        values,
    )


def _describe(run: ReportedRun) -> tuple[Any, ...]:
    """What trainings of one group have in common."""
    config = sorted(
        (key, str(value))
        for key, value in run.run.config.items()
        if key != "SEED" and get_effect("detector", key) is not Effect.NOTHING
    )
    sha256 = run.evaluation.truth.sha256 if run.evaluation else None
    return (*config, sha256, run.summary.provenance.evaluated_iteration)


def _name(group: Sequence[ReportedRun]) -> str:
    """``resnet_50`` for ``resnet_50_10`` and ``resnet_50_11``."""
    names = [run.name for run in group]
    beginning = os.path.commonprefix(names)  # noqa: RUF071 - characters are wanted
    if any(name[len(beginning) :][:1].isdigit() for name in names):  # 1 of 10 and 11
        beginning = beginning.rstrip("0123456789")
    return beginning.rstrip("_-./ ") or ", ".join(names)


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return Spread(statistics.fmean(known), min(known), max(known), statistics.stdev(known))
