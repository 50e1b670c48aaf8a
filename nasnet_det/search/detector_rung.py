"""A rung of detectors: candidates are trained for some iterations, and each result is kept.

They are trials of a study of their own, ``<SEARCH.STUDY.NAME>.rung_<k>``, in the storage of the
search, written as children are; so a kill loses nothing, and none is trained twice. A detector that
was killed goes on from its last checkpoint. What a candidate reaches depends on it, on the task and
on the search's seed alone.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

from nasnet_det.runs.candidates import Candidate, DetectorTask, Latency, Speeds, Trained
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.assemble import open_storage_of
from nasnet_det.search.devices import check_device
from nasnet_det.search.executors import build_executor
from nasnet_det.search.job import ChildResult, Comparison
from nasnet_det.search.journal import Journal
from nasnet_det.search.progress import Progress, Speed
from nasnet_det.search.streams import Stream

logger = logging.getLogger(__name__)


class DetectorStage(Protocol):
    """What builds, trains and measures detectors; it is sent to other processes."""

    def train(
        self,
        candidate: Candidate,
        task: DetectorTask,
        *,
        iterations: int,
        seed: int,
        folder: Path,
        device: str,
    ) -> float:
        """Train, or go on in a folder that was begun; the AP on held-out pictures, 0 to 1."""

    def measure_size(self, candidate: Candidate, task: DetectorTask) -> tuple[int, int]:
        """Parameters, and multiply-adds for a picture."""

    def measure_speeds(self, candidate: Candidate, task: DetectorTask, device: str) -> Speeds:
        """From a few iterations and pictures."""

    def measure_latencies(
        self, items: Sequence[tuple[Candidate, str]], task: DetectorTask, device: str
    ) -> list[Latency]:
        """Of fused detectors, each with the folder of its training, or "" without weights."""

    def write_config(self, candidate: Candidate, task: DetectorTask, path: Path) -> None:
        """A config with which ``nasnet-det train`` trains it; NASNets have cells beside it."""


@dataclass(frozen=True)
class CandidateJob:
    """What a worker is asked to train; see :class:`~nasnet_det.search.job.ChildJob`."""

    number: int
    candidate: Candidate
    seed: int
    time_limit_s: float = 0.0
    comparison: Comparison | None = None


@dataclass(frozen=True)
class CandidateTrainer:
    """Trains candidates; what fails on a device that works is the candidate's failure.

    Attributes:
        stage, task: what trains them, and for what.
        iterations: of each.
        folder: gets a folder for each.
    """

    stage: DetectorStage
    task: DetectorTask
    iterations: int
    folder: Path

    def __call__(self, job: CandidateJob, device: str) -> ChildResult:
        """Train one.

        Raises:
            DeviceError: the device computes no more.
        """
        started, reward, failure = time.monotonic(), None, ""
        try:
            reward = self.stage.train(
                job.candidate,
                self.task,
                iterations=self.iterations,
                seed=job.seed,
                folder=self.folder / job.candidate.name,
                device=device,
            )
        except Exception as error:  # whatever it is, the search goes on
            text = " ".join(str(error).split())
            failure = f"{type(error).__name__}: {text:.500}"
            check_device(device)
        return ChildResult(job.number, reward, failure, time.monotonic() - started)


class DetectorRung:
    """One rung of detectors; see the module.

    Args:
        number: 2 or 3.
        cfg: of the search.
        journal: the rung's study.
        trainer: trains its candidates.
        on_progress: called whenever one ends.
        seconds_after: what the rungs after it will cost.
        measure_size: parameters and multiply-adds of a candidate.
    """

    def __init__(
        self,
        number: int,
        cfg: CfgNode,
        journal: Journal,
        trainer: CandidateTrainer,
        *,
        on_progress: Callable[[Progress], None],
        seconds_after: float,
        measure_size: Callable[[Candidate], tuple[int, int]],
    ) -> None:
        self.number, self.cfg, self.journal, self.trainer = number, cfg, journal, trainer
        self.on_progress, self.seconds_after = on_progress, seconds_after
        self.measure_size = measure_size
        self._speed = Speed()

    def run(self, candidates: Sequence[Candidate]) -> list[Trained]:
        """Train those that were not trained before; the results in the order given."""
        known = {t.user_attrs["name"]: n for n, t in self.journal.trials.items()}
        numbers = [known[c.name] if c.name in known else self._enter(c) for c in candidates]
        trials = [self.journal.trials[number] for number in numbers]
        jobs = [
            CandidateJob(t.number, c, t.user_attrs["seed"], self.cfg.SEARCH.CHILD.TIME_LIMIT_S)
            for t, c in zip(trials, candidates, strict=True)
            if not t.state.is_finished()
        ]
        self._report(trials)
        if jobs:
            self._train(jobs, trials)
        return [_read(trial, c) for trial, c in zip(trials, candidates, strict=True)]

    def _enter(self, candidate: Candidate) -> int:
        number, name = len(self.journal.trials), candidate.name
        purpose = (Stream.DETECTOR, self.number, zlib.crc32(name.encode()))
        params, macs = self.measure_size(candidate)
        attributes = {
            "name": name,
            "candidate": candidate.to_dict(),
            "seed": derive_seed(self.cfg.SEARCH.SEED, *purpose) % 2**31,
            "params": params,
            "macs": macs,
        }
        self.journal.ask(number, {}, {}, attributes=attributes, system_attributes={})
        return number

    def _train(self, jobs: Sequence[CandidateJob], trials: Sequence[FrozenTrial]) -> None:
        executor = build_executor(self.cfg, self.trainer)  # type: ignore[arg-type]
        try:
            for result in executor.run(jobs):  # type: ignore[arg-type]
                attributes: dict[str, Any] = {"seconds": result.seconds}
                if result.reward is None:
                    attributes["failure"] = result.failure
                    name = self.journal.trials[result.number].user_attrs["name"]
                    logger.warning("candidate %s failed: %s", name, result.failure)
                values = None if result.reward is None else [result.reward]
                self.journal.tell(result.number, values, attributes)
                self._speed.count()
                self._report(trials)
        finally:
            executor.close()

    def _report(self, trials: Sequence[FrozenTrial]) -> None:
        rewards = [t.values[0] for t in trials if t.state is TrialState.COMPLETE]
        num_failed = sum(t.state is TrialState.FAIL for t in trials)
        num_left = len(trials) - len(rewards) - num_failed
        self.on_progress(
            Progress(
                total=len(trials),
                done=len(rewards),
                failed=num_failed,
                running=num_left,
                best=max(rewards, default=None),
                seconds_left=self._speed.seconds_for(num_left),
                what=f"detectors of {self.trainer.iterations} iterations (rung {self.number} of 3)",
                seconds_after=self.seconds_after,
            )
        )


def _read(trial: FrozenTrial, candidate: Candidate) -> Trained:
    attributes = trial.user_attrs
    values: dict[str, float] = {key: attributes[key] for key in ("macs", "params")}
    if trial.values:
        values["ap"] = trial.values[0]
    seconds = attributes.get("seconds", 0.0)
    return Trained(candidate, values, seconds, failure=attributes.get("failure", ""))


@contextmanager
def open_rung_journal(cfg: CfgNode, number: int, identity: Mapping[str, Any]) -> Iterator[Journal]:
    """The study of a rung.

    Raises:
        StudyError: it is another one.
    """
    journal = Journal(
        open_storage_of(cfg),
        f"{cfg.SEARCH.STUDY.NAME}.rung_{number}",
        directions=[optuna.study.StudyDirection.MAXIMIZE],
        identity=identity,
        defaults={},
        resume=True,
    )
    try:
        yield journal
    finally:
        journal.close()
