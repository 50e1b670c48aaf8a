"""Each run against the first: differences of scores on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nasnet_det.report.detection.boxes import Truth
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.intervals import Estimate, estimate_difference
from nasnet_det.report.detection.reported_run import ReportedRun
from nasnet_det.report.detection.scores import METRICS


@dataclass(frozen=True)
class Comparison:
    """The scores of one run minus those of another.

    Attributes:
        run, minus: their names.
        reason: why they are not compared; None if they are.
        scores: by metric.
        categories: AP by category.
    """

    run: str
    minus: str
    reason: str | None
    scores: dict[str, Estimate] = field(default_factory=dict)
    categories: dict[str, Estimate] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without scores where they are not compared."""
        data = asdict(self)
        return {k: v for k, v in data.items() if k in ("run", "minus", "reason") or not self.reason}


def compare_runs(runs: Sequence[ReportedRun]) -> list[Comparison]:
    """Each run against the first that was evaluated; on a run's further sets, the first of each."""
    firsts: dict[str, ReportedRun] = {}
    out = []
    for run in runs:
        if run.evaluation is None:
            continue
        base = firsts.get(run.run.dataset)
        if base is None and firsts and run.run.is_first:
            base = next(iter(firsts.values()))
        if base is None:
            firsts[run.run.dataset] = run
            continue
        assert base.evaluation is not None
        reason = find_data_difference(base.evaluation.truth, run.evaluation.truth)
        values = () if reason else _subtract(base.evaluation, run.evaluation)
        out.append(Comparison(run.name, base.name, reason or None, *values))
    return out


def _subtract(
    base: Evaluation, other: Evaluation
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Differences of all metrics, and of each category's AP."""
    num_images = base.matches.num_images
    (scores, draws), (base_scores, base_draws) = ((e.scores, e.draws) for e in (other, base))
    overall = {
        m: estimate_difference(
            (scores.overall[m] - base_scores.overall[m])[0],
            draws.overall[m] - base_draws.overall[m],
            num_images,
        )
        for m in METRICS
    }
    point = scores.of_categories["AP"] - base_scores.of_categories["AP"]
    drawn = draws.of_categories["AP"] - base_draws.of_categories["AP"]
    categories = {
        name: estimate_difference(point[k, 0], drawn[k], num_images)
        for k, name in enumerate(base.truth.category_names)
    }
    return overall, categories


def find_data_difference(first: Truth, second: Truth) -> str:
    """Why the scores of two data sets can't be compared, or ""."""
    if first.category_names != second.category_names:
        only = [
            [name for name in a.category_names if name not in b.category_names]
            for a, b in ((first, second), (second, first))
        ]
        shown = [", ".join(names[:3]) + (", ..." if len(names) > 3 else "") for names in only]
        return (
            f"their categories differ ({len(first.category_names)} and "
            f"{len(second.category_names)}; only in the first: {shown[0] or 'none'}; only in the "
            f"second: {shown[1] or 'none'})"
        )
    if first.image_ids != second.image_ids:
        common = len(set(first.image_ids) & set(second.image_ids))
        return (
            f"they were evaluated on different images ({len(first.image_ids):,} and "
            f"{len(second.image_ids):,}, {common:,} of them with the same ids)"
        )
    same = all(
        np.array_equal(getattr(first, key), getattr(second, key))
        for key in ("image", "category", "boxes", "areas", "is_crowd")
    )
    return "" if same else "the true boxes of their data sets differ"
