"""Means over seeds, with Student's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Student's t, two-sided 95%, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def find_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of at least two values, and the ends of its interval of 95%."""
    mean, number = float(np.mean(values)), len(values)
    half = T95.get(number - 1, 1.96) * float(np.std(values, ddof=1)) / math.sqrt(number)
    return mean, mean - half, mean + half


def describe(mean: float, low: float, high: float) -> str:
    """A mean with its interval."""
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
