"""The figures of a detection report. Runs differ in color, in dashes and in markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nasnet_det.drawing.figure_style import add_legend, cycle_styles, make_axes
from nasnet_det.report.detection.errors import TYPES
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.matches import IOU_THRESHOLDS
from nasnet_det.report.detection.references import REFERENCES
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.scores import RECALL_LEVELS, compute_curves

SHOWN_LEVELS = (0, 5)  # IoU 0.5 and 0.75
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")  # one more than colors
MAX_LABELED = 6  # as many bars side by side have room for their numbers


def draw_precision_recall(names: Sequence[str], evaluations: Sequence[Evaluation]) -> Figure:
    """Precision over recall, the mean of the categories, at two IoU thresholds."""
    figure, panels = make_axes(len(SHOWN_LEVELS), num_columns=2, size=(4.2, 3.4))
    for name, evaluation, style in zip(names, evaluations, cycle_styles(len(names)), strict=True):
        curves = compute_curves(evaluation.matches)
        has_objects = ~np.isnan(curves[0, :, 0])
        for level, panel in zip(SHOWN_LEVELS, panels, strict=True):
            mean = curves[level, has_objects].mean(axis=0) if has_objects.any() else []
            panel.plot(
                RECALL_LEVELS if len(mean) else [], mean, color=style["color"],
                linestyle=style["linestyle"], linewidth=1.6, label=name,
            )  # fmt: skip
    for level, panel in zip(SHOWN_LEVELS, panels, strict=True):
        panel.set_title(f"IoU {IOU_THRESHOLDS[level]:.2f}", fontsize=10)
        panel.set_xlabel("recall", fontsize=9)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.02)
    panels[0].set_ylabel("precision", fontsize=9)
    add_legend(figure, panels[0])
    return figure


def draw_errors(names: Sequence[str], errors: Sequence[Mapping[str, Any]]) -> Figure:
    """What each type of error costs, a bar for each run."""
    figure, (panel,) = make_axes(1, num_columns=1, size=(7.0, 3.0))
    places = np.arange(len(TYPES))
    width = 0.8 / len(names)
    for number, (name, found, style) in enumerate(
        zip(names, errors, cycle_styles(len(names)), strict=True)
    ):
        heights = [found["types"][kind]["ap50"] or 0.0 for kind in TYPES]
        bars = panel.bar(
            places - 0.4 + (number + 0.5) * width, heights, width, color=style["color"],
            edgecolor="white", hatch=HATCHES[number % len(HATCHES)], label=name,
        )  # fmt: skip
        if len(names) <= MAX_LABELED:
            texts = [f"{height:.1f}" if height >= 0.05 else "" for height in heights]
            panel.bar_label(bars, texts, fontsize=7, padding=1)
    panel.set_xticks(places, list(TYPES), fontsize=8)
    panel.set_ylabel("AP50 lost (percent)", fontsize=9)
    add_legend(figure, panel)
    return figure


def draw_calibration(names: Sequence[str], calibrations: Sequence[Mapping[str, Any]]) -> Figure:
    """The share of right detections over their score, and how many there are."""
    figure, panels = make_axes(2, num_columns=2, size=(4.2, 3.2), share_y=False)
    panels[0].plot([0, 1], [0, 1], color="#888888", linewidth=0.8, label="as it should be")
    for name, found, style in zip(names, calibrations, cycle_styles(len(names)), strict=True):
        bins = [row for row in found["bins"] if row["count"]]
        line = {"linewidth": 1.4, "markersize": 4, **style}
        panels[0].plot(
            [row["score"] for row in bins], [row["right"] for row in bins], label=name, **line
        )
        panels[1].plot(
            [(row["low"] + row["high"]) / 2 for row in bins], [row["count"] for row in bins], **line
        )
    panels[0].set_ylabel("share that is right", fontsize=9)
    panels[1].set_ylabel("detections", fontsize=9)
    panels[1].set_yscale("log")
    for panel in panels:
        panel.set_xlabel("score", fontsize=9)
        panel.set_xlim(0, 1)
    add_legend(figure, panels[0])
    return figure


def draw_training(names: Sequence[str], runs: Sequence[DetectionRun]) -> Figure | None:
    """Loss, learning rate and AP over the iterations; None where no run wrote any."""
    keys = {"total_loss": "loss", "bbox/AP": "AP (percent)", "lr": "learning rate"}
    shown = [key for key in keys if any(_find_curve(run, key)[0] for run in runs)]
    if not shown:
        return None
    figure, panels = make_axes(len(shown), num_columns=3, size=(3.2, 2.8), share_y=False)
    for key, panel in zip(shown, panels, strict=True):
        for name, run, style in zip(names, runs, cycle_styles(len(names)), strict=True):
            iterations, values = _find_curve(run, key)
            panel.plot(
                iterations, values, color=style["color"], linestyle=style["linestyle"],
                linewidth=1.4, label=name,
                marker=style["marker"] if len(values) < 10 else None, markersize=4,
            )  # fmt: skip
        panel.set_title(keys[key], fontsize=10)
        panel.set_xlabel("iteration", fontsize=9)
    add_legend(figure, panels[0])
    return figure


def _find_curve(run: DetectionRun, key: str) -> tuple[list[int], list[float]]:
    points = [
        (line["iteration"], line[key])
        for line in run.metrics
        if isinstance(line.get(key), int | float) and np.isfinite(line[key])
    ]
    return [x for x, _ in points], [y for _, y in points]


def draw_cost(runs: Sequence[Mapping[str, Any]]) -> Figure | None:
    """AP over multiply-adds and over time, with published results hollow and grey.

    Args:
        runs: of ``report.json``.

    Returns:
        None where no run has both a score and a cost.
    """
    known = [(place, r) for place, r in enumerate(runs) if r["cost"] and r["scores"]]
    known = [(place, r) for place, r in known if r["scores"]["AP"]["value"] is not None]
    if not known:
        return None
    figure, panels = make_axes(2, num_columns=2, size=(4.6, 3.8), share_x=False)
    styles = cycle_styles(len(runs))
    for place, run in known:
        score, style = run["scores"]["AP"], styles[place]
        low, high = score["interval"] or [score["value"]] * 2
        below, above = max(0.0, score["value"] - low), max(0.0, high - score["value"])
        cost = run["cost"]
        for panel, x in (
            (panels[0], total_multiply_adds(cost) / 1e9),
            (panels[1], cost["ms_per_image"]["median"]),
        ):
            panel.errorbar(
                x, score["value"], yerr=[[below], [above]], color=style["color"],
                marker=style["marker"], markersize=7, capsize=3, linestyle="none",
                label=run["name"],
            )  # fmt: skip
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


def total_multiply_adds(cost: Mapping[str, Any]) -> float:
    """Of an image: all parts, the region head as often as there are regions."""
    parts = dict(cost["multiply_adds"])
    head = parts.pop("region head", 0)
    return sum(parts.values()) + head * cost["regions"]
