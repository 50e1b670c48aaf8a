"""Means over seeds, with Student's interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasnet_det.report.detection.intervals import find_mean_interval


def find_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of at least two values, and the ends of its interval of 95%."""
    return float(np.mean(values)), *find_mean_interval(values)


def describe(mean: float, low: float, high: float) -> str:
    """A mean with its interval."""
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
