"""Drawings of cells, as the NASNet paper prints them, with matplotlib (the extra ``report``).

    from nasnet_det import load_genotype
    from nasnet_det.drawing.cells import draw_cells

    draw_cells(load_genotype("nasnet_a")).savefig("cells.svg")

Lines from h_i, from h_{i-1} and from blocks differ in color, in lightness, and those from h_{i-1}
are dashed, so none of it needs color vision. In an SVG, text is text, and the text of a box has an
id such as ``normal_block_0_op_1``.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from nasnet_det.drawing.cell_layout import CellLayout, Node, Wire, plan_layout
from nasnet_det.genotype import CellSpec, Genotype

# Okabe and Ito's blue and vermilion.
LINE_STYLES: dict[str, dict[str, Any]] = {
    "h": {"color": "#0072B2", "linestyle": "-"},
    "h_prev": {"color": "#D55E00", "linestyle": (0, (4, 1.8))},
}
OTHER_LINE: dict[str, Any] = {"color": "#333333", "linestyle": "-"}
# By the first word of an operation; its label says the rest.
FILLS = {
    "sep": "#FBE7A1",
    "dil": "#F6CFA8",
    "conv": "#F6CFA8",
    "avg": "#CFE3F5",
    "max": "#CFE3F5",
    "identity": "#EDEDED",
    "add": "#CDE8D5",
    "concat": "#F3D3E4",
    "": "#FFFFFF",
}
STATE_LABELS = {"h": "$h_i$", "h_prev": "$h_{i-1}$", "output": "$h_{i+1}$"}
TIMES = "\N{MULTIPLICATION SIGN}"
INK, PALE = "#222222", "#888888"
MARGIN, CAPTION_HEIGHT = 0.12, 0.4  # inches
MAX_ROW_WIDTH = 12.0  # inches; cells that are wider together stand one above the other


def label_operation(op: str) -> str:
    """``sep_conv_5x5`` as ``sep conv`` over the size, with a multiplication sign."""
    words = op.split("_")
    sizes = [word.replace("x", TIMES) for word in words if word[0].isdigit()]
    name = " ".join(word for word in words if not word[0].isdigit())
    return f"{name}\n{', '.join(sizes)}" if sizes else name


def draw_cells(genotype: Genotype) -> Figure:
    """A figure of both cells, or of one where they are the same; in a row if there is room.

    The first word of a cell's caption, in lower case, begins the ids of its boxes in an SVG.
    """
    cells = _name_cells(genotype)
    layouts = [plan_layout(spec) for spec in cells.values()]
    widths = [layout.width + 2 * MARGIN for layout in layouts]
    heights = [layout.height + 2 * MARGIN + CAPTION_HEIGHT for layout in layouts]
    is_row = sum(widths) <= MAX_ROW_WIDTH
    width, height = (sum(widths), max(heights)) if is_row else (max(widths), sum(heights))
    figure = Figure(figsize=(width, height))
    left, top = 0.0, height
    for caption, layout, w, h in zip(cells, layouts, widths, heights, strict=True):
        x, y = (left, 0.0) if is_row else ((width - w) / 2, top - h)
        bottom, cell_height = y + CAPTION_HEIGHT, h - CAPTION_HEIGHT
        axes = figure.add_axes((x / width, bottom / height, w / width, cell_height / height))
        _draw_cell(layout, axes, f"{caption.split()[0].lower()}_")
        figure.text(
            (x + w / 2) / width, (y + CAPTION_HEIGHT / 2) / height, caption,
            fontsize=11, color=INK, ha="center", va="center",
        )  # fmt: skip
        left, top = left + w, top - h
    return figure


def _name_cells(genotype: Genotype) -> dict[str, CellSpec]:
    """The cells by caption; equal ones, as PNASNet-5's, are one."""
    if genotype.normal == genotype.reduction:
        return {"Normal and reduction cell": genotype.normal}
    return {"Normal cell": genotype.normal, "Reduction cell": genotype.reduction}


def _draw_cell(layout: CellLayout, axes: Axes, prefix: str) -> None:
    """Draw a cell into empty axes, one unit an inch; the ids in an SVG begin with ``prefix``."""
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-MARGIN, layout.width + MARGIN)
    axes.set_ylim(-MARGIN, layout.height + MARGIN)
    for wire in layout.wires:
        _draw_wire(wire, axes)
    used = {wire.source for wire in layout.wires}
    for node in layout.nodes:
        is_used = node.name in used or node.kind == "output"
        _draw_node(node, axes, prefix + node.name, is_used=is_used)


def _draw_wire(wire: Wire, axes: Axes) -> None:
    style = LINE_STYLES.get(wire.source, OTHER_LINE)
    x, y = wire.points[0]
    vertices, codes = [(x, y)], [Path.MOVETO]
    for end_x, end_y in wire.points[1:]:
        middle = (y + end_y) / 2
        vertices += [(x, middle), (end_x, middle), (end_x, end_y)]
        codes += [Path.CURVE4] * 3
        x, y = end_x, end_y
    line = Path(vertices, codes)
    axes.add_patch(PathPatch(line, linewidth=1.1, fill=False, zorder=1, **style))
    if "_op_" not in wire.source:
        head = [(x, y), (x - 0.032, y - 0.085), (x + 0.032, y - 0.085)]
        axes.add_patch(Polygon(head, color=style["color"], linewidth=0, zorder=1))


def _draw_node(node: Node, axes: Axes, name: str, *, is_used: bool) -> None:
    is_oval = node.kind in ("input", "output", "combine")
    rounding = node.height / 2 if is_oval else 0.05
    axes.add_patch(
        FancyBboxPatch(
            (node.x - node.width / 2, node.y - node.height / 2),
            node.width,
            node.height,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=FILLS[node.word.split("_")[0]],
            edgecolor=INK if is_used else PALE,
            linewidth=0.9,
            linestyle="-" if is_used else ":",
            zorder=2,
        )
    )
    is_state = node.name in STATE_LABELS
    axes.text(
        node.x,
        node.y,
        STATE_LABELS[node.name] if is_state else label_operation(node.word),
        ha="center",
        va="center_baseline" if is_state else "center",
        fontsize=11 if is_state else 8,
        linespacing=1.15,
        color=INK if is_used else PALE,
        zorder=3,
        gid=name,
    )
