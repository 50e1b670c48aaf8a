"""The tables of a detection report; the page and ``report.md`` show columns of the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasnet_det.report.detection.errors import TYPES
from nasnet_det.report.detection.intervals import UNKNOWN, Estimate
from nasnet_det.report.detection.references import REFERENCES
from nasnet_det.report.detection.robustness_tables import tabulate_robustness
from nasnet_det.report.detection.run_summary import OF_CATEGORY, EvaluationSummary, RunSummary
from nasnet_det.report.detection.scores import METRICS
from nasnet_det.report.detection.seeds import Spread
from nasnet_det.report.detection.summary import DetectionReport
from nasnet_det.report.tables import Cell, Table, make_table, number, quantity, text
from nasnet_det.runs.detector_files import PARTS

MINUS = "\N{MINUS SIGN}"
METRIC_NAMES = {
    "AP": "mean of IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "objects below 32x32 pixels",
    "APm": "objects up to 96x96 pixels",
    "APl": "larger objects",
    "AR1": "recall with 1 box of a class in an image",
    "AR10": "recall with 10",
    "AR100": "recall with 100",
    "ARs": "recall of objects below 32x32 pixels",
    "ARm": "recall of objects up to 96x96 pixels",
    "ARl": "recall of larger objects",
}


def show_score(score: Estimate) -> Cell:
    """``52.2 (48.9 to 55.1)``, in percent."""
    return _show(score.value, score.interval, "{:.1f}")


def show_difference(score: Estimate) -> Cell:
    """``+1.2 (-0.3 to +2.8)``, in percent."""
    cell = _show(score.value, score.interval, "{:+.1f}")
    return Cell(cell.text.replace("-", MINUS), cell.value, is_number=True)


def show_spread(spread: Spread | None) -> Cell:
    """``50.3 (48.9 to 51.7)``, the mean of several trainings, their lowest and highest."""
    if spread is None:
        return number(None)
    return _show(spread.mean, (spread.low, spread.high), "{:.1f}")


def _show(value: float | None, ends: tuple[float, float] | None, form: str) -> Cell:
    if value is None:
        return number(None)
    span = f" ({form.format(ends[0])} to {form.format(ends[1])})" if ends else ""
    return Cell(form.format(value) + span, value, is_number=True)


def judge(score: Estimate) -> str:
    """Whether a difference is more than the choice of the images."""
    if score.interval is None:
        return "unknown"
    low, high = score.interval
    if low > 0:
        return "better"
    return "worse" if high < 0 else "can't be told apart"


def make_tables(report: DetectionReport) -> dict[str, Table]:
    """All tables but those of :func:`tabulate_categories`, by name."""
    runs, differences = report.runs, report.config_differences
    names = [run.name for run in runs]
    compared = [row for row in report.comparisons if not row.reason]
    measured = [(run.name, run.cost) for run in runs if run.cost]
    scored = [(run.name, run.evaluation) for run in runs if run.evaluation]
    tables = {
        "scores": make_table(
            ["run", *METRICS],
            ([run.name, *(show_score(_find_score(run, m)) for m in METRICS)] for run in runs),
        ),
        "metrics": make_table(["score", ""], METRIC_NAMES.items(), is_sortable=False),
        "seeds": make_table(
            ["runs", "trainings", *METRICS],
            (
                [group.name, len(group.runs), *(show_spread(group.scores[m]) for m in METRICS)]
                for group in report.seeds
            ),
        ),
        "seed_differences": make_table(
            ["runs", "seeds", *METRICS],
            (
                [
                    *(f"{row.group} minus {row.minus}", len(row.seeds)),
                    *(show_difference(row.scores[m]) for m in METRICS),
                ]
                for row in report.seed_differences
            ),
        ),
        "differences": make_table(
            ["runs", "AP is", "AR1 is", *METRICS],
            (
                [
                    f"{row.run} minus {row.minus}",
                    *(judge(row.scores[m]) for m in ("AP", "AR1")),
                    *(show_difference(row.scores[m]) for m in METRICS),
                ]
                for row in compared
            ),
        ),
        "errors": _tabulate_errors(scored),
        "calibration": make_table(
            ["run", "expected calibration error", "score with the best F1"],
            (
                [name, number(c.error, ".3f"), number(c.best_threshold, ".3f")]
                for name, c in ((name, found.calibration) for name, found in scored)
            ),
        ),
        "training": make_table(
            ["run", "iterations done", "planned", "starts"],
            ([run.name, *vars(run.training).values()] for run in runs if run.training),
        ),
        "cost": make_table(
            ["run", "parameters", "multiply-adds of an image", *PARTS[:3], "one region", "regions"]
            + ["ms an image", "peak memory (MB)", "measured on"],
            (
                [
                    *(name, quantity(cost.parameters["all"]), quantity(cost.total_multiply_adds)),
                    *(quantity(cost.multiply_adds[part]) for part in PARTS),
                    *(number(n, ".0f") for n in (cost.regions, cost.ms_per_image["median"])),
                    *(number(cost.peak_memory_mb, ",.0f"), cost.device),
                ]
                for name, cost in measured
            ),
        ),
        "runtimes": make_table(
            ["run", "runtime", "precision", "AP", "ms an image", "from", "to", "measured on"],
            (
                [
                    *(name, row.runtime, row.precision, number(row.ap, ".2f")),
                    *(number(row.ms_per_image[key], ".1f") for key in ("median", "low", "high")),
                    f"{row.device}, {row.threads} threads",
                ]
                for name, cost in measured
                for row in cost.runtimes
            ),
        ),
        "parameters": make_table(
            ["run", *PARTS],
            (
                [name, *(quantity(cost.parameters[part]) for part in PARTS)]
                for name, cost in measured
            ),
        ),
        **tabulate_robustness(runs),
        "references": _tabulate_references(),
        "provenance": _tabulate_provenance(runs),
        "config_differences": make_table(
            ["key", *names],
            ([key, *map(text, values)] for key, values in differences.items()),
            is_sortable=False,
        ),
    }
    return tables


def _find_score(run: RunSummary, metric: str) -> Estimate:
    return run.evaluation.scores[metric] if run.evaluation else UNKNOWN


def _tabulate_errors(scored: Sequence[tuple[str, EvaluationSummary]]) -> Table:
    totals = {
        "false positives": "all wrong boxes together",
        "false negatives": "all objects that are not found, together",
    }
    costs = [
        {
            **found.errors.types,
            "false positives": found.errors.false_positives,
            "false negatives": found.errors.false_negatives,
        }
        for _, found in scored
    ]
    columns = [f"{what}, {name}" for name, _ in scored for what in ("number", "AP50")]
    rows = (
        [kind, meaning]
        + [
            cell
            for of_run in costs
            for cell in (of_run[kind].count, number(of_run[kind].ap50, ".2f"))
        ]
        for kind, meaning in {**TYPES, **totals}.items()
    )
    return make_table(["error", "what it is", *columns], rows if scored else ())


def _tabulate_references() -> Table:
    counted = "; multiply-adds counted here: "
    return make_table(
        ["detector", "AP", "multiply-adds", "ms", "source"],
        (
            [
                *(r.name, number(r.ap, ".1f"), quantity(r.multiply_adds)),
                *(number(r.ms_per_image, ".0f"), r.source + (r.counted and counted + r.counted)),
            ]
            for r in REFERENCES
        ),
    )


def _tabulate_provenance(runs: Sequence[RunSummary]) -> Table:
    """A column for each run; numbers as texts, since they are not to be compared."""
    found = [_list_facts(run) for run in runs]
    keys = dict.fromkeys(key for facts in found for key in facts)
    rows = ([key, *(_show_fact(facts.get(key)) for facts in found)] for key in keys)
    return make_table(["", *(run.name for run in runs)], rows, is_sortable=False)


def _list_facts(run: RunSummary) -> Mapping[str, Any]:
    data = vars(run.evaluation.data) if run.evaluation else {}
    made = run.provenance
    return {
        "folder": run.folder,
        "data set": data.get("name"),
        "JSON": data.get("json_file"),
        "SHA-256 of the JSON": data.get("sha256"),
        **{key: data.get(key) for key in ("images", "objects", "crowds", "detections")},
        "evaluated after iteration": made.evaluated_iteration,
        "evaluated weights": made.evaluated_weights,
        "seed": made.seed,
        "command": " ".join(made.command) if made.command else None,
        "started": made.time,
        "trained on": made.device,
        "commit": made.git_commit,
        **{f"version of {key}": value for key, value in sorted(made.versions.items())},
    }


def _show_fact(value: object) -> Cell:
    return text(f"{value:,}" if isinstance(value, int) else value)


def tabulate_categories(report: DetectionReport) -> list[Table]:
    """A table for each data set, with columns for each of its runs."""
    groups: dict[object, list[tuple[str, EvaluationSummary]]] = {}
    for run in report.runs:
        if run.evaluation:
            names = tuple(category.name for category in run.evaluation.categories)
            key = (run.evaluation.data.sha256, names)
            groups.setdefault(key, []).append((run.name, run.evaluation))
    compared = {row.run: row.categories for row in report.comparisons if not row.reason}
    return [_tabulate_categories(runs, compared) for runs in groups.values()]


def _tabulate_categories(
    runs: Sequence[tuple[str, EvaluationSummary]], compared: Mapping[str, Mapping[str, Estimate]]
) -> Table:
    metrics = OF_CATEGORY if len(runs) == 1 else OF_CATEGORY[:1]
    columns = list(metrics) if len(runs) == 1 else [f"{metrics[0]}, {name}" for name, _ in runs]
    changes = {name: compared[name] for name, _ in runs if name in compared}
    rows = (
        [category.name, category.objects]
        + [show_score(run.categories[k].scores[m]) for _, run in runs for m in metrics]
        + [show_difference(of_run[category.name]) for of_run in changes.values()]
        for k, category in enumerate(runs[0][1].categories)
    )
    minus = [f"{name} minus the first" for name in changes]
    return make_table(["category", "objects", *columns, *minus], rows)
