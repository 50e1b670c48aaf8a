"""Which candidates go on to the next rung, and which are on the front, over several goals."""

from __future__ import annotations

import math
from collections.abc import Sequence

Costs = tuple[float, ...]
"""What is minimized; a goal that is maximized has the other sign."""


def is_better(costs: Costs, other: Costs) -> bool:
    """Whether one beats the other: better in one goal, and in none worse."""
    return costs != other and all(a <= b for a, b in zip(costs, other, strict=True))


def find_front(costs: Sequence[Costs]) -> list[int]:
    """Places of those that no other beats, by their first cost; of equal ones the first.

    Args:
        costs: of each.
    """
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda p: (costs[p], p)):
        if not any(costs[p] == costs[place] or is_better(costs[p], costs[place]) for p in front):
            front.append(place)
    return front


def promote(costs: Sequence[Costs], number: int) -> list[int]:
    """Places of so many that go on, as in NSGA-II (Deb and others, 2002).

    First come those of the front, then those that are a front without them, and so on. Of the front
    of which only some go on, those go that have the most room around them; its ends always do.
    """
    left, chosen = list(range(len(costs))), list[int]()
    while left and len(chosen) < number:
        front = [left[p] for p in find_front([costs[place] for place in left])]
        if len(chosen) + len(front) > number:
            room = _measure_room([costs[place] for place in front])
            order = sorted(range(len(front)), key=lambda p: (-room[p], p))
            front = [front[p] for p in sorted(order[: number - len(chosen)])]
        chosen += front
        left = [place for place in left if place not in front]
    return chosen


def _measure_room(costs: Sequence[Costs]) -> list[float]:
    """Crowding distances: over the goals, how far apart the two neighbours are."""
    room = [0.0] * len(costs)
    for goal in range(len(costs[0])):
        order = sorted(range(len(costs)), key=lambda p: costs[p][goal])
        span = costs[order[-1]][goal] - costs[order[0]][goal]
        room[order[0]] = room[order[-1]] = math.inf
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            room[place] += (costs[after][goal] - costs[before][goal]) / span if span else 0.0
    return room
