"""Trainings whose configs differ in the seed and in what changes nothing, put together."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
        scores: by metric; None where a training has none.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    scores: dict[str, Spread | None]


def group_seeds(runs: Sequence[ReportedRun]) -> list[SeedGroup]:
    """The groups of two or more, in the order of their first run."""
    groups: dict[tuple[Any, ...], list[ReportedRun]] = {}
    for run in runs:
        if run.evaluation is not None:
            groups.setdefault(_describe(run), []).append(run)
    members = [group for group in groups.values() if len(group) > 1]
    names = [_name(group) for group in members]
    return [
        SeedGroup(
            name if names.count(name) == 1 else ", ".join(run.name for run in group),
            tuple(run.name for run in group),
            tuple(run.summary.provenance.seed for run in group),
            {metric: _spread(group, metric) for metric in METRICS},
        )
        for name, group in zip(names, members, strict=True)
    ]


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


def _spread(group: Sequence[ReportedRun], metric: str) -> Spread | None:
    found = [run.summary.evaluation.scores[metric].value for run in group if run.summary.evaluation]
    known = [value for value in found if value is not None]
    if len(known) < len(group):
        return None
    return Spread(statistics.fmean(known), min(known), max(known), statistics.stdev(known))
