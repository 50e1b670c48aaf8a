"""The values of a report, as ``report.json`` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import nasnet_det
from nasnet_det.report.config_difference import find_differences
from nasnet_det.report.detection.comparison import Comparison, compare_runs
from nasnet_det.report.detection.intervals import LEVEL
from nasnet_det.report.detection.reported_run import ReportedRun
from nasnet_det.report.detection.run_summary import RunSummary
from nasnet_det.report.detection.seeds import (
    SeedDifference,
    SeedGroup,
    compare_groups,
    group_seeds,
)
from nasnet_det.runs.keys import Effect, get_effect

FORMAT = "nasnet_det detection report 1"


@dataclass(frozen=True)
class DetectionReport:
    """What a report says.

    Attributes:
        draws: of the bootstrap; None where no run has scores.
        runs: in the order that was asked for.
        seeds: trainings of one config.
        seed_differences: each such group minus the first.
        comparisons: with the first run that has scores.
        config_differences: key -> every run's value.
    """

    draws: int | None
    runs: tuple[RunSummary, ...]
    seeds: tuple[SeedGroup, ...]
    seed_differences: tuple[SeedDifference, ...]
    comparisons: tuple[Comparison, ...]
    config_differences: dict[str, list[Any]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "version": nasnet_det.__version__,
            "interval_level": LEVEL,
            "draws": self.draws,
            "runs": [run.to_dict() for run in self.runs],
            "seeds": [asdict(group) for group in self.seeds],
            "seed_differences": [asdict(row) for row in self.seed_differences],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "config_differences": self.config_differences,
        }


def summarize(runs: Sequence[ReportedRun]) -> DetectionReport:
    """The values of a report of these runs."""
    draws = [len(run.evaluation.draws.overall["AP"]) for run in runs if run.evaluation]
    differences = find_differences([run.run for run in runs])
    groups = group_seeds(runs)
    return DetectionReport(
        draws[0] if draws else None,
        tuple(run.summary for run in runs),
        tuple(groups),
        tuple(compare_groups(groups)),
        tuple(compare_runs(runs)),
        {
            key: values
            for key, values in differences.items()
            if get_effect("detector", key) is not Effect.NOTHING
        },
    )
