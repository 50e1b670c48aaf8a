"""The losses of a training over a rising learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from nasnet_det.drawing.figure_style import GRID, STYLES, add_legend, make_axes


def draw_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    suggestion: float | None,
) -> Figure:
    """One panel, with the rates on a logarithmic axis.

    Args:
        rates: of each iteration.
        losses: of each iteration.
        smooth: their means over a window.
        suggestion: is marked; None: there is none.
    """
    figure, (panel,) = make_axes(1, num_columns=1, size=(6.0, 3.6))
    panel.set_xscale("log")
    panel.plot(rates, losses, ".", color=GRID, markersize=4, label="one batch")
    panel.plot(rates, smooth, color=STYLES[0]["color"], label="mean of some")
    if suggestion is not None:
        label = f"falls fastest: {suggestion:.2g}"
        panel.axvline(suggestion, color=STYLES[1]["color"], linestyle="--", label=label)
    low, high = min(smooth, default=0.0), max(smooth[: len(smooth) * 3 // 4], default=1.0)
    room = max(0.1 * (high - low), 1e-6)
    panel.set_ylim(low - room, high + 3 * room)
    panel.set_xlabel("learning rate", fontsize=9)
    panel.set_ylabel("total loss", fontsize=9)
    add_legend(figure, panel)
    return figure
