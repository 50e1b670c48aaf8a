"""A drawing of a network's plan: its cells from the image to the end, a row for each stride.

from nasnet_det.network import resolve_variant
from nasnet_det.report.draw_plan import draw_plan

draw_plan(*resolve_variant("nasnet_a_mobile")).savefig("plan.svg")
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nasnet_det.genotype import Genotype
from nasnet_det.network import CellRow, NetworkSpec, plan_cells, stem_channels
from nasnet_det.report.draw_cell import LINE_STYLES, MARGIN
from nasnet_det.report.figure_style import INK

FILLS = {"stem": "#EDEDED", "normal": "#CFE3F5", "reduction": "#FBE7A1"}
WIDTH, HEIGHT = 0.62, 0.5  # of a cell, in inches
STEP, ROW = 0.8, 1.0  # from cell to cell, from stride to stride
LABEL_WIDTH = 1.5


def draw_plan(spec: NetworkSpec, genotype: Genotype) -> Figure:
    """Each cell with its kind and its output's channels; dashed where ``h_prev`` comes from.

    Raises:
        ValueError: the spec or the genotype is impossible.
    """
    plan = plan_cells(spec, genotype)
    stem_stride = 2 if spec.stem == "imagenet" else 1
    strides = sorted({stem_stride, *(row.out_stride for row in plan)})
    places = {"stem": (0.0, 0.0)}
    for index, row in enumerate(plan, start=1):
        places[row.name] = (index * STEP, -strides.index(row.out_stride) * ROW)
    width = LABEL_WIDTH + len(plan) * STEP + WIDTH + 2 * MARGIN
    height = (len(strides) - 1) * ROW + HEIGHT + 0.7
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_aspect("equal")
    left = -LABEL_WIDTH - WIDTH / 2 - MARGIN
    axes.set_xlim(left, left + width)
    axes.set_ylim(-(len(strides) - 1) * ROW - HEIGHT / 2 - 0.25, -0.0 + HEIGHT / 2 + 0.45)
    for stride in strides:
        y = -strides.index(stride) * ROW
        power = int(math.log2(stride))
        axes.text(
            left + MARGIN, y, f"stride {stride} (1/{stride} of the image)" if power else "stride 1",
            fontsize=8, va="center", color=INK, wrap=True,
        )  # fmt: skip
    for row in plan:
        _draw_lines(axes, row, places)
    _draw_box(axes, "stem", "stem", stem_channels(spec), places["stem"])
    for row in plan:
        _draw_box(axes, row.name, row.kind, row.out_channels, places[row.name], row.feature or "")
    return figure


def _draw_lines(axes: Axes, row: CellRow, places: dict[str, tuple[float, float]]) -> None:
    for source, style, bend in ((row.h_prev, "h_prev", -0.35), (row.h, "h", 0.0)):
        if source is None:
            continue
        start, end = places[source], places[row.name]
        axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=7,
                shrinkA=18,
                shrinkB=18,
                connectionstyle=f"arc3,rad={bend}",
                linewidth=1.0,
                zorder=1,
                **LINE_STYLES[style],
            )
        )


def _draw_box(
    axes: Axes, name: str, kind: str, channels: int, place: tuple[float, float], feature: str = ""
) -> None:
    x, y = place
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=FILLS[kind],
            edgecolor=INK,
            linewidth=2.0 if feature else 0.8,
            zorder=2,
        )
    )
    axes.text(
        x, y, f"{kind}\n{channels:,}", fontsize=7, ha="center", va="center", zorder=3, color=INK,
        gid=f"plan_{name}",
    )  # fmt: skip
    if feature:
        axes.text(
            x + WIDTH / 2 + 0.04, y - HEIGHT / 2 - 0.04, feature, fontsize=9, weight="bold",
            ha="right", va="top", color=INK, zorder=3,
        )  # fmt: skip
