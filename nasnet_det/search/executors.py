"""Who trains the children: this process, worker processes beside it, or a Ray cluster.

An executor takes jobs and gives one result for each, in any order. What it trains with is a
function ``train(job, device)``, as :class:`~nasnet_det.search.child.ChildTrainer` is; worker
processes get it by pickling.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch
from yacs.config import CfgNode

from nasnet_det.genotype import nearest
from nasnet_det.search.devices import MAX_FAILED_STARTS, ExecutorError, find_devices
from nasnet_det.search.job import ChildJob, ChildResult, TrainChild


class Executor(Protocol):
    """Trains children."""

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        """One result for each job, in any order, as they come.

        The next job is taken when a worker is free and all earlier results were received, so a
        generator can make it of them. None says that there is none until the next result.
        """

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """Trains children one after another in this process.

    Args:
        train: trains one child.
        device: where.
    """

    def __init__(self, train: TrainChild, device: str = "cpu") -> None:
        self.train, self.device = train, device

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        """See :class:`Executor`; in order."""
        for job in jobs:
            if job is not None:
                yield self.train(job, self.device)

    def close(self) -> None:
        """Nothing was started."""


@dataclass
class _Worker:
    """A process, and the job that it has."""

    process: Any
    connection: Connection
    device: str
    job: ChildJob | None = None
    started: bool = False


class LocalProcesses:
    """Trains children in processes of this machine, one thread each.

    A worker that dies (killed by the system when memory runs out, say) is replaced, and its job
    given out again; its results so far are nowhere, so a child counts once. Workers end by
    themselves when this process is gone, however it ended.

    Args:
        train: trains one child.
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
        self.workers: list[_Worker] = []
        self._failed_starts = 0

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        """See :class:`Executor`.

        Raises:
            ExecutorError: workers end before they have started, again and again.
        """
        jobs, lost, deaths = iter(jobs), deque[ChildJob](), Counter[int]()
        self._hand_out(jobs, lost)
        while busy := {w.connection: w for w in self.workers if w.job is not None}:
            results = []
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    job, was_started = worker.job, worker.started
                    assert job is not None
                    exit_code = self._replace(worker)
                    deaths[job.number] += was_started
                    if deaths[job.number] <= self.max_retries:
                        lost.append(job)
                    else:
                        results.append(_fail(job, deaths[job.number], exit_code))
                    continue
                if message is None:
                    worker.started, self._failed_starts = True, 0
                else:
                    worker.job = None
                    results.append(message)
            yield from results
            self._hand_out(jobs, lost)

    def close(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self.workers = []

    def _hand_out(self, jobs: Iterator[ChildJob | None], lost: deque[ChildJob]) -> None:
        """Give every free worker a job, lost ones first; workers start when there is one."""
        for place, device in enumerate(self.devices):
            if place < len(self.workers) and self.workers[place].job is not None:
                continue
            job = lost.popleft() if lost else next(jobs, None)
            if job is None:
                return
            if place == len(self.workers):
                self.workers.append(self._start(device))
            worker = self.workers[place]
            while worker.job is None:
                try:
                    worker.connection.send(job)
                    worker.job = job
                except OSError:  # it died idle
                    self._replace(worker)

    def _start(self, device: str) -> _Worker:
        context = multiprocessing.get_context("spawn")  # torch's threads don't survive a fork
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, self.train, device), daemon=True)
        process.start()
        there.close()  # or the end of the worker would not be the end of the connection
        return _Worker(process, here, device)

    def _replace(self, worker: _Worker) -> int:
        """Start a new process in a dead one's place; returns the dead one's exit code."""
        self._failed_starts += not worker.started
        worker.connection.close()
        worker.process.join(1.0)  # it may be just ending by itself, with a code that says more
        worker.process.kill()
        worker.process.join()
        exit_code = worker.process.exitcode
        if self._failed_starts > MAX_FAILED_STARTS:
            raise ExecutorError(
                f"{self._failed_starts} worker processes one after another ended before they had "
                f"started, the last with {_name_exit(exit_code)}"
            )
        new = self._start(worker.device)
        worker.process, worker.connection = new.process, new.connection
        worker.job, worker.started = None, False
        return exit_code


def _fail(job: ChildJob, num_deaths: int, exit_code: int) -> ChildResult:
    failure = f"its worker process died {num_deaths} times, the last with {_name_exit(exit_code)}"
    return ChildResult(job.number, None, failure, 0.0)


def _name_exit(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def work(connection: Connection, train: TrainChild, device: str) -> None:
    """The main function of a worker: say that it has started, then train what comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the search has ended
        connection.send(None)
        while True:
            connection.send(train(connection.recv(), device))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _build_in_process(cfg: CfgNode, train: TrainChild) -> Executor:
    return InProcess(train, find_devices(cfg.SEARCH.EXECUTOR.DEVICE, 1)[0])


def _build_local_processes(cfg: CfgNode, train: TrainChild) -> Executor:
    node = cfg.SEARCH.EXECUTOR
    devices = find_devices(node.DEVICE, node.NUM_WORKERS)
    return LocalProcesses(train, devices, max_retries=node.MAX_RETRIES)


def _build_ray(cfg: CfgNode, train: TrainChild) -> Executor:
    try:
        from nasnet_det.search.ray_executor import build_ray_actors
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ExecutorError(
            "SEARCH.EXECUTOR.NAME: ray wants Ray, which is not installed "
            "(pip install 'nasnet-det[ray]')"
        ) from error
    return build_ray_actors(cfg, train)


EXECUTORS: dict[str, Callable[[CfgNode, TrainChild], Executor]] = {
    "in_process": _build_in_process,
    "local_processes": _build_local_processes,
    "ray": _build_ray,
}


def build_executor(cfg: CfgNode, train: TrainChild) -> Executor:
    """The executor that ``SEARCH.EXECUTOR.NAME`` names.

    Raises:
        ExecutorError: there is none of this name (the nearest is named), or it can't be had.
    """
    name = cfg.SEARCH.EXECUTOR.NAME
    if name not in EXECUTORS:
        raise ExecutorError(
            f"SEARCH.EXECUTOR.NAME: unknown executor {name!r}, {nearest(name, EXECUTORS)}"
        )
    return EXECUTORS[name](cfg, train)
