"""Children in processes of this machine, and what becomes of a child whose process is lost."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from nasnet_det.errors import InputError
from nasnet_det.search.child import ChildTrainer
from nasnet_det.search.devices import GRACE_S, MAX_FAILED_STARTS, ExecutorError
from nasnet_det.search.job import ChildJob, ChildResult, TrainChild
from nasnet_det.search.losses import Losses

logger = logging.getLogger(__name__)

MAX_TROUBLES = 3
"""Starts that fail, or children that are lost, one after another before a worker is given up."""


@dataclass
class _Worker:
    """A process, and the job that it has."""

    process: Any
    connection: Connection
    device: str
    job: ChildJob | None = None
    started: bool = False
    began: float = 0.0  # time.monotonic() when it began with the job
    failed_starts: int = 0  # since the last that did not fail, those that said why
    lost: set[int] = field(default_factory=set)  # children since its last result
    given_up: bool = False

    def seconds_left(self) -> float:
        """Before its job counts as hung."""
        if not (self.job and self.job.time_limit_s and self.started):
            return math.inf
        return self.began + self.job.time_limit_s + GRACE_S - time.monotonic()


class LocalProcesses:
    """Trains children in processes of this machine, one thread each.

    A worker that dies (killed by the system when memory runs out, say), or says that it can't go on
    (as its device computes no more), is replaced, and its job given out again, see
    :mod:`~nasnet_det.search.losses`; its results so far are nowhere, so a child counts once. One
    that is lost again and again where others are not is given up. One whose child is not back
    10 seconds after its time limit is killed, and that child has failed. Workers end by themselves
    when this process is gone, however it ended.

    Args:
        train: trains one child; what it raises is no child's failure, but its worker's.
        devices: one worker for each entry.
        max_retries: how often a job is given out again before it has failed.
    """

    def __init__(
        self, train: TrainChild, devices: Sequence[str] = ("cpu",), *, max_retries: int = 3
    ) -> None:
        if not devices or max_retries < 0:
            raise ExecutorError(
                f"wanted at least one worker and 0 or more retries, got {len(devices)} and "
                f"{max_retries}"
            )
        self.train, self.devices, self.max_retries = train, tuple(devices), max_retries
        self.num_workers = len(self.devices)
        self.workers: list[_Worker] = []
        self._failed_starts = 0

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        """See :class:`Executor`.

        Raises:
            ExecutorError: workers end before they have started, again and again, or children are
                lost one after another.
        """
        jobs, losses = iter(jobs), Losses(self.max_retries, self.num_workers)
        self._hand_out(jobs, losses)
        while busy := {w.connection: w for w in self.workers if w.job is not None}:
            results, lost = list[ChildResult](), list[tuple[_Worker, str]]()
            seconds = min(worker.seconds_left() for worker in busy.values())
            timeout = None if seconds == math.inf else max(0.0, seconds)
            for connection in wait(list(busy), timeout):
                worker = busy[connection]  # type: ignore[index]
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    lost.append((worker, ""))
                    continue
                if message is None:
                    worker.started, worker.began = True, time.monotonic()
                    worker.failed_starts = self._failed_starts = 0
                elif isinstance(message, str):
                    lost.append((worker, message))
                else:
                    worker.job = None
                    worker.lost.clear()
                    losses.note_result()
                    results.append(message)
            for worker in busy.values():
                if worker.seconds_left() <= 0 and worker not in [one for one, _ in lost]:
                    results.append(self._end_hung(worker))
            yield from results
            for worker, reason in lost:
                failed = self._lose(worker, reason, losses)
                if failed:
                    yield failed
            self._hand_out(jobs, losses)

    def close(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self.workers = []

    def _hand_out(self, jobs: Iterator[ChildJob | None], losses: Losses) -> None:
        """Give every free worker a job; workers start when there is one."""
        is_any_left = True
        for place, device in enumerate(self.devices):
            if place < len(self.workers) and (
                self.workers[place].job is not None or self.workers[place].given_up
            ):
                continue
            job = losses.take_new_to(device)
            if job is None and is_any_left:
                job = next(jobs, None)
                is_any_left = job is not None
            job = job or losses.take_any(self._list_devices())
            if job is None:
                continue
            while len(self.workers) <= place:
                self.workers.append(self._start(self.devices[len(self.workers)]))
            worker = self.workers[place]
            while worker.job is None:
                try:
                    worker.connection.send(job)
                    worker.job, worker.began = job, time.monotonic()
                except OSError:  # it died idle
                    self._replace(worker)

    def _list_devices(self) -> set[str]:
        """Of the workers that are not given up."""
        given_up = {place for place, worker in enumerate(self.workers) if worker.given_up}
        return {device for place, device in enumerate(self.devices) if place not in given_up}

    def _lose(self, worker: _Worker, reason: str, losses: Losses) -> ChildResult | None:
        """Replace a worker that can't go on; the failure of its child if that is to blame."""
        job, was_started = worker.job, worker.started
        assert job is not None
        if reason and not was_started:
            worker.failed_starts += 1
        if was_started:
            worker.lost.add(job.number)
        else:
            losses.put_back(job)
        num_others = self.num_workers - 1 - sum(w.given_up for w in self.workers)
        if worker.failed_starts >= MAX_TROUBLES or (
            num_others and len(worker.lost) >= MAX_TROUBLES
        ):
            if not num_others:
                raise ExecutorError(
                    f"no worker can be started on {', '.join(sorted(set(self.devices)))}: {reason}"
                )
            reason = reason or "its process died"
            logger.warning("a worker on %s is given up: %s", worker.device, reason)
            worker.given_up, worker.job = True, None
            worker.process.kill()
        else:
            exit_code = self._replace(worker)
            reason = reason or f"its process ended with {_name_exit(exit_code)}"
        return losses.add(job, worker.device, reason) if was_started else None

    def _end_hung(self, worker: _Worker) -> ChildResult:
        assert worker.job is not None
        job, seconds = worker.job, time.monotonic() - worker.began
        self._replace(worker)
        failure = f"out of time: it hung, {seconds:.0f} s with a limit of {job.time_limit_s:g} s"
        return ChildResult(job.number, None, failure, seconds)

    def _start(self, device: str) -> _Worker:
        process, connection = self._start_process(device)
        return _Worker(process, connection, device)

    def _start_process(self, device: str) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")  # torch's threads don't survive a fork
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, self.train, device), daemon=True)
        process.start()
        there.close()  # or the end of the worker would not be the end of the connection
        return process, here

    def _replace(self, worker: _Worker) -> int:
        """Start a new process in another's place; returns the other's exit code."""
        self._failed_starts += not worker.started
        worker.connection.close()
        if not worker.seconds_left() <= 0:
            worker.process.join(1.0)  # it may be just ending by itself, with a code that says more
        worker.process.kill()
        worker.process.join()
        exit_code = worker.process.exitcode
        if self._failed_starts > MAX_FAILED_STARTS:
            raise ExecutorError(
                f"{self._failed_starts} worker processes one after another ended before they had "
                f"started, the last with {_name_exit(exit_code)}"
            )
        worker.process, worker.connection = self._start_process(worker.device)
        worker.job, worker.started = None, False
        return exit_code


def _name_exit(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def work(connection: Connection, train: TrainChild, device: str) -> None:
    """The main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the search has ended
        serve(connection, train, device)


def serve(connection: Connection, train: TrainChild, device: str) -> None:
    """Say that the worker has started, then train what comes, until something can't go on.

    What is raised is no child's failure: the search is told the reason, and the worker ends.
    """
    try:
        if isinstance(train, ChildTrainer):
            train.start(device)
        connection.send(None)
        while True:
            job = connection.recv()
            connection.send(train(job, device))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        connection.send(text if isinstance(error, InputError) else f"{error!r:.500}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
