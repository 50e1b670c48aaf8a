"""Numbers of ``report.json`` in words, the same on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
METRIC_NAMES = {
    "AP": "mean of IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "objects below 32x32 pixels",
    "APm": "objects up to 96x96 pixels",
    "APl": "larger objects",
    "AR1": "recall with 1 box of a class in an image",
    "AR10": "recall with 10",
    "AR100": "recall with 100",
    "ARs": "recall of objects below 32x32 pixels",
    "ARm": "recall of objects up to 96x96 pixels",
    "ARl": "recall of larger objects",
}
OVER_SEEDS = (
    "Trainings whose configs differ in nothing but the seed and the device: the mean of their "
    "scores, and in brackets the lowest and the highest. Their versions are under Provenance."
)
UNKNOWN: dict[str, Any] = {"value": None, "interval": None}


def write_score(score: Mapping[str, Any]) -> str:
    """``52.2 (48.9 to 55.1)``, in percent."""
    if score["value"] is None:
        return DASH
    text = f"{score['value']:.1f}"
    if score["interval"] is None:
        return text
    low, high = score["interval"]
    return f"{text} ({low:.1f} to {high:.1f})"


def write_difference(score: Mapping[str, Any]) -> str:
    """``+1.2 (-0.3 to +2.8)``, in percent."""
    if score["value"] is None:
        return DASH
    numbers = [score["value"], *(score["interval"] or [])]
    first, *ends = (f"{number:+.1f}".replace("-", MINUS) for number in numbers)
    return f"{first} ({ends[0]} to {ends[1]})" if ends else first


def write_spread(spread: Mapping[str, float] | None) -> str:
    """``50.3 (48.9 to 51.7)``, the mean of several trainings, their lowest and highest."""
    if spread is None:
        return DASH
    return f"{spread['mean']:.1f} ({spread['low']:.1f} to {spread['high']:.1f})"


def judge(score: Mapping[str, Any]) -> str:
    """Whether a difference is more than the choice of the images."""
    if score["value"] is None or score["interval"] is None:
        return "unknown"
    low, high = score["interval"]
    if low > 0:
        return "better"
    return "worse" if high < 0 else "can't be told apart"


def write_count(number: float | None) -> str:
    """``5.3 M``, ``23.8 G``."""
    if number is None:
        return DASH
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f}"


def write_value(value: object) -> str:
    """A value of a config."""
    return DASH if value is None else str(value)
