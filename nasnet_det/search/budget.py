"""How many candidates each rung of a search for detectors has, by the hours that it may take.

Before anything is trained, one child of each rung is estimated from a few of its steps. The hours
are shared out; before each rung, what is left of them. The numbers are written down when they are
chosen, so a search that was killed goes on with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.runs.files import FileError, write_json

PLAN = "plan.json"
SHARES = (0.2, 0.25, 0.55)  # of the hours, by rung (ours); the last has the fewest and longest
NUM_RUNGS = len(SHARES)


class Budget:
    """The numbers of candidates, and what the rungs cost.

    Args:
        folder: gets ``plan.json``.
        cfg: of the search.
        num_workers: candidates that are trained at the same time.
        num_known: known backbones that there are.

    Raises:
        ConfigError: the plan that is there is one for other hours.
        FileError: it can't be read.
    """

    def __init__(self, folder: Path, cfg: CfgNode, *, num_workers: int, num_known: int) -> None:
        self.path, self.num_workers, self.num_known = folder / PLAN, num_workers, num_known
        self.hours = cfg.SEARCH.BUDGET_HOURS
        self.asked = (cfg.SEARCH.NUM_TRIALS, *cfg.SEARCH.DETECTOR.NUM_CANDIDATES)
        self.plan: dict[str, Any] = {}
        if self.path.is_file():
            self.plan = _read(self.path)
            if self.plan["hours"] != self.hours:
                raise ConfigError(
                    f"SEARCH.BUDGET_HOURS: the search in {folder} was planned for "
                    f"{self.plan['hours']:g}, got {self.hours:g}; give the same, or another "
                    "OUTPUT_DIR"
                )

    def begin(self, costs: Sequence[float]) -> None:
        """Plan.

        Args:
            costs: seconds of one child of each rung.

        Raises:
            ConfigError: the hours don't suffice for one candidate and one known backbone.
        """
        least = (costs[0] + 2 * sum(costs[1:])) / 3600
        if 0 < self.hours < least:
            raise ConfigError(
                f"SEARCH.BUDGET_HOURS: wanted at least {least * 1.05:.2g}, for one candidate and "
                f"one known backbone in every rung ({_describe_costs(costs)}), got {self.hours:g}"
            )
        self.plan = {"hours": self.hours, "costs": list(costs), "numbers": [], "seconds": []}
        self._write()

    def choose(self, rung: int) -> int:
        """How many candidates of the search a rung has; chosen when the one before has ended.

        Args:
            rung: from 0.
        """
        if not self.hours:
            return int(self.asked[rung])
        numbers = self.plan["numbers"]
        if len(numbers) <= rung:
            numbers.append(self._count(rung))
            self._write()
        return int(numbers[rung])

    def _count(self, rung: int) -> int:
        left = 3600 * self.hours - sum(self.plan["seconds"][:rung])
        later = self._cost_of(1, rung + 1) if rung + 1 < NUM_RUNGS else 0.0
        share = max(0.0, min(left * SHARES[rung] / sum(SHARES[rung:]), left - later))
        number = 1
        while self._cost_of(number + 1, rung) <= share:
            number += 1
        return number

    def _cost_of(self, number: int, rung: int) -> float:
        """Seconds of a rung with so many candidates, on all workers."""
        known = min(number, self.num_known) if rung else 0
        return float((number + known) * self.plan["costs"][rung] / self.num_workers)

    def end_rung(self, rung: int, seconds: float, cost: float | None) -> None:
        """Note what a rung took.

        Args:
            rung: from 0.
            seconds: of all its children together.
            cost: of one child of the next rung, as it is known now; None: as it was.
        """
        if len(self.plan["seconds"]) > rung:
            return
        self.plan["seconds"].append(round(seconds / self.num_workers, 1))
        if cost is not None:
            self.plan["costs"][rung + 1] = cost
        self._write()

    def seconds_after(self, rung: int) -> float:
        """About what the rungs after one will take."""
        total = 0.0
        for later in range(rung + 1, NUM_RUNGS):
            if self.hours:
                total += 3600 * self.hours * SHARES[later]
            else:
                total += self._cost_of(self.asked[later], later)
        return total

    def describe(self) -> str:
        """The plan in a few words, before the first child."""
        number = self.choose(0)
        total = self._cost_of(number, 0) + self.seconds_after(0)
        return (
            f"a child takes about {_describe_costs(self.plan['costs'])}; {number} classifiers, "
            f"then detectors: about {total / 3600:.2g} hours on {self.num_workers} worker(s)"
        )

    def _write(self) -> None:
        write_json(self.path, self.plan)


def _describe_costs(costs: Sequence[float]) -> str:
    crop, short, long = costs
    return f"{crop:.2g} s as a classifier of crops, {short:.2g} s and {long:.2g} s as a detector"


def _read(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        lists = [plan[key] for key in ("costs", "numbers", "seconds")]
        if isinstance(plan["hours"], float) and all(isinstance(part, list) for part in lists):
            return dict(plan)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise FileError(f"{path} can't be read as the plan of a search; remove it to plan anew")
