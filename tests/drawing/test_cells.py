"""Drawings of cells: every genotype of the space, nothing overlaps, every label is there."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from random_genotypes import sample_cell, sample_genotype

from nasnet_det.drawing.cell_graph import CellGraph, find_orders
from nasnet_det.drawing.cell_layout import CellLayout, Node, Wire, name_state, plan_layout
from nasnet_det.drawing.cells import (
    FILLS,
    TIMES,
    draw_cells,
    label_operation,
)
from nasnet_det.drawing.figure_file import render_figure, save_figure
from nasnet_det.genotype import OPERATION_NAMES, Block, CellSpec, Genotype
from nasnet_det.published_cells import GENOTYPES

SVG = "{http://www.w3.org/2000/svg}"
NUM_RANDOM = 100


def cells_of(number: int) -> list[CellSpec]:
    genotype = sample_genotype(number)
    return [genotype.normal, genotype.reduction]


PUBLISHED = [cell for g in GENOTYPES.values() for cell in (g.normal, g.reduction)]
ALL_CELLS = PUBLISHED + [cell for number in range(NUM_RANDOM) for cell in cells_of(number)]


# ---- Layout


def overlap(a: Node, b: Node) -> bool:
    wide = abs(a.x - b.x) < (a.width + b.width) / 2 - 1e-9
    return wide and abs(a.y - b.y) < (a.height + b.height) / 2 - 1e-9


def sample_curve(wire: Wire, steps: int = 20) -> list[tuple[float, float]]:
    """Points of the line as it is drawn: between its points a cubic, vertical at both ends."""
    points = []
    for (x0, y0), (x1, y1) in itertools.pairwise(wire.points):
        middle = (y0 + y1) / 2
        for step in range(steps + 1):
            t = step / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            points.append(
                (
                    sum(w * x for w, x in zip(weights, (x0, x0, x1, x1), strict=True)),
                    sum(w * y for w, y in zip(weights, (y0, middle, middle, y1), strict=True)),
                )
            )
    return points


def test_nodes_never_overlap_and_lie_on_the_page() -> None:
    for spec in ALL_CELLS:
        layout = plan_layout(spec)
        assert not [p for p in itertools.combinations(layout.nodes, 2) if overlap(*p)]
        for node in layout.nodes:
            assert node.x - node.width / 2 >= -1e-9
            assert node.x + node.width / 2 <= layout.width + 1e-9
            assert node.y - node.height / 2 >= 0
            assert node.y + node.height / 2 <= layout.height + 1e-9


def test_lines_never_run_through_a_box_and_always_lead_upwards() -> None:
    for spec in ALL_CELLS:
        layout = plan_layout(spec)
        for wire in layout.wires:
            curve = sample_curve(wire)
            assert all(a[1] <= b[1] for a, b in itertools.pairwise(curve))
            for node in layout.nodes:
                inside = [
                    (x, y)
                    for x, y in curve
                    if abs(x - node.x) < node.width / 2 - 1e-6
                    and abs(y - node.y) < node.height / 2 - 1e-6
                ]
                assert not inside, (wire, node)


def read_connections(layout: CellLayout) -> Counter[tuple[str, str]]:
    return Counter((wire.source, wire.target) for wire in layout.wires)


def test_lines_are_the_cells_connections() -> None:
    for spec in ALL_CELLS:
        wanted = Counter({("concat", "output"): 1})
        for k, block in enumerate(spec.blocks):
            for side, state in enumerate(block.inputs):
                wanted[name_state(state), f"block_{k}_op_{side}"] += 1
                wanted[f"block_{k}_op_{side}", f"block_{k}"] += 1
        wanted.update((name_state(state), "concat") for state in spec.concat)
        layout = plan_layout(spec)
        assert read_connections(layout) == wanted
        # Each line touches the node that it ends at, and the one that it comes from or a line
        # that comes from there.
        nodes = {node.name: node for node in layout.nodes}
        ends = {(wire.source, point) for wire in layout.wires for point in wire.points}
        for wire in layout.wires:
            target, source = nodes[wire.target], nodes[wire.source]
            x, y = wire.points[-1]
            assert y == pytest.approx(target.y - target.height / 2)
            assert abs(x - target.x) <= target.width / 2
            x, y = wire.points[0]
            touches = abs(x - source.x) < 1e-9 and y == pytest.approx(source.y + source.height / 2)
            branches = (wire.source, (x, y)) in ends - {(wire.source, wire.points[0])}
            assert touches or branches or wire.points[0] in [
                p for other in layout.wires if other is not wire and other.source == wire.source
                for p in other.points
            ]  # fmt: skip


def test_inputs_are_below_blocks_and_readers_above_what_they_read() -> None:
    for spec in ALL_CELLS:
        nodes = {node.name: node for node in plan_layout(spec).nodes}
        assert nodes["h"].y == nodes["h_prev"].y == min(node.y for node in nodes.values())
        assert nodes["h_prev"].x < nodes["h"].x
        assert nodes["output"].y == max(node.y for node in nodes.values())
        assert nodes["concat"].y > max(nodes[f"block_{k}"].y for k in range(len(spec.blocks)))
        for k, block in enumerate(spec.blocks):
            for state in block.inputs:
                assert nodes[f"block_{k}_op_0"].y > nodes[name_state(state)].y


@pytest.mark.parametrize(
    ("name", "cell", "num_crossings"),
    [
        ("nasnet_a", "normal", 1),
        ("nasnet_a", "reduction", 3),
        ("pnasnet_5", "normal", 0),
        ("amoebanet_a", "normal", 1),
    ],
)
def test_published_cells_have_few_crossings(name: str, cell: str, num_crossings: int) -> None:
    assert plan_layout(getattr(GENOTYPES[name], cell)).num_crossings == num_crossings


def count_crossings_of_curves(layout: CellLayout) -> int:
    """Pairs of lines of different states that change sides between two levels, drawn as they are."""
    pieces = {
        (wire.source, *piece) for wire in layout.wires for piece in itertools.pairwise(wire.points)
    }
    pieces = {p for p in pieces if "_op_" not in p[0]}
    count = 0
    for a, b in itertools.combinations(sorted(pieces), 2):
        (a_x0, a_y0), (a_x1, a_y1) = a[1:]
        (b_x0, b_y0), (b_x1, b_y1) = b[1:]
        if a[0] != b[0] and (a_y0, a_y1) == (b_y0, b_y1):
            count += (a_x0 - b_x0) * (a_x1 - b_x1) < 0
    return count


def test_crossings_are_those_of_the_drawn_lines() -> None:
    for spec in ALL_CELLS[:60]:
        layout = plan_layout(spec)
        assert layout.num_crossings == count_crossings_of_curves(layout)


def test_orders_have_as_few_crossings_as_any() -> None:
    """Small cells: all orders are tried."""
    rng = random.Random(3)
    for _ in range(5):
        graph = CellGraph(sample_cell(rng, num_blocks=3, explicit_concat=True))
        order = find_orders(graph)[0]
        found = order.count_all_crossings()
        levels = [list(itertools.permutations(level)) for level in graph.levels[1:-1]]
        least = found
        for chosen in itertools.product(*levels):
            order.levels[1:-1] = [list(level) for level in chosen]
            for flips in itertools.product((False, True), repeat=3):
                order.flipped[2:5] = flips
                least = min(least, order.count_all_crossings())
        assert found == least


def test_same_cell_is_drawn_the_same() -> None:
    spec = GENOTYPES["nasnet_a"].reduction
    first = plan_layout(spec)
    plan_layout.cache_clear()
    assert plan_layout(spec) == first


# ---- Files


def read_texts(svg: bytes) -> dict[str, str]:
    """Text of each box of an SVG, its words joined by single blanks."""
    root = ElementTree.fromstring(svg)
    return {
        name: " ".join(" ".join(group.itertext()).split())
        for group in root.iter(f"{SVG}g")
        if (name := group.get("id", "")).startswith(("normal_", "reduction_"))
    }


def test_svg_has_every_label_as_often_as_the_cell() -> None:
    for number in range(0, NUM_RANDOM, 3):
        cell = cells_of(number)[number % 2]
        check_labels(Genotype(cell, cell))


@pytest.mark.parametrize("name", GENOTYPES)
def test_published_cells_have_every_label(name: str) -> None:
    check_labels(GENOTYPES[name])


def check_labels(genotype: Genotype) -> None:
    texts = read_texts(render_figure(draw_cells(genotype), "svg"))
    cells = {"normal": genotype.normal, "reduction": genotype.reduction}
    if genotype.normal == genotype.reduction:
        del cells["reduction"]
    for kind, spec in cells.items():
        found = Counter(text for name, text in texts.items() if name.startswith(f"{kind}_"))
        ops = [op for block in spec.blocks for op in block.ops]
        wanted = Counter(label_operation(op).replace("\n", " ") for op in ops)
        wanted.update(block.combine for block in spec.blocks)
        wanted["concat"] += 1
        wanted.update(["h i", "h i \N{MINUS SIGN} 1", "h i + 1"])
        assert found == wanted


def test_equal_cells_are_drawn_once() -> None:
    for name, wanted in (
        ("pnasnet_5", ["Normal and reduction cell"]),
        ("nasnet_a", ["Normal cell", "Reduction cell"]),
    ):
        figure = draw_cells(GENOTYPES[name])
        assert [text.get_text() for text in figure.texts] == wanted
        assert len(figure.axes) == len(wanted)


def test_operations_have_different_labels_and_a_color() -> None:
    assert len({label_operation(op) for op in OPERATION_NAMES}) == len(OPERATION_NAMES)
    assert label_operation("conv_1x7_7x1") == "conv\n1x7, 7x1".replace("x", TIMES)
    assert {op.split("_")[0] for op in OPERATION_NAMES} <= set(FILLS)


@pytest.mark.parametrize("number", [1, 4])
def test_labels_fit_into_their_boxes(number: int) -> None:
    """As matplotlib measures the text."""
    figure = draw_cells(sample_genotype(number))
    figure.canvas.draw()
    for axes in figure.axes:
        nodes = {node.name: node for spec in cells_of(number) for node in plan_layout(spec).nodes}
        for text in axes.texts:
            name = text.get_gid().split("_", 1)[1]
            box = text.get_window_extent().transformed(axes.transData.inverted())
            assert box.width < nodes[name].width, text.get_text()
            assert box.height < nodes[name].height


def test_unused_input_is_drawn_without_lines() -> None:
    cell = CellSpec((Block((0, 0), ("identity", "identity")),), (2,))
    layout = plan_layout(cell)
    assert not [wire for wire in layout.wires if wire.source == "h_prev"]
    assert [wire.target for wire in layout.wires if wire.source == "h"] == ["block_0_op_0", "block_0_op_1"]  # fmt: skip
    assert render_figure(draw_cells(Genotype(cell, cell)), "svg")


def test_same_genotype_gives_the_same_file(tmp_path: Path) -> None:
    for suffix in ("svg", "png", "pdf"):
        paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for path in paths:
            save_figure(draw_cells(GENOTYPES["amoebanet_a"]), path, title="Cells of amoebanet_a")
        assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > image.height > 500
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert "Cells of amoebanet_a" in (tmp_path / "a.svg").read_text()
    assert "http" not in read_links(tmp_path / "a.svg")


def read_links(path: Path) -> str:
    root = ElementTree.parse(path).getroot()
    return " ".join(v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href"))
