"""A cell as a graph in levels, and orders of its levels in which few lines cross.

Blocks stand in levels: a block that reads only the inputs in level 1, any other above all that it
reads. This is Sugiyama's way to draw a graph in layers, in which a block is one item. A state that
is read further up than in the next level gets a *lane* through each level between, so no line ever
runs through a box.
"""

from __future__ import annotations

import random
from bisect import bisect_right, insort
from collections import defaultdict
from typing import NamedTuple

from nasnet_det.genotype import FIRST_BLOCK, H_PREV, CellSpec, H

NUM_SHAKES, NUM_SHAKEN = 80, 3  # tries, and items that each moves at random
MAX_FOUND = 10  # orders that are kept


class Item(NamedTuple):
    """What takes room in a level: a block with its operations, or the lane of a state.

    The two inputs are blocks of level 0, the concatenation is the only item of the last level.
    """

    state: int
    level: int
    is_lane: bool = False


class Edge(NamedTuple):
    """From an item to one in the next level; port 0 and 1 are a block's left and right input."""

    lower: int
    upper: int
    port: int


class CellGraph:
    """A cell's items, and the edges between each level and the next.

    Attributes:
        spec: the cell.
        items: all; elsewhere an item is its place in this list.
        output: the concatenation's.
        levels: the items of each level.
        edges: ``edges[l]`` lead from level ``l`` to level ``l + 1``.
    """

    def __init__(self, spec: CellSpec) -> None:
        self.spec = spec
        # States come first, each under its number.
        levels = [0] * FIRST_BLOCK
        for block in spec.blocks:
            levels.append(1 + max(levels[i] for i in block.inputs))
        self.output, top = len(levels), 1 + max(levels)
        self.items = [Item(state, level) for state, level in enumerate([*levels, top])]
        self.edges: list[list[Edge]] = [[] for _ in range(top)]
        for target, block in enumerate(spec.blocks, FIRST_BLOCK):
            for port, state in enumerate(block.inputs):
                self._connect(state, target, port)
        for state in spec.concat:
            self._connect(state, self.output, 0)
        self.levels = [
            [i for i, item in enumerate(self.items) if item.level == level]
            for level in range(top + 1)
        ]
        self.levels[0] = [H_PREV, H]

    def _connect(self, state: int, target: int, port: int) -> None:
        """Add the edges from a state to its reader, through lanes that may be there already."""
        below, top = state, self.items[target].level
        for level in range(self.items[state].level + 1, top):
            lane = Item(state, level, is_lane=True)
            if lane not in self.items:
                self.items.append(lane)
                self.edges[level - 1].append(Edge(below, len(self.items) - 1, 0))
            below = self.items.index(lane)
        self.edges[top - 1].append(Edge(below, target, port))


class Order:
    """An order of each level's items, and which blocks have their second operation on the left."""

    def __init__(self, graph: CellGraph) -> None:
        self.graph = graph
        self.levels = [list(level) for level in graph.levels]
        self.flipped = [False] * len(graph.items)

    def copy(self) -> Order:
        """Another one that is the same."""
        copy = Order(self.graph)
        copy.levels = [list(level) for level in self.levels]
        copy.flipped = list(self.flipped)
        return copy

    @property
    def key(self) -> str:
        """Equal for equal orders."""
        return repr((self.levels, self.flipped))

    def side(self, edge: Edge) -> int:
        """0 if an edge ends at the left of its upper item, 1 if at the right."""
        return edge.port ^ self.flipped[edge.upper]

    def _ends(self, level: int) -> list[tuple[int, int]]:
        """Where each edge between a level and the next begins and ends, as numbers to compare.

        Lines to the output never cross: they enter it in the order of their beginnings.
        """
        if not 0 <= level < len(self.levels) - 2:
            return []
        lower = {item: i for i, item in enumerate(self.levels[level])}
        upper = {item: 2 * i for i, item in enumerate(self.levels[level + 1])}
        edges = self.graph.edges[level]
        return [(lower[edge.lower], upper[edge.upper] + self.side(edge)) for edge in edges]

    def count_crossings(self, level: int) -> int:
        """Between a level and the next; lines of one state never cross."""
        count, seen = 0, list[int]()
        for _, end in sorted(self._ends(level)):
            count += len(seen) - bisect_right(seen, end)
            insort(seen, end)
        return count

    def count_all_crossings(self) -> int:
        """Between all levels."""
        return sum(map(self.count_crossings, range(len(self.levels))))

    def shake(self, rng: random.Random) -> None:
        """Move some items to random places of their levels."""
        for _ in range(NUM_SHAKEN):
            level = rng.choice(self.levels[1:-1])
            item = level.pop(rng.randrange(len(level)))
            level.insert(rng.randrange(len(level) + 1), item)

    def improve(self) -> None:
        """Move items and swap operations while that saves crossings."""
        improved = True
        while improved:
            improved = False
            for level in range(1, len(self.levels) - 1):
                for item in list(self.levels[level]):
                    improved |= self._move(level, item) or self._flip(level, item)

    def _move(self, level: int, item: int) -> bool:
        """Put an item where it saves most; whether it was moved."""
        # Where each item's edges begin and end.
        below: dict[int, list[int]] = defaultdict(list)
        above: dict[int, list[int]] = defaultdict(list)
        edges = self.graph.edges
        for edge, (start, _) in zip(edges[level - 1], self._ends(level - 1), strict=True):
            below[edge.upper].append(start)
        for edge, (_, end) in zip(edges[level], self._ends(level), strict=False):
            above[edge.lower].append(end)

        def count(left: int, right: int) -> int:
            return sum(a > b for ends in (below, above) for a in ends[left] for b in ends[right])

        others = [other for other in self.levels[level] if other != item]
        # What it costs to stand in each place, compared with the first.
        costs = [0]
        for other in others:
            costs.append(costs[-1] + count(other, item) - count(item, other))
        best = costs.index(min(costs))
        if costs[best] == costs[self.levels[level].index(item)]:
            return False
        self.levels[level] = [*others[:best], item, *others[best:]]
        return True

    def _flip(self, level: int, item: int) -> bool:
        """Swap the operations of a block if that saves crossings; whether it did."""
        if self.graph.items[item].is_lane:
            return False
        before = self.count_crossings(level - 1)
        self.flipped[item] ^= True
        if self.count_crossings(level - 1) < before:
            return True
        self.flipped[item] ^= True
        return False


def find_orders(graph: CellGraph) -> list[Order]:
    """Different orders with the fewest crossings that were found (iterated local search)."""
    rng = random.Random(0)
    order = Order(graph)
    order.improve()
    fewest, found = order.count_all_crossings(), {order.key: order}
    for _ in range(NUM_SHAKES):
        if fewest == 0 and len(found) == MAX_FOUND:
            break
        candidate = order.copy()
        candidate.shake(rng)
        candidate.improve()
        crossings = candidate.count_all_crossings()
        if crossings < fewest:
            fewest, found = crossings, {}
        if crossings == fewest:
            order = candidate
            found[order.key] = order
    return list(found.values())[-MAX_FOUND:]
