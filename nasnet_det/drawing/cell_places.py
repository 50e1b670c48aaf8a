"""The horizontal places of a cell's items, once each level is in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from nasnet_det.drawing.cell_graph import Edge, Order
from nasnet_det.genotype import FIRST_BLOCK, CellSpec

# In inches.
BOX_WIDTH, PAIR_GAP = 0.68, 0.08  # of an operation, and between the two of a block
INPUT_WIDTH = 0.5
ITEM_GAP = 0.22  # between neighbors in a level
PORT_GAP = 0.17  # between lines that enter the concatenation
LANE_WEIGHTS = (1.0, 2.0, 20.0)  # of an edge with none, one or two ends in lanes
MAX_SWEEPS = 200


def concat_width(spec: CellSpec) -> float:
    """Width of the concatenation's box."""
    return max(BOX_WIDTH, PORT_GAP * (len(spec.concat) + 1))


class Places:
    """The horizontal centre of each item: edges are as steep as they can be.

    Smallest is the weighted sum of the edges' squared horizontal lengths. Level by level the best
    places are found exactly while the other levels stay; as the problem is convex, this leads to
    the best of all.
    """

    def __init__(self, order: Order) -> None:
        self.order, self.graph = order, order.graph
        self.x = [0.0] * len(self.graph.items)
        self._half = [self._half_width(item) for item in range(len(self.x))]
        stacks = [self._stack(level) for level in order.levels]
        for level, starts in zip(order.levels, stacks, strict=True):
            for item, start in zip(level, starts, strict=True):
                self.x[item] = start - starts[-1] / 2
        self._edges = [
            (self._weight(edge), edge.lower, edge.upper, self.offset(edge))
            for edges in self.graph.edges
            for edge in edges
        ]
        pulls: list[list[tuple[float, int, float]]] = [[] for _ in self.x]
        for weight, lower, upper, offset in self._edges:
            pulls[upper].append((weight, lower, -offset))
            pulls[lower].append((weight, upper, offset))
        for _ in range(MAX_SWEEPS):
            before = list(self.x)
            for level, starts in zip(order.levels, stacks, strict=True):
                self._fit(level, starts, pulls)
            if max(abs(a - b) for a, b in zip(self.x, before, strict=True)) < 1e-3:
                break
        self._straighten()
        left = min(x - half for x, half in zip(self.x, self._half, strict=True))
        self.x = [x - left for x in self.x]

    @property
    def width(self) -> float:
        """From the left of the first item, at 0, to the right of the last."""
        return max(x + half for x, half in zip(self.x, self._half, strict=True))

    def offset(self, edge: Edge) -> float:
        """How far right of its upper item's centre an edge ends."""
        if edge.upper == self.graph.output:
            lower = {e.lower for e in self.graph.edges[-1]}
            below = [item for item in self.order.levels[-2] if item in lower]
            return PORT_GAP * (below.index(edge.lower) - (len(below) - 1) / 2)
        if self.graph.items[edge.upper].is_lane:
            return 0.0
        return (BOX_WIDTH + PAIR_GAP) * (self.order.side(edge) - 0.5)

    def run(self, edge: Edge) -> float:
        """How far an edge goes to the right."""
        return self.x[edge.upper] + self.offset(edge) - self.x[edge.lower]

    def measure(self) -> float:
        """What is smallest at these places."""
        return sum(
            weight * (self.x[upper] + offset - self.x[lower]) ** 2
            for weight, lower, upper, offset in self._edges
        )

    def _half_width(self, item: int) -> float:
        """Half of the room that an item takes."""
        if self.graph.items[item].is_lane:
            return 0.0
        if item == self.graph.output:
            return concat_width(self.graph.spec) / 2
        return INPUT_WIDTH / 2 if item < FIRST_BLOCK else BOX_WIDTH + PAIR_GAP / 2

    def _weight(self, edge: Edge) -> float:
        """How much it matters that an edge is steep: bends in long lines disturb most."""
        items = self.graph.items
        return LANE_WEIGHTS[items[edge.lower].is_lane + items[edge.upper].is_lane]

    def _stack(self, level: Sequence[int]) -> list[float]:
        """Centres of a level's items packed side by side, the first at 0."""
        half, centres = self._half, [0.0]
        for left, right in pairwise(level):
            centres.append(centres[-1] + half[left] + ITEM_GAP + half[right])
        return centres

    def _fit(
        self,
        level: Sequence[int],
        starts: Sequence[float],
        pulls: Sequence[Sequence[tuple[float, int, float]]],
    ) -> None:
        """Put a level's items where the other levels pull them, as far as there is room."""
        weights, wanted = [], []
        for item, start in zip(level, starts, strict=True):
            weight = sum(w for w, _, _ in pulls[item])
            pull = sum(w * (self.x[other] + offset) for w, other, offset in pulls[item])
            weights.append(weight or 1e-3)
            wanted.append((pull / weight if weight else self.x[item]) - start)
        for item, start, x in zip(level, starts, _fit_increasing(wanted, weights), strict=True):
            self.x[item] = x + start

    def _straighten(self) -> None:
        """Make lanes of one state straight over as many levels as there is room for."""
        items = self.graph.items
        lanes = [i for i, item in enumerate(items) if item.is_lane]
        lanes.sort(key=lambda i: (items[i].state, items[i].level))
        while lanes:
            low, high, state = -math.inf, math.inf, items[lanes[0]].state
            line: list[int] = []
            for lane in lanes:
                left, right = self._room(lane)
                if items[lane].state != state or max(low, left) > min(high, right):
                    break
                low, high = max(low, left), min(high, right)
                line.append(lane)
            del lanes[: len(line)]
            middle = sum(self.x[lane] for lane in line) / len(line)
            for lane in line:
                self.x[lane] = min(max(middle, low), high)

    def _room(self, item: int) -> tuple[float, float]:
        """How far an item can go to the left and to the right while its neighbors stay."""
        half, level = self._half, self.order.levels[self.graph.items[item].level]
        place = level.index(item)
        left, right = -math.inf, math.inf
        if place:
            other = level[place - 1]
            left = min(self.x[item], self.x[other] + half[other] + ITEM_GAP + half[item])
        if place + 1 < len(level):
            other = level[place + 1]
            right = max(self.x[item], self.x[other] - half[other] - ITEM_GAP - half[item])
        return left, right


def _fit_increasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest sequence that never decreases, in weighted squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m, i), (b, n, j) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    return [mean for mean, _, length in pools for _ in range(length)]
