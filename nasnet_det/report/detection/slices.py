"""Scores of parts of a data set: by the size and the place of objects, by crowding and brightness.

Pictures are put in three parts with about as many pictures each, by the number of their objects and
by their mean brightness. An object counts as found where a detection from the score with the best
F1 on has an IoU of 0.5 with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasnet_det.data.pictures import PictureError, read_picture
from nasnet_det.report.detection.boxes import Truth
from nasnet_det.report.detection.matches import AREAS, Matches
from nasnet_det.report.detection.scores import compute_average_precision

MAX_PICTURES = 2000  # that are read for their brightness
BORDER = 2  # pixels: an object that comes so near is cut
INNER = 0.5  # of the width and of the height, around the middle
Z = 1.96  # of the normal distribution, for 95%
_ALL_AREAS, _LEVEL_50 = 0, 0


@dataclass(frozen=True)
class Slice:
    """A part of the data set.

    Attributes:
        by: what divides it, such as ``crowding``.
        name: of the part.
        images: with at least one of its objects, or of the part; all for sizes and places.
        objects: their number.
        ap: in percent, of parts of the pictures; None of parts of the objects.
        found: the share of its objects that is found, in percent; None without any.
        interval: of ``found``, 95% (Wilson's).
    """

    by: str
    name: str
    images: int
    objects: int
    ap: float | None
    found: float | None
    interval: tuple[float, float] | None


def find_slices(
    truth: Truth, matches: Matches, threshold: float | None, brightness: np.ndarray | None = None
) -> list[Slice]:
    """The parts that have objects.

    Args:
        truth, matches: of a run.
        threshold: detections count from this score on; None: nothing is found.
        brightness: (I,), from 0 to 255; NaN where it is unknown.
    """
    right = matches.is_match[_ALL_AREAS, _LEVEL_50]
    right = right & (matches.score >= (math.inf if threshold is None else threshold))
    is_found = np.zeros(len(truth.ids), dtype=bool)
    is_found[matches.object[_LEVEL_50, right]] = True

    def measure(by: str, name: str, is_mine: np.ndarray, ap: float | None = None) -> Slice:
        mine = is_mine & ~truth.is_crowd
        number, hits = int(mine.sum()), int(is_found[mine].sum())
        images = len(np.unique(truth.image[mine]))
        found = 100 * hits / number if number else None
        return Slice(by, name, images, number, ap, found, _find_interval(hits, number))

    slices = [measure("size", name, is_mine) for name, is_mine in _divide_sizes(truth)]
    slices += [measure("place", name, is_mine) for name, is_mine in _divide_places(truth)]
    counted = ~truth.is_crowd
    crowding = np.bincount(truth.image[counted], minlength=matches.num_images).astype(float)
    crowding[crowding == 0] = np.nan
    values = {"crowding": ("{:.0f} to {:.0f} objects", crowding)}
    if brightness is not None:
        values["brightness"] = ("{:.0f} to {:.0f} of 255", brightness)
    for by, (form, value) in values.items():
        parts = list(_divide_images(form, value))
        copies = np.array([is_mine for _, is_mine in parts], dtype=np.int16)
        for (name, is_mine), ap in zip(parts, _find_ap(matches, copies), strict=True):
            slices.append(measure(by, name, is_mine[truth.image], ap))
    return [one for one in slices if one.objects]


def _find_ap(matches: Matches, copies: np.ndarray) -> list[float | None]:
    """AP in percent of the images of each row (B, I); None without an object."""
    if not len(copies):
        return []
    precision = compute_average_precision(matches, np.ascontiguousarray(copies.T), (_ALL_AREAS,))
    of_categories = precision[0].mean(axis=0)  # (K, B)
    return [
        100 * float(column[~np.isnan(column)].mean()) if np.isfinite(column).any() else None
        for column in of_categories.T
    ]


def _divide_sizes(truth: Truth) -> Iterator[tuple[str, np.ndarray]]:
    for name, (low, high) in list(AREAS.items())[1:]:
        yield name, (truth.areas >= low) & (truth.areas < high)


def _divide_places(truth: Truth) -> Iterator[tuple[str, np.ndarray]]:
    """Of objects in pictures whose size is known."""
    size = truth.sizes[truth.image]
    low, high = truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]
    is_cut = ((low < BORDER) | (high > size - BORDER)).any(axis=1)
    away = np.abs((low + high) / 2 / size - 0.5)
    is_inner = (away <= INNER / 2).all(axis=1)
    is_known = np.isfinite(size).all(axis=1)
    yield "at the picture's border", is_known & is_cut
    yield "in the middle", is_known & ~is_cut & is_inner
    yield "between them", is_known & ~is_cut & ~is_inner


def _divide_images(form: str, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Thirds of the images with a value; fewer where many are equal."""
    known = values[np.isfinite(values)]
    if not len(known):
        return
    ends = np.unique(np.quantile(known, [1 / 3, 2 / 3, 1], method="inverted_cdf"))
    low = -math.inf
    for end in ends:
        mine = (values > low) & (values <= end)
        yield form.format(values[mine].min(), values[mine].max()), mine
        low = end


def _find_interval(hits: int, number: int) -> tuple[float, float] | None:
    """Wilson's score interval of a share, in percent."""
    if not number:
        return None
    share, weight = hits / number, Z**2 / number
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / number + weight / number / 4)
    return 100 * (middle - half), 100 * (middle + half)


def measure_brightness(file_names: Sequence[str], folder: Path) -> np.ndarray:
    """The mean of each picture's grey values, (I,); NaN of one that can't be read.

    Of more than :data:`MAX_PICTURES` so many are read, evenly spread.
    """
    values = np.full(len(file_names), np.nan)
    number = min(len(file_names), MAX_PICTURES)
    for i in np.linspace(0, len(file_names) - 1, number).astype(int).tolist():
        try:
            image = read_picture(folder / file_names[i])
        except PictureError:
            continue
        values[i] = np.asarray(image.convert("L").reduce(max(1, min(image.size) // 64))).mean()
    return values
