"""Several trainings of one candidate: each is a candidate of its own for a rung."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from nasnet_det.runs.candidates import Candidate, Trained


def list_runs(candidate: Candidate, num_seeds: int) -> list[Candidate]:
    """The candidate, once for each seed, with names of their own; the first has its name."""
    names = [f"{candidate.name}.seed_{number}" for number in range(1, num_seeds)]
    return [candidate, *(replace(candidate, name=name) for name in names)]


def merge_runs(candidate: Candidate, runs: Sequence[Trained]) -> Trained:
    """One result: the mean AP of the trainings that did not fail, and the first one's latency.

    Args:
        candidate: of the trainings.
        runs: at least one.
    """
    done = [one for one in runs if not one.failure] or runs[:1]
    values = dict(done[0].values)
    if not done[0].failure:
        values["ap"] = statistics.fmean(one.values["ap"] for one in done)
    return replace(
        done[0],
        candidate=candidate,
        values=values,
        seconds=sum(one.seconds for one in runs),
        runs=tuple(one.candidate.name for one in done),
    )
