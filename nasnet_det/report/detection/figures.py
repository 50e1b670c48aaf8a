"""The figures of a detection report. Runs differ in color, in dashes and in markers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nasnet_det.drawing.figure_style import add_legend, cycle_styles, make_axes
from nasnet_det.report.detection.errors import TYPES
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.matches import IOU_THRESHOLDS
from nasnet_det.report.detection.references import REFERENCES
from nasnet_det.report.detection.reported_run import ReportedRun
from nasnet_det.report.detection.run_summary import EvaluationSummary
from nasnet_det.report.detection.scores import RECALL_LEVELS, compute_curves

SHOWN_LEVELS = (0, 5)  # IoU 0.5 and 0.75
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")  # one more than colors
MAX_LABELED = 6  # as many bars side by side have room for their numbers


class ScoredRun(NamedTuple):
    """A run that has scores."""

    name: str
    evaluation: Evaluation
    summary: EvaluationSummary


def draw_figures(runs: Sequence[ReportedRun]) -> dict[str, Figure]:
    """All figures by name; those for which no run has values are missing."""
    firsts = [run for run in runs if run.run.is_first]
    figures = {"training": draw_training(firsts), "cost": draw_cost(runs)}
    scored = [
        ScoredRun(run.name, run.evaluation, run.summary.evaluation)
        for run in runs
        if run.evaluation and run.summary.evaluation
    ]
    if scored:
        figures |= {
            "precision_recall": draw_precision_recall(scored),
            "errors": draw_errors(scored),
            "calibration": draw_calibration(scored),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_precision_recall(runs: Sequence[ScoredRun]) -> Figure:
    """Precision over recall, the mean of the categories, at two IoU thresholds."""
    figure, panels = make_axes(len(SHOWN_LEVELS), num_columns=2, size=(4.2, 3.4))
    for run, style in zip(runs, cycle_styles(len(runs)), strict=True):
        curves = compute_curves(run.evaluation.matches)
        has_objects = ~np.isnan(curves[0, :, 0])
        for level, panel in zip(SHOWN_LEVELS, panels, strict=True):
            mean = curves[level, has_objects].mean(axis=0) if has_objects.any() else []
            panel.plot(
                RECALL_LEVELS if len(mean) else [], mean, color=style["color"],
                linestyle=style["linestyle"], linewidth=1.6, label=run.name,
            )  # fmt: skip
    for level, panel in zip(SHOWN_LEVELS, panels, strict=True):
        panel.set_title(f"IoU {IOU_THRESHOLDS[level]:.2f}", fontsize=10)
        panel.set_xlabel("recall", fontsize=9)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.02)
    panels[0].set_ylabel("precision", fontsize=9)
    add_legend(figure, panels[0])
    return figure


def draw_errors(runs: Sequence[ScoredRun]) -> Figure:
    """What each type of error costs, a bar for each run."""
    figure, (panel,) = make_axes(1, num_columns=1, size=(7.0, 3.0))
    places = np.arange(len(TYPES))
    width = 0.8 / len(runs)
    for number, (run, style) in enumerate(zip(runs, cycle_styles(len(runs)), strict=True)):
        types = run.summary.errors.types
        heights = [types[kind].ap50 or 0.0 for kind in TYPES]
        bars = panel.bar(
            places - 0.4 + (number + 0.5) * width, heights, width, color=style["color"],
            edgecolor="white", hatch=HATCHES[number % len(HATCHES)], label=run.name,
        )  # fmt: skip
        if len(runs) <= MAX_LABELED:
            texts = [f"{height:.1f}" if height >= 0.05 else "" for height in heights]
            panel.bar_label(bars, texts, fontsize=7, padding=1)
    panel.set_xticks(places, list(TYPES), fontsize=8)
    panel.set_ylabel("AP50 lost (percent)", fontsize=9)
    add_legend(figure, panel)
    return figure


def draw_calibration(runs: Sequence[ScoredRun]) -> Figure:
    """The share of right detections over their score, and how many there are."""
    figure, panels = make_axes(2, num_columns=2, size=(4.2, 3.2), share_y=False)
    panels[0].plot([0, 1], [0, 1], color="#888888", linewidth=0.8, label="as it should be")
    for run, style in zip(runs, cycle_styles(len(runs)), strict=True):
        bins = [b for b in run.summary.calibration.bins if b.count]
        line = {"linewidth": 1.4, "markersize": 4, **style}
        panels[0].plot(
            [b.score or 0.0 for b in bins], [b.right or 0.0 for b in bins], label=run.name, **line
        )
        panels[1].plot([(b.low + b.high) / 2 for b in bins], [b.count for b in bins], **line)
    panels[0].set_ylabel("share that is right", fontsize=9)
    panels[1].set_ylabel("detections", fontsize=9)
    panels[1].set_yscale("log")
    for panel in panels:
        panel.set_xlabel("score", fontsize=9)
        panel.set_xlim(0, 1)
    add_legend(figure, panels[0])
    return figure


def draw_training(runs: Sequence[ReportedRun]) -> Figure | None:
    """Loss, learning rate and AP over the iterations; None where no run wrote any."""
    keys = {"total_loss": "loss", "bbox/AP": "AP (percent)", "lr": "learning rate"}
    shown = [key for key in keys if any(_find_curve(run, key)[0] for run in runs)]
    if not shown:
        return None
    figure, panels = make_axes(len(shown), num_columns=3, size=(3.2, 2.8), share_y=False)
    for key, panel in zip(shown, panels, strict=True):
        for run, style in zip(runs, cycle_styles(len(runs)), strict=True):
            iterations, values = _find_curve(run, key)
            panel.plot(
                iterations, values, color=style["color"], linestyle=style["linestyle"],
                linewidth=1.4, label=run.name,
                marker=style["marker"] if len(values) < 10 else None, markersize=4,
            )  # fmt: skip
        panel.set_title(keys[key], fontsize=10)
        panel.set_xlabel("iteration", fontsize=9)
    add_legend(figure, panels[0])
    return figure


def _find_curve(run: ReportedRun, key: str) -> tuple[list[int], list[float]]:
    points = [
        (line["iteration"], line[key])
        for line in run.run.metrics
        if isinstance(line.get(key), int | float) and np.isfinite(line[key])
    ]
    return [x for x, _ in points], [y for _, y in points]


def draw_cost(runs: Sequence[ReportedRun]) -> Figure | None:
    """AP over multiply-adds and over time, with published results hollow and grey.

    Returns:
        None where no run has both a score and a cost.
    """
    figure, panels = make_axes(2, num_columns=2, size=(4.6, 3.8), share_x=False)
    is_empty = True
    for run, style in zip(runs, cycle_styles(len(runs)), strict=True):
        found, cost = run.summary.evaluation, run.summary.cost
        if found is None or cost is None or found.scores["AP"].value is None:
            continue
        is_empty = False
        ap = found.scores["AP"].value
        low, high = found.scores["AP"].interval or (ap, ap)
        ends = [[max(0.0, ap - low)], [max(0.0, high - ap)]]
        x = (cost.total_multiply_adds / 1e9, cost.ms_per_image["median"])
        for panel, place in zip(panels, x, strict=True):
            panel.errorbar(
                place, ap, yerr=ends, color=style["color"], marker=style["marker"], markersize=7,
                capsize=3, linestyle="none", label=run.name,
            )  # fmt: skip
    if is_empty:
        return None
    _draw_references(panels)
    panels[0].set_xlabel("multiply-adds of an image (G)", fontsize=9)
    panels[1].set_xlabel("ms for an image (devices differ)", fontsize=9)
    panels[0].set_ylabel("AP (percent)", fontsize=9)
    panels[0].set_ylim(bottom=0)
    for panel in panels:
        panel.set_xscale("log")
        panel.margins(x=0.2)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[1].xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    add_legend(figure, panels[0])
    return figure


def _draw_references(panels: Sequence[Axes]) -> None:
    """Hollow and grey, with their names beside them on the side where there is room."""
    for panel, key, unit in ((panels[0], "multiply_adds", 1e9), (panels[1], "ms_per_image", 1.0)):
        known = [r for r in REFERENCES if getattr(r, key) is not None]
        x = [getattr(r, key) / unit for r in known]
        panel.plot(
            x, [r.ap for r in known], "o", color="none", markeredgecolor="#777777", markersize=6,
            label="published, on COCO",
        )  # fmt: skip
        is_right = key == "multiply_adds"  # these are larger networks than most
        for reference, place in zip(known, x, strict=True):
            panel.annotate(
                reference.name, (place, reference.ap), fontsize=6, color="#555555",
                xytext=(-5 if is_right else 5, 0), textcoords="offset points", va="center",
                ha="right" if is_right else "left",
            )  # fmt: skip
