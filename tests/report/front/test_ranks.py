"""Rank correlations against SciPy's numbers, and by hand."""

from __future__ import annotations

import random

import pytest

from nasnet_det.report.front.ranks import kendall, spearman


def test_same_and_opposite_orders() -> None:
    values = [0.1, 0.4, 0.2, 0.9]
    assert spearman(values, values) == kendall(values, values) == pytest.approx(1)
    opposite = [-value for value in values]
    assert spearman(values, opposite) == kendall(values, opposite) == pytest.approx(-1)


def test_few_or_equal_values_have_none() -> None:
    assert spearman([1, 2], [1, 2]) is kendall([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is kendall([1, 1, 1], [1, 2, 3]) is None


def test_ties_by_hand() -> None:
    # Of 6 pairs 4 agree, 1 does not, and 1 is equal in the second.
    assert kendall([1, 2, 3, 4], [1, 3, 2, 3]) == pytest.approx(3 / (6 * 5) ** 0.5)


def test_numbers_are_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(0)
    for _ in range(20):
        first, second = ([rng.randrange(6) for _ in range(9)] for _ in range(2))
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
        assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)
