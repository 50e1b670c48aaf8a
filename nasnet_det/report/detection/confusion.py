"""Which classes are taken for which: the confusion matrix at the score with the best F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasnet_det.report.detection.boxes import Truth
from nasnet_det.report.detection.errors import TYPES, Errors
from nasnet_det.report.detection.matches import NO_OBJECT, Matches

_ALL_AREAS, _LEVEL_50 = 0, 0
_CLASSIFICATION = list(TYPES).index("classification")


@dataclass(frozen=True)
class Confusion:
    """Counts of objects by their class and what is found in their place, at IoU 0.5.

    Attributes:
        threshold: detections count from this score on.
        counts: true class, found class, number, of the pairs that occur. The true class is None of
            a detection without an object, the found one of an object that is missed.
    """

    threshold: float
    counts: tuple[tuple[str | None, str | None, int], ...]

    def find_matrix(self, names: Sequence[str]) -> np.ndarray:
        """(K + 1, K + 1): true by found classes of these names; last those without one."""
        places: dict[str | None, int] = {name: place for place, name in enumerate(names)}
        places[None] = len(names)
        matrix = np.zeros((len(places), len(places)), dtype=np.int64)
        for label, found, number in self.counts:
            if label in places and found in places:
                matrix[places[label], places[found]] += number
        return matrix


def find_confusion(
    truth: Truth, matches: Matches, errors: Errors, threshold: float | None
) -> Confusion | None:
    """The matrix of a run; None where ``threshold`` is.

    An object counts once: as found, else as the best scored box of another class in its place, else
    as missed. All other wrong boxes, duplicates too, stand for no object.
    """
    if threshold is None:
        return None
    counted = matches.score >= threshold
    right = counted & matches.is_match[_ALL_AREAS, _LEVEL_50]
    found = np.full(len(truth.ids), -1)
    found[matches.object[_LEVEL_50, right]] = matches.category[right]
    wrong = counted & (errors.type >= 0)
    means = np.flatnonzero(wrong & (errors.type == _CLASSIFICATION) & (errors.target != NO_OBJECT))
    means = means[found[errors.target[means]] == -1]
    means = means[np.argsort(-matches.score[means], kind="stable")]
    _, first = np.unique(errors.target[means], return_index=True)
    taken = means[first]
    found[errors.target[taken]] = matches.category[taken]
    wrong[taken] = False
    is_object = ~truth.is_crowd
    pairs = Counter(zip(truth.category[is_object].tolist(), found[is_object].tolist(), strict=True))
    pairs += Counter((-1, label) for label in matches.category[wrong].tolist())
    names: list[str | None] = [*truth.category_names, None]  # which -1 is
    ordered = sorted(pairs.items(), key=lambda pair: (pair[0][0] % len(names), pair[0]))
    return Confusion(threshold, tuple((names[a], names[b], n) for (a, b), n in ordered))


def choose_classes(confusion: Confusion, names: Sequence[str], most: int) -> list[str]:
    """At most so many classes, those that are confused with others most, in their own order."""
    counts: Counter[str] = Counter()
    for label, found, number in confusion.counts:
        if label is not None and found is not None and label != found:
            counts[label] += number
            counts[found] += number
    ranked = sorted(names, key=lambda name: -counts[name])[:most]
    return [name for name in names if name in set(ranked)]
