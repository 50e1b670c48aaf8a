"""How the figures of reports look: panels, curves, legends.

Curves differ in color (Okabe and Ito's, made for all kinds of color vision), in dashes and in
markers.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    {"color": "#000000", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#56B4E9", "linestyle": (0, (1, 2)), "marker": "P"},
)
INK, GRID = "#222222", "#DDDDDD"


def make_axes(
    num_panels: int,
    *,
    num_columns: int,
    size: tuple[float, float],
    share_x: bool = True,
    share_y: bool = True,
) -> tuple[Figure, list[Axes]]:
    """A figure of panels in rows, with room for a legend above.

    Args:
        num_panels: at least one.
        num_columns: at most so many in a row.
        size: width and height of a panel in inches.
        share_x, share_y: whether all panels have the same limits.
    """
    num_columns = min(num_columns, num_panels)
    num_rows = math.ceil(num_panels / num_columns)
    width, height = max(5.0, size[0] * num_columns), max(2.4, size[1] * num_rows + 0.4)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharex=share_x, sharey=share_y, squeeze=False)
    axes = list(grid.flat)
    for panel in axes[num_panels:]:
        panel.remove()
    for panel in axes[:num_panels]:
        panel.grid(color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8, labelbottom=True)
    return figure, axes[:num_panels]


def cycle_styles(number: int) -> list[dict[str, Any]]:
    """A style for each of so many curves, different for up to 36 of them."""
    every = len(STYLES)
    # From the seventh curve on a color comes with the dashes and the marker of another.
    return [
        STYLES[(i + i // every) % every] | {"color": STYLES[i % every]["color"]}
        for i in range(number)
    ]


def add_legend(figure: Figure, panel: Axes, *, without: Collection[str] = ()) -> None:
    """One legend above all panels, of what is in one of them; as many columns as have room."""
    pairs = zip(*panel.get_legend_handles_labels(), strict=True)
    handles, labels = zip(*(pair for pair in pairs if pair[1] not in without), strict=True)
    size = 9.0
    width = size * (5.5 + 0.6 * max(map(len, labels)))  # of a column in points: line, gaps, text
    num_columns = int(72 * figure.get_figwidth() / width)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=max(1, min(5, len(labels), num_columns)),
        frameon=False, fontsize=size,
    )  # fmt: skip
