"""A child that costs nothing: its reward is a fixed function of its decisions and its seed."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from nasnet_det.search.job import ChildJob, ChildResult, Curve

FAILING = 7  # children whose seed is a multiple of it fail
EPOCHS = 4  # of a child that may be pruned


@dataclass(frozen=True)
class PlantedChild:
    """Stands for :class:`~nasnet_det.search.child.ChildTrainer`, in worker processes too.

    Attributes:
        log: a file that gets a line ``<number> <process> <epochs>`` for each finished training.
        seconds: how long a training takes.
    """

    log: str
    seconds: float = 0.0

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        time.sleep(self.seconds)
        noise = random.Random(job.seed).random() / 100
        reward = 1 - sum(job.choices) / (4 * len(job.choices)) - noise
        curve = follow(job, reward) if job.comparison else None
        with open(self.log, "a") as file:
            file.write(f"{job.number} {os.getpid()} {len(curve.accuracies) if curve else EPOCHS}\n")
        if job.seed % FAILING == 0:
            return ChildResult(job.number, None, "planted failure", self.seconds)
        reward = curve.accuracies[-1] if curve else reward
        return ChildResult(job.number, reward, "", self.seconds, curve)


def follow(job: ChildJob, reward: float) -> Curve:
    """An accuracy that rises to the reward in a straight line, unless the child is pruned."""
    assert job.comparison is not None
    accuracies: list[float] = []
    for epoch in range(1, EPOCHS + 1):
        accuracies.append(reward * epoch / EPOCHS)
        if epoch < EPOCHS and job.comparison.is_hopeless(accuracies):
            break
    return Curve(tuple(accuracies), len(accuracies) == EPOCHS)


def read_log(path: str | Path) -> list[int]:
    """Numbers of the children that were trained, in order."""
    if not os.path.exists(path):
        return []
    return [int(line.split()[0]) for line in Path(path).read_text().splitlines()]
