"""The sections of a page on how good detectors are: scores, differences, errors, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasnet_det.report import html_page as page
from nasnet_det.report.detection.errors import TYPES
from nasnet_det.report.detection.scores import METRICS, PRECISIONS, RECALLS
from nasnet_det.report.detection.text import (
    DASH,
    METRIC_NAMES,
    OVER_SEEDS,
    UNKNOWN,
    judge,
    write_difference,
    write_score,
    write_spread,
)
from nasnet_det.report.html_page import Number

Runs = Sequence[Mapping[str, Any]]  # of report.json


def _number(score: Mapping[str, Any], text: str) -> Number:
    return Number(text, score["value"])


def list_scores(report: Mapping[str, Any]) -> list[str]:
    """All metrics of each run, with intervals."""
    parts = [page.heading("Scores")]
    for metrics in (PRECISIONS, RECALLS):
        rows: list[list[object]] = []
        for run in report["runs"]:
            scores = run["scores"] or dict.fromkeys(metrics, UNKNOWN)
            rows.append(
                [run["name"], *(_number(scores[m], write_score(scores[m])) for m in metrics)]
            )
        parts.append(page.table(["run", *metrics], rows, sortable=True))
    percent = round(100 * report["interval_level"])
    if report["draws"]:
        parts.append(
            page.paragraph(
                f"COCO's scores in percent. In brackets the {percent}% interval of a bootstrap "
                f"over images ({report['draws']:,} draws): where the score on very many images of "
                "the same kind lies. It is not centred on the score, since the AP of few images is "
                "too high on average. It does not cover another training; for that, train with "
                "several seeds."
            )
        )
    explained = [[name, METRIC_NAMES[name]] for name in METRICS]
    return [*parts, page.details("What the columns mean", [page.table(["score", ""], explained)])]


def list_seeds(groups: Runs) -> list[str]:
    """The scores of several trainings of one config."""
    if not groups:
        return []
    parts = [page.heading("Over seeds")]
    for metrics in (PRECISIONS, RECALLS):
        rows: list[list[object]] = []
        for group in groups:
            spreads = [group["scores"][m] for m in metrics]
            numbers = [Number(write_spread(s), s["mean"] if s else None) for s in spreads]
            rows.append([group["name"], len(group["runs"]), *numbers])
        parts.append(page.table(["runs", "trainings", *metrics], rows, sortable=True))
    return [*parts, page.paragraph(OVER_SEEDS)]


def list_differences(comparisons: Runs) -> list[str]:
    """Each run minus the first, or why they are not compared."""
    if not comparisons:
        return []
    parts = [page.heading("Differences on the same images")]
    parts += [
        page.warning(f"{row['run']} and {row['minus']} are not compared: {row['reason']}.")
        for row in comparisons
        if row["reason"]
    ]
    compared = [row for row in comparisons if not row["reason"]]
    if not compared:
        return parts
    for metrics in (PRECISIONS, RECALLS):
        rows = []
        for row in compared:
            scores = [(row["scores"][m], write_difference(row["scores"][m])) for m in metrics]
            verdict = judge(row["scores"][next(iter(metrics))])
            name = f"{row['run']} minus {row['minus']}"
            rows.append([name, verdict, *(_number(*score) for score in scores)])
        header = ["runs", f"{next(iter(metrics))} is", *metrics]
        parts.append(page.table(header, rows, sortable=True))
    return [
        *parts,
        page.paragraph(
            "Both runs are scored on the same draws of the images. Where the interval has zero in "
            "it, the images can't tell the two apart."
        ),
    ]


def list_categories(report: Mapping[str, Any]) -> list[str]:
    """A table for each data set, with a column for each of its runs."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in report["runs"]:
        if run["categories"]:
            key = (run["data"]["sha256"], tuple(c["name"] for c in run["categories"]))
            groups.setdefault(key, []).append(run)
    differences = {
        row["run"]: row["categories"] for row in report["comparisons"] if not row["reason"]
    }
    parts = [page.heading("Categories")] if groups else []
    for runs in groups.values():
        metrics = ("AP", "AP50", "AP75", "AR100") if len(runs) == 1 else ("AP",)
        compared = [run for run in runs if run["name"] in differences]
        header = ["category", "objects"]
        header += [m if len(runs) == 1 else f"{m}, {run['name']}" for run in runs for m in metrics]
        header += [f"{run['name']} minus the first" for run in compared]
        rows = []
        for number, category in enumerate(runs[0]["categories"]):
            row: list[object] = [category["name"], category["objects"]]
            mine = [run["categories"][number] for run in runs]
            row += [_number(c[m], write_score(c[m])) for c in mine for m in metrics]
            changes = [differences[run["name"]][category["name"]] for run in compared]
            row += [_number(change, write_difference(change)) for change in changes]
            rows.append(row)
        parts.append(page.table(header, rows, sortable=True))
    return parts


def show_curves(figures: Mapping[str, bytes]) -> list[str]:
    """Precision over recall."""
    if "precision_recall" not in figures:
        return []
    return [
        page.heading("Precision and recall"),
        page.picture(
            figures["precision_recall"],
            "Precision over recall of each run, at IoU 0.50 and 0.75.",
            "The mean of the categories that have objects.",
        ),
    ]


def list_errors(runs: Runs, figures: Mapping[str, bytes]) -> list[str]:
    """What each type of error costs, and which classes are taken for each other."""
    scored = [run for run in runs if run["errors"]]
    if not scored:
        return []
    header = ["error", "what it is"]
    header += [f"{what}, {run['name']}" for run in scored for what in ("number", "AP50")]
    rows: list[list[object]] = []
    meanings = {
        **TYPES,
        "false_positives": "all wrong boxes together",
        "false_negatives": "all objects that are not found, together",
    }
    for name, meaning in meanings.items():
        row: list[object] = [name.replace("_", " "), meaning]
        for run in scored:
            found = run["errors"]["types"].get(name) or run["errors"][name]
            loss = found["ap50"]
            row += [found["count"], Number(DASH if loss is None else f"{loss:.2f}", loss)]
        rows.append(row)
    parts = [
        page.heading("Errors"),
        page.picture(
            figures["errors"],
            "How much AP50 would rise if one type of error were put right, for each run.",
            "How much AP50 would rise if one type of error alone were put right (TIDE, "
            "arXiv 2008.08115). The types don't add up to 100.",
        ),
        page.table(header, rows, sortable=True),
    ]
    for run in scored:
        if confusions := run["errors"]["confusions"][:5]:
            text = ", ".join(f"{true} as {found} ({n:,})" for true, found, n in confusions)
            parts.append(page.paragraph(f"{run['name']} most often takes {text}."))
    return parts


def list_calibration(runs: Runs, figures: Mapping[str, bytes]) -> list[str]:
    """Whether scores mean what they say."""
    scored = [run for run in runs if run["calibration"]]
    if not scored:
        return []
    rows = []
    for run in scored:
        error, threshold = (run["calibration"][key] for key in ("error", "best_threshold"))
        rows.append(
            [
                run["name"],
                Number(DASH if error is None else f"{error:.3f}", error),
                Number(DASH if threshold is None else f"{threshold:.3f}", threshold),
            ]
        )
    return [
        page.heading("Calibration"),
        page.picture(
            figures["calibration"],
            "The share of right boxes over their score, and the number of boxes over their score.",
            "At IoU 0.50. On the grey line, 70 of 100 boxes with a score of 0.7 are right.",
        ),
        page.table(
            ["run", "expected calibration error", "score with the best F1"], rows, sortable=True
        ),
    ]
