"""A training as far as it has come: losses and scores over the iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nasnet_det.drawing.figure_style import GRID, STYLES, add_legend, cycle_styles, make_axes

MAX_POINTS = 1000  # of a curve, more than a picture has columns for
Curve = Sequence[tuple[int, float]]
"""Iterations and values."""


def draw_training_curves(
    loss: Curve, validation_loss: Curve, scores: Mapping[str, Curve], max_iter: int
) -> Figure:
    """A panel of losses, and beside it one of scores where there are some.

    Args:
        loss: of each iteration; single ones are grey, with their median over a window.
        validation_loss: of evaluations.
        scores: name -> those of evaluations, in percent.
        max_iter: where the training ends.
    """
    figure, panels = make_axes(2 if scores else 1, num_columns=2, size=(4.2, 2.8), share_y=False)
    iterations, values = _thin(loss)
    panels[0].plot(iterations, values, ".", color=GRID, markersize=3)
    panels[0].plot(*_smooth(loss), color=STYLES[0]["color"], label="training")
    if validation_loss:
        style = {**STYLES[1], "markersize": 4}
        panels[0].plot(*zip(*validation_loss, strict=True), **style, label="validation")
        add_legend(figure, panels[0])
    panels[0].set_title("loss", fontsize=10)
    if scores:
        for (name, curve), style in zip(scores.items(), cycle_styles(len(scores)), strict=True):
            panels[1].plot(*zip(*curve, strict=True), **style, markersize=4, label=name)
        panels[1].set_title("percent", fontsize=10)
        panels[1].legend(frameon=False, fontsize=8)
    for panel in panels:
        panel.set_xlim(0, max(1, max_iter))
        panel.set_xlabel("iteration", fontsize=9)
    return figure


def _thin(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """At most :data:`MAX_POINTS`, evenly spread, the last one among them."""
    points = np.array(curve, dtype=float).reshape(-1, 2)
    places = np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).astype(int)
    return points[places, 0], points[places, 1]


def _smooth(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Medians of windows of a fiftieth of the curve."""
    points = np.array(curve, dtype=float).reshape(-1, 2)
    size = max(1, len(points) // 50)
    windows = [points[start : start + size] for start in range(0, len(points), size)]
    found = np.array([np.median(window, axis=0) for window in windows]).reshape(-1, 2)
    return found[:, 0], found[:, 1]
