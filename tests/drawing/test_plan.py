"""The drawing of a network's plan: every cell is there, with its channels, in its row."""

from __future__ import annotations

import re

import pytest

from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.drawing.plan import draw_plan
from nasnet_det.plan import plan_cells, stem_channels
from nasnet_det.variants import resolve_variant


@pytest.mark.parametrize("name", ["nasnet_a_mobile", "nasnet_a_large", "pnasnet_5_mobile"])
def test_every_cell_is_drawn_with_its_channels(name: str) -> None:
    spec, genotype = resolve_variant(name)
    plan = plan_cells(spec, genotype)
    figure = draw_plan(spec, genotype)
    (axes,) = figure.axes
    texts = {text.get_gid(): text for text in axes.texts if text.get_gid()}
    wanted = {f"plan_{row.name}": f"{row.kind}\n{row.out_channels:,}" for row in plan}
    wanted["plan_stem"] = f"stem\n{stem_channels(spec):,}"
    assert {gid: text.get_text() for gid, text in texts.items()} == wanted
    rows = [texts[f"plan_{row.name}"].get_position()[1] for row in plan]
    strides = [row.out_stride for row in plan]
    assert [strides.index(s) for s in strides] == [rows.index(y) for y in rows]
    shown = [text.get_text() for text in axes.texts if re.fullmatch("c[2-5]", text.get_text())]
    assert shown == [row.feature for row in plan if row.feature]
    svg = render_figure(figure, "svg").decode()
    assert 'id="plan_cell_0"' in svg


def test_cifar_network_begins_at_stride_1() -> None:
    spec, genotype = resolve_variant("nasnet_a_cifar_6_768")
    texts = [text.get_text() for text in draw_plan(spec, genotype).axes[0].texts]
    assert [text for text in texts if text.startswith("stride")] == [
        "stride 1", "stride 2", "stride 4",
    ]  # fmt: skip
