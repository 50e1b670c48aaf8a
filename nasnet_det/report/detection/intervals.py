"""Bootstrap confidence intervals over images.

The images of a data set are a sample; another one would give other scores. The bootstrap draws as
many images again, with replacement, and scores each draw. Runs on the same images are scored on the
*same* draws, so in the differences between two runs cancels what makes some images easy for both.

Which interval is right was found out on simulated detectors whose scores on 75,000 images are known
(``tests/report/detection/test_intervals.py``), with 50 to 250 images a data set:

- Draws vary less than data sets do. All intervals are widened as a mean of n values would ask for,
  by sqrt(n / (n - 1)) and by Student's t (Hesterberg, What Teachers Should Know About the
  Bootstrap, 2015).
- The AP of few images is too high on average, by about 0.8 of 33 with 100 images, since precision's
  envelope follows the noise upwards only. The draws have the same bias once more, so percentiles of
  them cover in 89 of 100 cases. For one run, the interval is therefore laid around the score minus
  the bias that the draws show.
- In a difference the bias cancels, and percentiles are best.

Over trainings with several seeds there is nothing to draw: the mean has Student's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
NUM_DRAWS = 1000
Interval = tuple[float, float]
# Student's t by degrees of freedom, two-sided for LEVEL.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two, in percent.

    Attributes:
        value: None where it is undefined, as APs without a small object.
        interval: low and high; None where there is none.
    """

    value: float | None
    interval: Interval | None


UNKNOWN = Estimate(None, None)


def draw_images(num_images: int, num_draws: int = NUM_DRAWS, *, seed: int = 0) -> np.ndarray:
    """How often each image is in each draw, (B, I); the same for the same arguments."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_draws)


def estimate_score(value: float, draws: np.ndarray, num_images: int) -> Estimate:
    """A score from 0 to 1 as an estimate; see :func:`find_score_interval`."""
    return _in_percent(value, find_score_interval(value, draws, num_images))


def estimate_difference(value: float, draws: np.ndarray, num_images: int) -> Estimate:
    """A difference of scores from 0 to 1; see :func:`find_difference_interval`."""
    return _in_percent(value, find_difference_interval(draws, num_images))


def _in_percent(value: float, interval: Interval | None) -> Estimate:
    if not np.isfinite(value):
        return UNKNOWN
    ends = None if interval is None else (100 * interval[0], 100 * interval[1])
    return Estimate(100 * float(value), ends)


def find_score_interval(
    value: float, draws: np.ndarray, num_images: int, *, level: float = LEVEL
) -> Interval | None:
    """The interval of one run's score.

    Args:
        value: the score of the data set, from 0 to 1.
        draws: (B,), those of the draws; NaN where a draw had nothing to score.
        num_images: I.
        level: the share of data sets for which it should cover the score of many images.

    Returns:
        low and high; None with one image, or if fewer than half of the draws have a value.
    """
    known = _find_known(draws, num_images)
    if known is None:
        return None
    centre = 2 * value - known.mean()
    width = _widen(num_images, level) * known.std(ddof=1)
    return float(np.clip(centre - width, 0, 1)), float(np.clip(centre + width, 0, 1))


def find_difference_interval(
    draws: np.ndarray, num_images: int, *, level: float = LEVEL
) -> Interval | None:
    """The interval of the difference between two runs on the same images.

    Args:
        draws: (B,), differences on the same draws; NaN where there was nothing to score.
        num_images: I.
        level: see :func:`find_score_interval`.

    Returns:
        as :func:`find_score_interval`.
    """
    known = _find_known(draws, num_images)
    if known is None:
        return None
    outside = NormalDist().cdf(-_widen(num_images, level))
    low, high = np.quantile(known, [outside, 1 - outside])
    return float(low), float(high)


def _find_known(draws: np.ndarray, num_images: int) -> np.ndarray | None:
    known = draws[np.isfinite(draws)]
    return known if num_images > 1 and len(known) > max(1, len(draws) / 2) else None


def _widen(num_images: int, level: float) -> float:
    """Half the width of an interval, in standard deviations of the draws."""
    return _expand_t(num_images - 1, level) * math.sqrt(num_images / (num_images - 1))


def _expand_t(freedom: int, level: float) -> float:
    """Student's t for many degrees of freedom: Abramowitz and Stegun, 26.7.5, first terms."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    return z + (z**3 + z) / (4 * freedom)


def find_mean_interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of two or more independent values, at :data:`LEVEL`."""
    freedom = len(values) - 1
    t = T.get(freedom) or _expand_t(freedom, LEVEL)
    mean, half = np.mean(values), t * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(mean - half), float(mean + half)
