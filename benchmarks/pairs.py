"""Two ways of doing a thing, measured in turn in one process: what all scripts of speed share."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from nasnet_det.detection.cost import name_device
from nasnet_det.runs.files import write_json

Step = Callable[[], object]


class Comparison(NamedTuple):
    """Times of ours and a peer's, in turn.

    Attributes:
        ours, peer: milliseconds of each step, pair by pair.
    """

    ours: list[float]
    peer: list[float]

    @property
    def ratio(self) -> float:
        """Our median over the peer's: below 1 ours is faster."""
        return statistics.median(self.ours) / statistics.median(self.peer)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of the pairs' ratios."""
        ratios = [a / b for a, b in zip(self.ours, self.peer, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        return low, high

    def to_row(self) -> dict[str, Any]:
        """Medians in milliseconds, the ratio and its spread."""
        return {
            "ms": {who: statistics.median(times) for who, times in self._asdict().items()},
            "ratio": self.ratio,
            "quartiles": self.quartiles,
            "pairs": len(self.ours),
        }


def time_pairs(ours: Step, peer: Step, num_pairs: int) -> Comparison:
    """Both in turn, after two steps of each that are not measured.

    With one thread its processor time counts, so that what else the machine does disturbs less;
    with more it is the clock's.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times = Comparison([], [])
    for pair in range(-2, num_pairs):
        for step, values in zip((ours, peer), times, strict=True):
            start = clock()
            step()
            if pair >= 0:
                values.append(1000 * (clock() - start))
    return times


def write_row(results: Path, name: str, row: dict[str, Any], *libraries: ModuleType) -> None:
    """Put a row into a file of results, and what it was measured on and with beside it."""
    rows = json.loads(results.read_text())["rows"] if results.is_file() else {}
    machine = {
        "processor": name_device(torch.device("cpu")),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    versions = {library.__name__: library.__version__ for library in libraries}
    rows[name] = {**row, "threads": torch.get_num_threads()}
    write_json(results, {"machine": machine, "versions": versions, "rows": rows})
