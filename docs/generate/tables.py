"""What all tables of results are made with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "docs" / "reference_runs"


@cache
def read(path: Path) -> Any:
    """A file of results."""
    return json.loads(path.read_text())


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_interval(mean: float, low: float, high: float, *, digits: int = 1) -> str:
    """A difference and the bounds of its interval."""
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
