"""From which score on detections are as precise as wanted, and how many objects they then find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasnet_det.report.detection.matches import Matches

WANTED = (0.5, 0.8, 0.9, 0.95, 0.99)
_ALL_AREAS, _LEVEL_50 = 0, 0


@dataclass(frozen=True)
class OperatingPoint:
    """The most detections, from the best on, that are as precise as wanted, at IoU 0.5.

    Attributes:
        wanted: the precision, from 0 to 1.
        threshold: of the score; None where no detections are as precise.
        precision, recall: of the detections from ``threshold`` on; None without one.
    """

    wanted: float
    threshold: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class OperatingPoints:
    """The points of all classes together, and of each, for each of :data:`WANTED`."""

    overall: tuple[OperatingPoint, ...]
    of_categories: tuple[tuple[OperatingPoint, ...], ...]


def find_operating_points(matches: Matches) -> OperatingPoints:
    """The points of a run."""
    num_objects = matches.num_objects[_ALL_AREAS].sum(axis=1)
    counted = ~matches.is_ignored[_ALL_AREAS, _LEVEL_50]
    right = matches.is_match[_ALL_AREAS, _LEVEL_50]
    everything = _find_points(matches.score[counted], right[counted], int(num_objects.sum()))
    of_categories = []
    for category, number in enumerate(num_objects.tolist()):
        mine = matches.of_category(category)
        kept = counted[mine]
        of_categories.append(_find_points(matches.score[mine][kept], right[mine][kept], number))
    return OperatingPoints(everything, tuple(of_categories))


def _find_points(
    score: np.ndarray, is_right: np.ndarray, num_objects: int
) -> tuple[OperatingPoint, ...]:
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(is_right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    is_last = np.append(score[1:] < score[:-1], True)[: len(score)]  # all of equal score
    points = []
    for wanted in WANTED:
        fits = np.flatnonzero(is_last & (precision >= wanted))
        if not len(fits) or not num_objects:
            points.append(OperatingPoint(wanted, None, None, None))
            continue
        last = fits[-1]
        values = (score[last], precision[last], hits[last] / num_objects)
        points.append(OperatingPoint(wanted, *map(float, values)))
    return tuple(points)
