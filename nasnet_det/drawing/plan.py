"""A drawing of a network's plan: its cells from the image to the end, a row for each stride.

from nasnet_det.drawing.plan import draw_plan
from nasnet_det.variants import resolve_variant

draw_plan(*resolve_variant("nasnet_a_mobile")).savefig("plan.svg")
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nasnet_det.drawing.cells import LINE_STYLES, MARGIN
from nasnet_det.drawing.figure_style import INK
from nasnet_det.genotype import Genotype
from nasnet_det.plan import CellRow, NetworkSpec, plan_cells, stem_channels

FILLS = {"stem": "#EDEDED", "normal": "#CFE3F5", "reduction": "#FBE7A1"}
WIDTH, HEIGHT = 0.62, 0.5  # of a cell, in inches
STEP, ROW = 0.8, 1.0  # from cell to cell, from stride to stride
LABEL_WIDTH = 0.8


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
    height = (len(strides) - 1) * ROW + HEIGHT + 0.45
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_aspect("equal")
    left = -LABEL_WIDTH - WIDTH / 2 - MARGIN
    axes.set_xlim(left, left + width)
    axes.set_ylim(-(len(strides) - 1) * ROW - HEIGHT / 2 - 0.25, HEIGHT / 2 + 0.2)
    for stride in strides:
        y = -strides.index(stride) * ROW
        axes.text(
            left + MARGIN, y, f"stride {stride}",
            fontsize=8, va="center", color=INK, wrap=True,
        )  # fmt: skip
    boxes = {"stem": _draw_box(axes, "stem", "stem", stem_channels(spec), places["stem"])}
    for row in plan:
        place, feature = places[row.name], row.feature or ""
        boxes[row.name] = _draw_box(axes, row.name, row.kind, row.out_channels, place, feature)
    for row in plan:
        _draw_lines(axes, row, places, boxes)
    return figure


def _draw_lines(
    axes: Axes,
    row: CellRow,
    places: Mapping[str, tuple[float, float]],
    boxes: Mapping[str, FancyBboxPatch],
) -> None:
    for source, style, bend in ((row.h_prev, "h_prev", -0.35), (row.h, "h", 0.0)):
        if source is None:
            continue
        arrow = FancyArrowPatch(
            places[source], places[row.name], patchA=boxes[source], patchB=boxes[row.name],
            shrinkA=0, shrinkB=1, arrowstyle="-|>", mutation_scale=8,
            connectionstyle=f"arc3,rad={bend}", linewidth=1.0, zorder=1, **LINE_STYLES[style],
        )  # fmt: skip
        axes.add_patch(arrow)


def _draw_box(
    axes: Axes, name: str, kind: str, channels: int, place: tuple[float, float], feature: str = ""
) -> FancyBboxPatch:
    x, y = place
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.05",
        facecolor=FILLS[kind], edgecolor=INK, linewidth=2.0 if feature else 0.8, zorder=2,
    )  # fmt: skip
    axes.add_patch(box)
    text = f"{kind}\n{channels:,}"
    axes.text(
        x, y, text, fontsize=7, ha="center", va="center", zorder=3, color=INK, gid=f"plan_{name}"
    )
    if feature:
        below = y - HEIGHT / 2 - 0.05
        axes.text(x - WIDTH / 2, below, feature, fontsize=9, weight="bold", va="top", color=INK)
    return box
