"""Figures of reports: what is drawn is inside the figure."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nasnet_det.drawing.figure_style import add_legend, make_axes


@pytest.mark.parametrize("num_names", [1, 3, 5, 8])
@pytest.mark.parametrize("name", ["a", "nasnet_a_mobile_FPN_seed_{}", "WWWWWWWWWWWW_WWWWWWWWW_{}"])
def test_legend_is_inside_the_figure(num_names: int, name: str) -> None:
    figure, panels = make_axes(2, num_columns=2, size=(3.5, 3.0))
    for number in range(num_names):
        panels[0].plot([0, 1], label=name.format(number))
    add_legend(figure, panels[0])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert panels[0].get_window_extent().height > 50, "there is room left for the panels"
