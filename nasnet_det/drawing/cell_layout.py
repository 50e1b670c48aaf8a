"""Where the boxes and lines of a cell's drawing lie; plain geometry, in inches, y upwards.

As in the NASNet paper (arXiv 1707.07012, figure 4) the two inputs are at the bottom, each block is
a pair of operations under the node that combines them, and the concatenation is at the top. The
levels and the order in them are from :mod:`nasnet_det.drawing.cell_graph`, the horizontal places
from :mod:`nasnet_det.drawing.cell_places`; here boxes and lines get their coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nasnet_det.drawing.cell_graph import CellGraph, Edge, Order, find_orders
from nasnet_det.drawing.cell_places import BOX_WIDTH, INPUT_WIDTH, Places, concat_width
from nasnet_det.genotype import FIRST_BLOCK, CellSpec

BOX_HEIGHT = 0.38  # of an operation
NODE_WIDTH, NODE_HEIGHT = 0.58, 0.24  # of what combines two of them
COMBINE_GAP = 0.24  # between a block's operations and its node
LEVEL_HEIGHT = BOX_HEIGHT + COMBINE_GAP + NODE_HEIGHT
INPUT_HEIGHT = 0.3
OUTPUT_GAP = 0.26  # between the concatenation and the cell's output


@dataclass(frozen=True)
class Node:
    """A box.

    Attributes:
        name: ``h``, ``h_prev``, ``block_<k>``, ``block_<k>_op_<side>``, ``concat`` or ``output``.
        kind: ``input``, ``op``, ``combine``, ``concat`` or ``output``.
        word: the operation or the combiner; "" for others.
        x, y: its centre.
        width, height: of it.
    """

    name: str
    kind: str
    word: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Wire:
    """A line from one node up to another.

    Attributes:
        source, target: names of nodes.
        points: the curve leaves and enters each of them vertically; where it shares a lane with
            another line, it begins at the lane's end.
    """

    source: str
    target: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class CellLayout:
    """A cell's drawing, its lower left corner at (0, 0)."""

    nodes: tuple[Node, ...]
    wires: tuple[Wire, ...]
    width: float
    height: float
    num_crossings: int


@lru_cache(maxsize=256)
def plan_layout(spec: CellSpec) -> CellLayout:
    """Where everything of a cell's drawing lies; the same cell always gives the same drawing."""
    orders = find_orders(CellGraph(spec))
    placed = [(Places(order), order) for order in orders]
    places, order = min(placed, key=lambda pair: pair[0].measure())
    return _draw(order, places)


def _draw(order: Order, places: Places) -> CellLayout:
    """Boxes and lines at their final coordinates."""
    graph, spec, x_of = order.graph, order.graph.spec, places.x
    bottoms, tops = [0.0], [INPUT_HEIGHT]  # of the levels
    for level, edges in enumerate(graph.edges, 1):
        longest = max(abs(places.run(edge)) for edge in edges)
        bottoms.append(tops[-1] + min(0.34 + 0.18 * longest, 1.5))
        height = NODE_HEIGHT if level == len(graph.edges) else LEVEL_HEIGHT
        tops.append(bottoms[-1] + height)
    nodes, wires = [], []
    for state in order.levels[0]:
        x, y = x_of[state], INPUT_HEIGHT / 2
        nodes.append(Node(name_state(state), "input", "", x, y, INPUT_WIDTH, INPUT_HEIGHT))
    for state, block in enumerate(spec.blocks, FIRST_BLOCK):
        x, level, name = x_of[state], graph.items[state].level, name_state(state)
        y = tops[level] - NODE_HEIGHT / 2
        nodes.append(Node(name, "combine", block.combine, x, y, NODE_WIDTH, NODE_HEIGHT))
        for port, op in enumerate(block.ops):
            offset = places.offset(Edge(state, state, port))
            op_name, y = f"{name}_op_{port}", bottoms[level] + BOX_HEIGHT / 2
            nodes.append(Node(op_name, "op", op, x + offset, y, BOX_WIDTH, BOX_HEIGHT))
            start = (x + offset, bottoms[level] + BOX_HEIGHT)
            end = (x + math.copysign(NODE_WIDTH / 5, offset), tops[level] - NODE_HEIGHT)
            wires.append(Wire(op_name, name, (start, end)))
    x, y, width = x_of[graph.output], tops[-1] - NODE_HEIGHT / 2, concat_width(spec)
    nodes.append(Node("concat", "concat", "concat", x, y, width, NODE_HEIGHT))
    y = tops[-1] + OUTPUT_GAP
    nodes.append(Node("output", "output", "", x, y + INPUT_HEIGHT / 2, INPUT_WIDTH, INPUT_HEIGHT))
    wires.append(Wire("concat", "output", ((x, tops[-1]), (x, y))))
    wires += _draw_wires(order, places, bottoms, tops)
    crossings = order.count_all_crossings()
    return CellLayout(tuple(nodes), tuple(wires), places.width, y + INPUT_HEIGHT, crossings)


def name_state(state: int) -> str:
    """The name of the node that a state comes from."""
    return ("h", "h_prev")[state] if state < FIRST_BLOCK else f"block_{state - FIRST_BLOCK}"


def _draw_wires(
    order: Order, places: Places, bottoms: Sequence[float], tops: Sequence[float]
) -> list[Wire]:
    """A line to each reader of each state."""
    graph, wires = order.graph, []
    trunks: dict[int, list[tuple[float, float]]] = {}  # the lines that are drawn so far up
    for level, edges in enumerate(graph.edges):
        # The lane goes on in the line that leads up to it, any other line branches off.
        for edge in sorted(edges, key=lambda e: not graph.items[e.upper].is_lane):
            points = [*trunks.pop(edge.lower, []), (places.x[edge.lower], tops[level])]
            points.append((places.x[edge.upper] + places.offset(edge), bottoms[level + 1]))
            if graph.items[edge.upper].is_lane:
                trunks[edge.upper] = points
                continue
            is_output = edge.upper == graph.output
            target = "concat" if is_output else f"{name_state(edge.upper)}_op_{edge.port}"
            source = name_state(graph.items[edge.lower].state)
            wires.append(Wire(source, target, tuple(points)))
    return wires
