"""A child that costs nothing: its reward is a fixed function of its decisions and its seed."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from nasnet_det.search.child import ChildJob, ChildResult

FAILING = 7  # children whose seed is a multiple of it fail


@dataclass(frozen=True)
class PlantedChild:
    """Stands for :class:`~nasnet_det.search.child.ChildTrainer`, in worker processes too.

    Attributes:
        log: a file that gets a line ``<number> <process>`` for each finished training.
        seconds: how long a training takes.
    """

    log: str
    seconds: float = 0.0

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        time.sleep(self.seconds)
        with open(self.log, "a") as file:
            file.write(f"{job.number} {os.getpid()}\n")
        if job.seed % FAILING == 0:
            return ChildResult(job.number, None, "planted failure", self.seconds)
        noise = random.Random(job.seed).random() / 100
        reward = 1 - sum(job.choices) / (4 * len(job.choices)) - noise
        return ChildResult(job.number, reward, "", self.seconds)


def read_log(path: str | Path) -> list[int]:
    """Numbers of the children that were trained, in order."""
    if not os.path.exists(path):
        return []
    return [int(line.split()[0]) for line in Path(path).read_text().splitlines()]
