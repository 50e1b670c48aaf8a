"""Tables of what detectors reach on corrupted pictures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nasnet_det.report.detection.run_summary import RunSummary
from nasnet_det.report.tables import Cell, Table, make_table, number
from nasnet_det.runs.robustness import Robustness

MEANING = (
    "AP of boxes in percent on the test pictures, corrupted as in ImageNet-C (arXiv 1903.12261). "
    "mPC is the mean over corruptions and severities, rPC that in percent of the AP on the same "
    "pictures as they are (arXiv 1907.07484)."
)


def tabulate_robustness(runs: Sequence[RunSummary]) -> dict[str, Table]:
    """``robustness``: a row for each run; ``corruptions``: one for each run and corruption."""
    measured = [(run.name, run.robustness) for run in runs if run.robustness]
    severities = sorted({n for _, found in measured for n in found.severities})
    return {
        "robustness": make_table(
            ["run", "AP clean", "mPC", "rPC", "corruptions", "severities", "images"],
            (
                [
                    *(name, *(number(n, ".1f") for n in (found.clean, found.mean, found.relative))),
                    *(len(found.corruptions), " ".join(map(str, found.severities)), found.images),
                ]
                for name, found in measured
            ),
        ),
        "corruptions": make_table(
            ["run", "corruption", *(f"severity {n}" for n in severities), "mean"],
            (
                [name, corruption.replace("_", " "), *_list_scores(found, corruption, severities)]
                for name, found in measured
                for corruption in found.corruptions
            ),
        ),
    }


def _list_scores(found: Robustness, corruption: str, severities: Sequence[int]) -> list[Cell]:
    rows = [found.find(corruption, severity) for severity in severities]
    values = [row.ap if row else None for row in rows]
    known = [value for value in values if value is not None]
    return [
        *(number(value, ".1f") for value in values),
        number(statistics.mean(known) if known else None, ".1f"),
    ]
