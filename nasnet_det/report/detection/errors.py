"""Why detections are wrong and objects missed: the error types of TIDE.

Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors (ECCV
2020, arXiv 2008.08115). At IoU 0.5 each wrong detection has one type, and what a type costs is how
much AP50 would rise if it alone were put right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nasnet_det.report.detection.boxes import Truth, intersect_over_union
from nasnet_det.report.detection.matches import NO_OBJECT, Matches
from nasnet_det.report.detection.scores import average_precision

RIGHT_IOU, BACKGROUND_IOU = 0.5, 0.1
TYPES = {
    "classification": "the place is right, the class is wrong",
    "localisation": "the class is right, the box is loose (IoU 0.1 to 0.5)",
    "both": "the class is wrong and the box is loose",
    "duplicate": "the object was found already by a better scored box",
    "background": "there is no object (IoU up to 0.1)",
    "missed": "an object is not found, and no box of the first two types means it",
}
NONE, MISSED = -1, "missed"
_NUMBER = {name: number for number, name in enumerate(TYPES)}
_ALL_AREAS, _LEVEL_50 = 0, 0


@dataclass(frozen=True)
class Errors:
    """Errors of D detections (in the order of the matches) and N objects (in that of the data set).

    Attributes:
        type: (D,), index into :data:`TYPES`, :data:`NONE` for a right or an ignored detection.
        target: (D,), the object that a loose or misclassified box means; else ``NO_OBJECT``.
        is_missed: (N,).
    """

    type: np.ndarray
    target: np.ndarray
    is_missed: np.ndarray


def find_errors(truth: Truth, matches: Matches) -> Errors:
    """The type of each wrong detection, and the missed objects."""
    num = len(matches.score)
    kind, target = np.full(num, NONE), np.full(num, NO_OBJECT)
    is_wrong = ~matches.is_match[_ALL_AREAS, _LEVEL_50] & ~matches.is_ignored[_ALL_AREAS, _LEVEL_50]
    is_found = find_found_objects(truth, matches)
    counted = np.flatnonzero(~truth.is_crowd)
    objects_of = _split(counted, truth.image[counted], matches.num_images)
    wrong = np.flatnonzero(is_wrong)
    for found, objects in zip(
        _split(wrong, matches.image[wrong], matches.num_images), objects_of, strict=True
    ):
        if not len(found):
            continue
        if not len(objects):
            kind[found] = _NUMBER["background"]
            continue
        iou = intersect_over_union(matches.box[found][:, None], truth.boxes[objects])
        is_same = matches.category[found][:, None] == truth.category[objects]
        kind[found], places = _classify(iou, is_same, is_found[objects])
        target[found] = np.where(places == NO_OBJECT, NO_OBJECT, objects[places])
    is_meant = np.zeros(len(truth.ids), dtype=bool)
    is_meant[target[target != NO_OBJECT]] = True
    return Errors(kind, target, ~truth.is_crowd & ~is_found & ~is_meant)


def find_found_objects(truth: Truth, matches: Matches) -> np.ndarray:
    """(N,): whether a detection was matched with each object, at IoU 0.5."""
    is_found = np.zeros(len(truth.ids), dtype=bool)
    is_found[matches.object[_LEVEL_50, matches.is_match[_ALL_AREAS, _LEVEL_50]]] = True
    return is_found


def _split(items: np.ndarray, image: np.ndarray, num_images: int) -> list[np.ndarray]:
    """Items by their image."""
    order = np.argsort(image, kind="stable")
    return np.split(items[order], np.searchsorted(image[order], np.arange(1, num_images)))


def _classify(
    iou: np.ndarray, is_same: np.ndarray, is_found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Types, and places of the objects that are meant, from (d, n), (d, n) and (n,)."""
    same = np.where(is_same, iou, 0.0)
    other = np.where(is_same, 0.0, iou)
    used = np.where(is_found, same, 0.0)
    best_same = same.max(axis=1)
    rules = {  # the first that fits
        "localisation": (best_same >= BACKGROUND_IOU) & (best_same < RIGHT_IOU),
        "classification": other.max(axis=1) >= RIGHT_IOU,
        "duplicate": used.max(axis=1) >= RIGHT_IOU,
        "background": iou.max(axis=1) <= BACKGROUND_IOU,
    }
    numbers = [_NUMBER[name] for name in rules]
    kind = np.select(list(rules.values()), numbers, default=_NUMBER["both"])
    places = np.select(
        [kind == _NUMBER["localisation"], kind == _NUMBER["classification"]],
        [same.argmax(axis=1), other.argmax(axis=1)],
        default=NO_OBJECT,
    )
    return kind, places


@dataclass(frozen=True)
class ErrorCost:
    """Errors of one type.

    Attributes:
        count: how many there are.
        ap50: the rise of AP50 in percent without them; None where that is undefined.
    """

    count: int
    ap50: float | None


@dataclass(frozen=True)
class ErrorSummary:
    """What errors cost, and the classes that are taken for each other.

    Attributes:
        types: for each of :data:`TYPES`.
        false_positives, false_negatives: of all wrong detections together, and of all objects that
            are not found.
        confusions: true class, found class, count; frequent first.
    """

    types: dict[str, ErrorCost]
    false_positives: ErrorCost
    false_negatives: ErrorCost
    confusions: tuple[tuple[str, str, int], ...]


def summarize_errors(truth: Truth, matches: Matches, errors: Errors) -> ErrorSummary:
    """Counts and costs."""
    base = _mean_ap50(_Cases.of_run(matches))

    def cost(count: int, fixed: _Cases) -> ErrorCost:
        ap50 = _mean_ap50(fixed)
        is_known = not (np.isnan(base) or np.isnan(ap50))
        return ErrorCost(int(count), 100 * (ap50 - base) if is_known else None)

    counts = {name: (errors.type == _NUMBER[name]).sum() for name in TYPES}
    counts[MISSED] = errors.is_missed.sum()
    is_lost = ~find_found_objects(truth, matches) & ~truth.is_crowd
    all_found = _Cases.of_run(matches)
    np.subtract.at(all_found.num_objects, truth.category[is_lost], 1)
    is_wrong = errors.type != NONE
    return ErrorSummary(
        {name: cost(n, _put_right(name, truth, matches, errors)) for name, n in counts.items()},
        cost(is_wrong.sum(), _Cases.of_run(matches).without(is_wrong)),
        cost(is_lost.sum(), all_found),
        _count_confusions(truth, matches, errors),
    )


def _count_confusions(
    truth: Truth, matches: Matches, errors: Errors
) -> tuple[tuple[str, str, int], ...]:
    mine = errors.type == _NUMBER["classification"]
    found = matches.category[mine].tolist()
    pairs = Counter(zip(truth.category[errors.target[mine]].tolist(), found, strict=True))
    names = truth.category_names
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple((names[a], names[b], count) for (a, b), count in ordered)


@dataclass
class _Cases:
    """Detections as right, wrong or ignored, in any order, and (K,) numbers of objects."""

    category: np.ndarray
    score: np.ndarray
    is_match: np.ndarray
    is_ignored: np.ndarray
    num_objects: np.ndarray

    @classmethod
    def of_run(cls, matches: Matches) -> _Cases:
        return cls(
            matches.category.copy(),
            matches.score,
            matches.is_match[_ALL_AREAS, _LEVEL_50].copy(),
            matches.is_ignored[_ALL_AREAS, _LEVEL_50],
            matches.num_objects[_ALL_AREAS].sum(axis=1),
        )

    def without(self, is_left_out: np.ndarray) -> _Cases:
        kept = ~is_left_out
        return _Cases(
            self.category[kept],
            self.score[kept],
            self.is_match[kept],
            self.is_ignored[kept],
            self.num_objects,
        )


def _put_right(name: str, truth: Truth, matches: Matches, errors: Errors) -> _Cases:
    """The run without one type of error.

    A loose or misclassified box becomes the match of the object that it means, if nothing else has
    found this object and no better scored box means it; otherwise it disappears, as all other wrong
    boxes do. A missed object is no longer expected.
    """
    cases = _Cases.of_run(matches)
    if name == MISSED:
        np.subtract.at(cases.num_objects, truth.category[errors.is_missed], 1)
        return cases
    mine = errors.type == _NUMBER[name]
    candidates = np.flatnonzero(mine & (errors.target != NO_OBJECT))
    candidates = candidates[~find_found_objects(truth, matches)[errors.target[candidates]]]
    candidates = candidates[np.argsort(-matches.score[candidates], kind="stable")]
    _, first = np.unique(errors.target[candidates], return_index=True)
    best = candidates[first]
    cases.is_match[best] = True
    cases.category[best] = truth.category[errors.target[best]]
    mine[best] = False
    return cases.without(mine)


def _mean_ap50(cases: _Cases) -> float:
    """The mean over the categories that have objects; NaN if none has."""
    values = []
    for category in np.flatnonzero(cases.num_objects > 0):
        mine = np.flatnonzero(cases.category == category)
        mine = mine[np.argsort(-cases.score[mine], kind="stable")]
        values.append(
            average_precision(
                cases.is_match[mine], cases.is_ignored[mine], int(cases.num_objects[category])
            )
        )
    return float(np.mean(values)) if values else float("nan")
