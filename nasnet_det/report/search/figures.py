"""The figures of a search's report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from nasnet_det.drawing.figure_style import INK, STYLES, add_legend, cycle_styles, make_axes
from nasnet_det.report.search.compare import Group
from nasnet_det.report.search.numbers import (
    TOP_KS,
    choose_window,
    compute_moving_mean,
    compute_top_means,
    count_operations,
    find_pareto_front,
)
from nasnet_det.runs.study_results import Child, Study
from nasnet_det.space import CELLS

MAX_VECTOR_DOTS = 2000  # more are drawn as pixels, also in an SVG
NOISE_SIGMAS = 2.0
DOTS = (("complete", "one child", "#888888"), ("pruned", "pruned", "none"))


def _percent(curve: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 100 * value for value in curve]


def _numbers(curve: Sequence[object]) -> range:
    """1, 2, ...: the first child is number 1 on the axes."""
    return range(1, len(curve) + 1)


def draw_rewards(studies: Sequence[Study]) -> Figure:
    """A panel for each study: every child's reward, the best so far, and the moving mean."""
    figure, panels = make_axes(len(studies), num_columns=2, size=(4.2, 2.7))
    states = {child.state for study in studies for child in study.finished}
    for study, panel in zip(studies, panels, strict=True):
        children = study.finished
        window = choose_window(study)
        for state, label, fill in DOTS:
            places = [place for place, c in enumerate(children, 1) if c.state == state]
            rewards = _percent([children[place - 1].reward for place in places])
            panel.plot(
                places, rewards, "o", color="#888888", markerfacecolor=fill, markersize=2.6,
                markeredgewidth=0.7, label=label, rasterized=len(places) > MAX_VECTOR_DOTS,
            )  # fmt: skip
        best = _percent(compute_top_means(children, 1))
        panel.step(
            _numbers(best), best, where="post", color="#D55E00", linestyle="--", label="best so far"
        )
        moving = _percent(compute_moving_mean(children, window))
        panel.plot(_numbers(moving), moving, color="#0072B2", linewidth=1.8, label="moving mean")
        failed = [place for place, c in enumerate(children, 1) if c.state == "failed"]
        (marks,) = panel.plot(
            failed, [0.02] * len(failed), "x", color=INK, markersize=5,
            transform=panel.get_xaxis_transform(), label="failed",
        )  # fmt: skip
        marks.set_in_layout(False)
        panel.set_title(f"{study.title} (mean of {window})", fontsize=10)
        panel.set_xlabel("children", fontsize=9)
        panel.set_ylabel("held-out accuracy (%)", fontsize=9)
    add_legend(figure, panels[0], without={"pruned", "failed"} - states)
    return figure


def draw_top_means(groups: Sequence[Group]) -> Figure:
    """Best, top 5 and top 25 over the number of children, as in the NASNet paper's figure 6."""
    figure, panels = make_axes(len(TOP_KS), num_columns=3, size=(3.2, 3.0))
    for k, panel in zip(TOP_KS, panels, strict=True):
        for group, style in zip(groups, cycle_styles(len(groups)), strict=True):
            top = {name: _percent(curve) for name, curve in group.top_means(k).items()}
            line = {key: style[key] for key in ("color", "linestyle")}
            seeds = len(group.studies)
            label = group.title + (f", mean of {seeds} seeds" if seeds > 1 else "")
            x = _numbers(top["mean"])
            panel.step(x, top["mean"], where="post", linewidth=1.6, label=label, **line)
            if seeds > 1:
                panel.fill_between(
                    x, top["lowest"], top["highest"], step="post", alpha=0.18, linewidth=0,
                    color=style["color"],
                )  # fmt: skip
        panel.set_title("best" if k == 1 else f"mean of the best {k}", fontsize=10)
        panel.set_xlabel("children", fontsize=9)
    panels[0].set_ylabel("held-out accuracy (%)", fontsize=9)
    add_legend(figure, panels[0])
    return figure


def draw_fronts(groups: Sequence[Group]) -> Figure:
    """Accuracy against multiply-adds, with the Pareto front of each group."""
    figure, (panel,) = make_axes(1, num_columns=1, size=(6.0, 4.2))
    for group, style in zip(groups, cycle_styles(len(groups)), strict=True):
        children = [c for study in group.studies for c in study.complete if c.macs is not None]
        front = find_pareto_front(children)
        panel.plot(
            *_measure(children), style["marker"], color=style["color"], markersize=3.5, alpha=0.45,
            markeredgewidth=0, rasterized=len(children) > MAX_VECTOR_DOTS,
        )  # fmt: skip
        panel.plot(
            *_measure(front), drawstyle="steps-post", markersize=5, markeredgecolor=INK,
            markeredgewidth=0.6, label=f"{group.title}: Pareto front", **style,
        )  # fmt: skip
    panel.set_xlabel("multiply-adds of one image (millions)", fontsize=9)
    panel.set_ylabel("held-out accuracy (%)", fontsize=9)
    add_legend(figure, panel)
    return figure


def _measure(children: Sequence[Child]) -> tuple[list[float], list[float]]:
    return [c.macs / 1e6 for c in children], _percent([c.reward for c in children])  # type: ignore[operator]


def draw_operations(study: Study) -> Figure:
    """A panel for each operation: its share among what was proposed, in both cells."""
    window = choose_window(study)
    counted = count_operations(study, window)
    operations = study.space.operations
    figure, panels = make_axes(len(operations), num_columns=4, size=(2.2, 1.6))
    share, decisions = 1 / len(operations), counted["decisions"]
    noise = NOISE_SIGMAS * math.sqrt(share * (1 - share) / decisions)
    for operation, panel in zip(operations, panels, strict=True):
        panel.axhspan(
            100 * max(0.0, share - noise), 100 * (share + noise), color="#EEEEEE", linewidth=0,
            label="uniform choice: 95% of windows",
        )  # fmt: skip
        for cell, style in zip(CELLS, STYLES, strict=False):
            panel.plot(
                counted["children"], _percent(counted[cell][operation]), color=style["color"],
                linestyle=style["linestyle"], linewidth=1.4, label=f"{cell} cell",
                marker="o" if len(counted["children"]) == 1 else None,
            )  # fmt: skip
        panel.set_title(operation, fontsize=9)
    shares = [s for cell in CELLS for curve in counted[cell].values() for s in curve]
    panels[0].set_ylim(0, 108 * max(share + noise, *shares))  # of all panels
    figure.supxlabel(f"children (windows of {window})", fontsize=9)
    figure.supylabel("share of operations (%)", fontsize=9)
    add_legend(figure, panels[0])
    return figure
