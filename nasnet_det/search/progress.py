"""How far a search is, in one line."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        total: children that are asked for.
        done: children that were trained to the end.
        failed: children without a reward.
        running: children under way, or waiting for a worker.
        best: highest reward so far, 0 to 1; None if there is none.
        seconds_left: at the speed of this run; None while that is not known.
        pruned: children that were ended early.
        what: whose progress it is.
        seen_before: children whose architecture had been trained; they count as finished.
        seconds_after: what comes after these will take; 0: nothing does, or that is not known.
    """

    total: int
    done: int
    failed: int
    running: int
    best: float | None
    seconds_left: float | None
    pruned: int = 0
    what: str = "children"
    seen_before: int = 0
    seconds_after: float = 0.0

    @property
    def finished(self) -> int:
        """Children that need no worker any more."""
        return self.done + self.pruned + self.failed

    def __str__(self) -> str:
        best = "-" if self.best is None else f"{self.best:.4f}"
        seen = f"{self.seen_before} seen before, " if self.seen_before else ""
        pruned = f"{self.pruned} pruned, " if self.pruned else ""
        return (
            f"{self.finished}/{self.total} {self.what}: {self.done} done, {pruned}"
            f"{self.failed} failed, {self.running} running, {seen}best {best}, "
            f"ETA {format_seconds(self.seconds_left)}"
            + (f", then about {format_seconds(self.seconds_after)}" if self.seconds_after else "")
        )


def format_seconds(seconds: float | None) -> str:
    """``1:02:03``, with days before it where there are any; ``-`` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}d ' if days else ''}{hours}:{minutes:02d}:{rest:02d}"


class Speed:
    """Children for each second of this run; results of an earlier one took no time."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._finished = 0

    def count(self) -> None:
        """One more child is finished."""
        self._finished += 1

    def seconds_for(self, num_children: int) -> float | None:
        """How long so many more will take; None before the first is finished."""
        if not self._finished:
            return None
        return num_children * (time.monotonic() - self._started) / self._finished
