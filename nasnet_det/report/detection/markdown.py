"""``report.md``: the tables of a report, short enough for a README or a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nasnet_det.report.detection.intervals import LEVEL
from nasnet_det.report.detection.page import BETWEEN_SEEDS, OVER_SEEDS
from nasnet_det.report.detection.robustness_tables import MEANING
from nasnet_det.report.detection.summary import DetectionReport
from nasnet_det.report.detection.tables import make_tables

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
COSTS = ("run", "parameters", "multiply-adds of an image", "ms an image", "measured on")
MAX_DIFFERENCES = 30


def write_markdown(report: DetectionReport) -> str:
    """The Markdown of a report."""
    return "\n".join(_write_lines(report)).rstrip() + "\n"


def _write_lines(report: DetectionReport) -> Iterator[str]:
    tables = make_tables(report)
    yield from ("# Detection report", "")
    yield from (*tables["scores"].select("run", *SHOWN).write_markdown(), "")
    if report.draws:
        yield (
            f"COCO's scores in percent, with {LEVEL:.0%} intervals of a bootstrap over images "
            f"({report.draws:,} draws)."
        )
        yield ""
    yield from (*_list_runs(report), "")
    if tables["seeds"].rows:
        shown = tables["seeds"].select("runs", "trainings", *SHOWN)
        yield from ("## Over seeds", "", *shown.write_markdown(), "", OVER_SEEDS, "")
    if tables["seed_differences"].rows:
        shown = tables["seed_differences"].select("runs", "seeds", *SHOWN)
        yield from (*shown.write_markdown(), "", BETWEEN_SEEDS, "")
    if report.comparisons:
        yield from ("## Differences on the same images", "")
        for row in report.comparisons:
            if row.reason:
                yield f"- {row.run} and {row.minus} are not compared: {row.reason}"
        if tables["differences"].rows:
            yield from tables["differences"].select("runs", "AP is", *SHOWN).write_markdown()
        yield ""
    if tables["cost"].rows:
        yield from ("## Cost", "", *tables["cost"].select(*COSTS).write_markdown(), "")
    if tables["runtimes"].rows:
        yield from ("## Runtimes", "", *tables["runtimes"].write_markdown(), "")
    if tables["robustness"].rows:
        yield from ("## On corrupted pictures", "", *tables["robustness"].write_markdown(), "")
        yield from (*tables["corruptions"].write_markdown(), "", MEANING, "")
    differences = tables["config_differences"]
    if differences.rows:
        shown = replace(differences, rows=differences.rows[:MAX_DIFFERENCES])
        yield from ("## Where the configs differ", "", *shown.write_markdown())
        if len(differences.rows) > MAX_DIFFERENCES:
            number = len(differences.rows) - MAX_DIFFERENCES
            yield from ("", f"... and {number} more, in report.json.")


def _list_runs(report: DetectionReport) -> Iterator[str]:
    for run in report.runs:
        if run.evaluation:
            data = run.evaluation.data
            yield (
                f"- {run.name}: {data.detections:,} detections on {data.images:,} images "
                f"with {data.objects:,} objects of {data.categories} categories "
                f"({data.name}, SHA-256 {data.sha256[:12]})"
            )
        yield from (f"- {run.name}: {note}" for note in run.notes)
