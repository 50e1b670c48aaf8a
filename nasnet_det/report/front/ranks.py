"""How well two rungs agree on the order of candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasnet_det.runs.candidates import Front, Trained

FEWEST = 3  # candidates of which an order says anything


@dataclass(frozen=True)
class RankAgreement:
    """Two rungs' orders of the candidates that were in both.

    Attributes:
        before, after: the rungs, from 1.
        who: whose order.
        number: of candidates.
        spearman, kendall: -1 to 1; None where there are too few candidates, or all are equal.
    """

    before: int
    after: int
    who: str
    number: int
    spearman: float | None
    kendall: float | None


def compare_rungs(front: Front) -> list[RankAgreement]:
    """Each rung with the next one; the first knows the search's own candidates only."""
    agreements = []
    for place, (before, after) in enumerate(zip(front.rungs, front.rungs[1:], strict=False), 1):
        earlier, later = _get_scores(before), _get_scores(after)
        names = [name for name in later if name in earlier]
        pairs = [earlier[name] for name in names], [later[name] for name in names]
        who = "found" if place == 1 else "all"
        agreements.append(
            RankAgreement(place, place + 1, who, len(names), spearman(*pairs), kendall(*pairs))
        )
    return agreements


def _get_scores(rung: Sequence[Trained]) -> dict[str, float]:
    scores = {one.candidate.name: one.values.get("ap", one.values.get("accuracy")) for one in rung}
    return {name: score for name, score in scores.items() if score is not None}


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of ranks; equal values share the mean of theirs."""
    return _correlate(_rank(first), _rank(second))


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b: pairs in the same order less those in the other, without equal ones."""
    a, b = (np.asarray(values, dtype=float) for values in (first, second))
    return _correlate(*(np.sign(values[:, None] - values).ravel() for values in (a, b)), mean=False)


def _rank(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return ((array[:, None] > array).sum(1) + ((array[:, None] == array).sum(1) - 1) / 2).astype(
        float
    )


def _correlate(a: np.ndarray, b: np.ndarray, *, mean: bool = True) -> float | None:
    if mean:
        if len(a) < FEWEST:
            return None
        a, b = a - a.mean(), b - b.mean()
    elif len(a) < FEWEST**2:
        return None
    size = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else None
