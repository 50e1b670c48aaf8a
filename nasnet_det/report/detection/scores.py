"""COCO's average precision and recall from matches, for any number of copies of each image.

With one copy of each image, these are pycocotools' numbers. The bootstrap asks for hundreds of
draws of the images at once: an image that was drawn twice counts twice. Precision changes its
envelope only at right detections, so sums are needed there only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nasnet_det.report.detection.matches import AREAS, IOU_THRESHOLDS, Matches

RECALL_LEVELS = np.linspace(0, 1, 101)
MAX_ELEMENTS = 16_000_000  # of 16 bits in an array: draws are computed in blocks of such a size
WIDE = 128  # draws from which on rows are added one by one
_ALL = tuple(range(len(IOU_THRESHOLDS)))
# Name -> area, indices of IoU thresholds.
PRECISIONS = {
    "AP": ("all", _ALL),
    "AP50": ("all", (0,)),
    "AP75": ("all", (5,)),
    "APs": ("small", _ALL),
    "APm": ("medium", _ALL),
    "APl": ("large", _ALL),
}
# Name -> area, most detections of a category in an image.
RECALLS = {
    "AR1": ("all", 1),
    "AR10": ("all", 10),
    "AR100": ("all", 100),
    "ARs": ("small", 100),
    "ARm": ("medium", 100),
    "ARl": ("large", 100),
}
METRICS = (*PRECISIONS, *RECALLS)


@dataclass(frozen=True)
class Scores:
    """Scores from 0 to 1 of B draws of the images; NaN where there is no object.

    Attributes:
        overall: name of a metric -> (B,), the mean over the categories that have objects.
        of_categories: name of a metric -> (K, B).
    """

    overall: dict[str, np.ndarray]
    of_categories: dict[str, np.ndarray]


def compute_scores(matches: Matches, copies: np.ndarray | None = None) -> Scores:
    """All metrics.

    Args:
        matches: of one run.
        copies: (B, I), how often each image counts; once if None.
    """
    if copies is None:
        copies = np.ones((1, matches.num_images), dtype=np.int16)
    copies = np.ascontiguousarray(copies.T, dtype=np.int16)  # (I, B)
    precision = compute_average_precision(matches, copies)  # (A, T, K, B)
    areas = list(AREAS)
    of_categories = {
        name: precision[areas.index(area), list(levels)].mean(axis=0)
        for name, (area, levels) in PRECISIONS.items()
    }
    weights = copies.astype(np.float64)
    for name, (area, most) in RECALLS.items():
        of_categories[name] = compute_recall(matches, weights, areas.index(area), most)
    overall = {name: _mean_of_defined(values) for name, values in of_categories.items()}
    return Scores(overall, of_categories)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Means of (K, B) over K without NaN."""
    is_there = ~np.isnan(values)
    total, number = np.where(is_there, values, 0.0).sum(axis=0), is_there.sum(axis=0)
    return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)


def compute_recall(matches: Matches, copies: np.ndarray, area: int, most: int) -> np.ndarray:
    """Recall, averaged over the IoU thresholds.

    Args:
        matches: of one run.
        copies: (I, B); of floats, or they become such.
        area: index into ``AREAS``.
        most: detections that count, of a category in an image.

    Returns:
        (K, B), NaN where a draw has no object.
    """
    found = matches.is_match[area].sum(axis=0) * (matches.rank < most)  # (D,), of T thresholds
    shape = (matches.num_categories, matches.num_images)
    places = np.ravel_multi_index((matches.category, matches.image), shape)
    hits = np.bincount(places, found, minlength=shape[0] * shape[1]).reshape(shape)
    weights = copies.astype(np.float64, copy=False)
    return _divide(hits @ weights / len(IOU_THRESHOLDS), matches.num_objects[area] @ weights)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    out = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def compute_average_precision(
    matches: Matches, copies: np.ndarray, areas: tuple[int, ...] = tuple(range(len(AREAS)))
) -> np.ndarray:
    """The area under the precision-recall curve, on 101 levels of recall.

    Args:
        matches: of one run.
        copies: (I, B).
        areas: indices into ``AREAS``.

    Returns:
        (A, T, K, B), NaN where a draw has no object.
    """
    num_draws = copies.shape[1]
    out = np.zeros((len(areas), len(IOU_THRESHOLDS), matches.num_categories, num_draws))
    num_objects = matches.num_objects[list(areas)] @ copies.astype(np.float64)  # (A, K, B)
    for category in range(matches.num_categories):
        mine = matches.of_category(category)
        for block in _blocks(mine.stop - mine.start, num_draws):
            of_detections = copies[matches.image[mine], block]  # (D, B)
            for place, area in enumerate(areas):
                out[place, :, category, block] = _average(
                    matches.is_match[area, :, mine],
                    matches.is_ignored[area, :, mine],
                    of_detections,
                    num_objects[place, category, block],
                )
    out[np.broadcast_to((num_objects == 0)[:, None], out.shape)] = np.nan
    return out


def _blocks(num_detections: int, num_draws: int) -> Iterator[slice]:
    size = max(1, MAX_ELEMENTS // max(1, num_detections))
    for start in range(0, num_draws, size):
        yield slice(start, min(start + size, num_draws))


def _average(
    is_match: np.ndarray, is_ignored: np.ndarray, copies: np.ndarray, num_objects: np.ndarray
) -> np.ndarray:
    """Average precision (T, B) of one category from (T, D), (T, D), (D, B) and (B,)."""
    out = np.zeros((len(is_match), copies.shape[1]))
    # What most thresholds ignore is left out once; where one differs, it is put right.
    usually_ignored = is_ignored.mean(axis=0) > 0.5
    usual = np.flatnonzero(~usually_ignored)
    rights = [np.flatnonzero(match) for match in is_match]
    numbers = [np.searchsorted(usual, right, side="right") for right in rights]
    ends = np.unique(np.concatenate([[0], *numbers]))
    sums = _sum_up_to(copies[usual], ends)
    levels, starts = _tabulate_levels(num_objects)
    for level, (right, number) in enumerate(zip(rights, numbers, strict=True)):
        if not len(right):
            continue
        hits = _accumulate(np.add, copies[right].astype(np.int32))
        counted = sums[np.searchsorted(ends, number)]
        other = np.flatnonzero(is_ignored[level] != usually_ignored)
        if len(other):
            signs = np.where(is_ignored[level, other], -1, 1).astype(np.int32)[:, None]
            changes = np.zeros((len(other) + 1, copies.shape[1]), dtype=np.int32)
            changes[1:] = _accumulate(np.add, signs * copies[other])
            counted += changes[np.searchsorted(other, right, side="right")]
        flipped = np.empty(hits.shape)  # the last row first, as its envelope is made
        np.divide(hits, np.maximum(counted, 1, out=counted), out=flipped[::-1])
        precision = _accumulate(np.maximum, flipped)[::-1]
        new = np.diff(levels[hits + starts], axis=0, prepend=np.int8(0))
        out[level] = np.einsum("rb,rb->b", precision, new) / len(RECALL_LEVELS)
    return out


def _accumulate(combine: np.ufunc, values: np.ndarray) -> np.ndarray:
    """``combine.accumulate`` over the rows of (R, B), in place.

    numpy's own takes one number at a time along the rows, and a processor many.
    """
    if values.shape[1] < WIDE:
        combine.accumulate(values, axis=0, out=values)
        return values
    for before, row in pairwise(values):
        combine(before, row, out=row)
    return values


def _tabulate_levels(num_objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many levels of recall are reached, by the number of right detections of each draw.

    Args:
        num_objects: (B,), of each draw.

    Returns:
        a table, and where in it each draw's row starts (B,).
    """
    numbers, places = np.unique(np.maximum(num_objects, 1).astype(np.intp), return_inverse=True)
    width = int(numbers[-1]) + 1
    recall = np.minimum(np.arange(width) / numbers[:, None], 1.0)
    return _count_levels(recall).astype(np.int8).ravel(), places * width


def _sum_up_to(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sums (E, B) of the first 0, ... of (n, B) values; ``ends`` rises from 0."""
    sums = np.zeros((len(ends), values.shape[1]), dtype=np.int32)
    if len(ends) > 1:
        used = values[: ends[-1]]
        # Without a cast, unless a sum may not fit.
        largest = int(np.diff(ends).max()) * int(used.max())
        kind = values.dtype if largest <= np.iinfo(values.dtype).max else np.int32
        if values.shape[1] < WIDE:
            sums[1:] = np.add.reduceat(used, ends[:-1], axis=0, dtype=kind)
        else:  # as in _accumulate
            for row, (start, stop) in zip(sums[1:], pairwise(ends.tolist()), strict=True):
                row[:] = np.add.reduce(used[start:stop], axis=0, dtype=kind)
        _accumulate(np.add, sums)
    return sums


def _count_levels(recall: np.ndarray) -> np.ndarray:
    """How many of the levels of recall, 0 included, lie up to each value from 0 to 1."""
    last = len(RECALL_LEVELS) - 1
    below = np.minimum((recall * last).astype(np.intp), last - 1)
    # A product that was rounded may be one off.
    return below + (RECALL_LEVELS[below] <= recall) + (RECALL_LEVELS[below + 1] <= recall)


def average_precision(is_match: np.ndarray, is_ignored: np.ndarray, num_objects: int) -> float:
    """Average precision of one list of detections, (D,) each, the highest score first."""
    once = np.ones((len(is_match), 1), dtype=np.int16)
    return float(_average(is_match[None], is_ignored[None], once, np.array([num_objects]))[0, 0])


def compute_curves(matches: Matches, area: int = 0) -> np.ndarray:
    """Precision (T, K, 101) at the levels of recall; NaN for a category without an object."""
    out = np.zeros((len(IOU_THRESHOLDS), matches.num_categories, len(RECALL_LEVELS)))
    num_objects = matches.num_objects[area].sum(axis=1)
    out[:, num_objects == 0] = np.nan
    for category in np.flatnonzero(num_objects):
        mine = matches.of_category(int(category))
        for level in range(len(IOU_THRESHOLDS)):
            match = matches.is_match[area, level, mine]
            hits = np.cumsum(match)
            counted = np.cumsum(~matches.is_ignored[area, level, mine])
            precision = hits / (counted + np.spacing(1))
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            places = np.searchsorted(hits / num_objects[category], RECALL_LEVELS)
            is_reached = places < len(hits)
            out[level, category, is_reached] = envelope[places[is_reached]]
    return out
