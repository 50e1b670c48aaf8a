"""Which candidates go on: fronts by brute force, and known orders of NSGA-II."""

from __future__ import annotations

import random

import pytest

from nasnet_det.search.promotion import find_front, is_better, promote


def test_front_is_what_no_other_beats() -> None:
    rng = random.Random(0)
    for _ in range(50):
        costs = [(rng.randrange(5), rng.randrange(5)) for _ in range(rng.randrange(1, 12))]
        front = find_front(costs)
        assert {costs[p] for p in front} == {
            one for one in costs if not any(is_better(other, one) for other in costs)
        }
        assert len({costs[p] for p in front}) == len(front)


def test_one_goal_promotes_the_best_in_order() -> None:
    assert promote([(3.0,), (1.0,), (2.0,), (1.5,)], 3) == [1, 3, 2]


def test_ends_of_a_front_go_on_before_its_middle() -> None:
    line = [(0.0, 10.0), (1.0, 9.0), (5.0, 5.0), (10.0, 0.0)]
    assert set(promote(line, 2)) == {0, 3}
    assert set(promote(line, 3)) == {0, 2, 3}  # 1 has the least room
    assert promote([*line, (6.0, 6.0)], 5)[-1] == 4  # beaten, so last


@pytest.mark.parametrize("number", [0, 1, 7, 100])
def test_number_is_kept_and_none_goes_twice(number: int) -> None:
    rng = random.Random(number)
    costs = [(rng.random(), rng.random(), rng.random()) for _ in range(20)]
    chosen = promote(costs, number)
    assert len(chosen) == len(set(chosen)) == min(number, 20)
