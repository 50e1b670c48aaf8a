"""Whether scores mean what they say: of the boxes with a score of 0.7, 70% should be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasnet_det.report.detection.matches import Matches

NUM_BINS = 10
_ALL_AREAS, _LEVEL_50 = 0, 0


@dataclass(frozen=True)
class Bin:
    """The detections with scores from ``low`` to ``high``.

    Attributes:
        low, high: a tenth of the scores from 0 to 1.
        count: number of detections.
        score: their mean score; None without any.
        right: the share of them that is right; None without any.
    """

    low: float
    high: float
    count: int
    score: float | None
    right: float | None


@dataclass(frozen=True)
class Calibration:
    """Scores beside the share of right detections, at IoU 0.5; ignored ones are left out.

    Attributes:
        bins: by score.
        error: the expected calibration error, which is the mean distance of score and share,
            weighted by counts; None without detections.
        best_threshold: see :func:`choose_threshold`.
    """

    bins: tuple[Bin, ...]
    error: float | None
    best_threshold: float | None


def compute_calibration(matches: Matches) -> Calibration:
    """The calibration of one run."""
    counted = ~matches.is_ignored[_ALL_AREAS, _LEVEL_50]
    score = matches.score[counted]
    right = matches.is_match[_ALL_AREAS, _LEVEL_50][counted]
    place = np.clip((score * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    bins, error = [], 0.0
    for number in range(NUM_BINS):
        mine = place == number
        count = int(mine.sum())
        mean, share = (float(v[mine].mean()) if count else None for v in (score, right))
        if mean is not None and share is not None:
            error += count / len(score) * abs(mean - share)
        bins.append(Bin(number / NUM_BINS, (number + 1) / NUM_BINS, count, mean, share))
    return Calibration(tuple(bins), error if len(score) else None, choose_threshold(matches))


def choose_threshold(matches: Matches) -> float | None:
    """The score from which on detections give the best F1, at IoU 0.5 and over all categories.

    F1 is the harmonic mean of precision and recall. Of equal ones the highest threshold; None if
    nothing is right.
    """
    counted = ~matches.is_ignored[_ALL_AREAS, _LEVEL_50]
    order = np.argsort(-matches.score[counted], kind="stable")
    score = matches.score[counted][order]
    hits = np.cumsum(matches.is_match[_ALL_AREAS, _LEVEL_50][counted][order])
    if not len(hits) or not hits[-1]:
        return None
    num_objects = matches.num_objects[_ALL_AREAS].sum()
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + num_objects)
    is_last = np.append(score[1:] < score[:-1], True)  # a threshold takes all of equal score
    return float(score[np.where(is_last, f1, -1.0).argmax()])
