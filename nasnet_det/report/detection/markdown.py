"""``report.md``: the tables of a report, short enough for a README or a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasnet_det.report.detection.text import (
    OVER_SEEDS,
    UNKNOWN,
    judge,
    write_count,
    write_difference,
    write_score,
    write_spread,
    write_value,
)
from nasnet_det.runs.detector_files import DetectorCost

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
MAX_DIFFERENCES = 30


def write_markdown(report: Mapping[str, Any]) -> str:
    """The Markdown of ``report.json``'s content."""
    runs = report["runs"]
    percent = round(100 * report["interval_level"])
    lines = ["# Detection report", ""]
    header = ["run", *SHOWN]
    rows = [
        [run["name"], *(write_score((run["scores"] or {}).get(name, UNKNOWN)) for name in SHOWN)]
        for run in runs
    ]
    lines += [*_table(header, rows), ""]
    if report["draws"]:
        lines += [
            f"COCO's scores in percent, with {percent}% intervals of a bootstrap over images "
            f"({report['draws']:,} draws).",
            "",
        ]
    for run in runs:
        if run["data"]:
            data = run["data"]
            lines.append(
                f"- {run['name']}: {data['detections']:,} detections on {data['images']:,} images "
                f"with {data['objects']:,} objects of {data['categories']} categories "
                f"({data['name']}, SHA-256 {data['sha256'][:12]})"
            )
        lines += [f"- {run['name']}: {note}" for note in run["notes"]]
    lines.append("")
    lines += _write_seeds(report["seeds"])
    lines += _write_comparisons(report["comparisons"])
    lines += _write_costs(runs)
    if differences := report["config_differences"]:
        shown = list(differences.items())[:MAX_DIFFERENCES]
        lines += ["## Where the configs differ", ""]
        lines += _table(
            ["key", *(run["name"] for run in runs)],
            [[key, *map(write_value, values)] for key, values in shown],
        )
        if len(differences) > len(shown):
            lines += ["", f"... and {len(differences) - len(shown)} more, in report.json."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _write_seeds(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    if not groups:
        return []
    rows = [
        [
            group["name"],
            str(len(group["runs"])),
            *(write_spread(group["scores"][name]) for name in SHOWN),
        ]
        for group in groups
    ]
    header = ["runs", "trainings", *SHOWN]
    return ["## Over seeds", "", *_table(header, rows), "", OVER_SEEDS, ""]


def _write_comparisons(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    if not comparisons:
        return []
    lines = ["## Differences on the same images", ""]
    for row in comparisons:
        if row["reason"]:
            lines.append(f"- {row['run']} and {row['minus']} are not compared: {row['reason']}")
    rows = [
        [
            f"{row['run']} minus {row['minus']}",
            judge(row["scores"]["AP"]),
            *(write_difference(row["scores"][name]) for name in SHOWN),
        ]
        for row in comparisons
        if not row["reason"]
    ]
    return [*lines, *(_table(["runs", "AP is", *SHOWN], rows) if rows else []), ""]


def _write_costs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            run["name"],
            write_count(run["cost"]["parameters"]["all"]),
            write_count(DetectorCost(**run["cost"]).total_multiply_adds),
            f"{run['cost']['ms_per_image']['median']:.0f}",
            run["cost"]["device"],
        ]
        for run in runs
        if run["cost"]
    ]
    if not rows:
        return []
    header = ["run", "parameters", "multiply-adds of an image", "ms an image", "measured on"]
    return ["## Cost", "", *_table(header, rows), ""]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines]
