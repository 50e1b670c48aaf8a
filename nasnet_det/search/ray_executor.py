"""Children on a Ray cluster: one actor for each worker, wherever the cluster has room.

The images are put into Ray's object store once, so no machine of the cluster needs the files; each
worker takes them when it starts. A worker that is lost (killed, its machine gone, or its device
computes no more) is replaced, and its child given out again, see :mod:`~nasnet_det.search.losses`;
what it might still answer is not listened to, so a child counts once.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from yacs.config import CfgNode

# Ray reads these when it is imported. It would print what its own processes say to our stdout.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a new default

import ray
from ray.exceptions import RayError, RayTaskError

from nasnet_det.search.child import ChildTrainer
from nasnet_det.search.devices import (
    GRACE_S,
    MAX_FAILED_STARTS,
    DeviceError,
    ExecutorError,
    check_device,
    count_cores,
)
from nasnet_det.search.job import ChildJob, ChildResult, TrainChild
from nasnet_det.search.losses import Losses

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
WAIT_WARNING_S = 60.0
"""How long Ray may leave us without any worker before a warning says so (ours)."""


class _Trainer:
    """What runs in a worker."""

    def __init__(self, train: TrainChild, device: str) -> None:
        torch.set_num_threads(1)
        self.train, self.device = train, device

    def get_place(self) -> str:
        if isinstance(self.train, ChildTrainer):
            check_device(self.device)
        return f"process {os.getpid()} on {socket.gethostname()}"

    def run(self, job: ChildJob) -> ChildResult:
        return self.train(job, self.device)


@dataclass
class _Worker:
    """An actor; what it was asked last, the place where it is or a job; and that job."""

    actor: Any
    asked: Any
    place: str = ""  # none until it has started
    job: ChildJob | None = None
    began: float = 0.0  # time.monotonic() when it was given the job

    @property
    def machine(self) -> str:
        """The end of its place."""
        return self.place.rpartition(" ")[2]

    def seconds_left(self) -> float:
        """Before its job counts as hung."""
        if not (self.job and self.job.time_limit_s):
            return math.inf
        return self.began + self.job.time_limit_s + GRACE_S - time.monotonic()


class RayActors:
    """Trains children in actors of a Ray cluster, one thread each.

    Where this process is connected to a cluster already, that one is used, and left alone at the
    end.

    Args:
        train: trains one child.
        num_workers: actors; 0: as many as the cluster has room for.
        address: of a cluster (``host:port``, or ``auto`` for the one on this machine); empty: one
            is started here, and ended by :meth:`close`.
        cpus_per_child: what an actor reserves; its child is trained by one thread all the same.
        gpus_per_child: the same, 0 to 1; children are trained on a GPU if it is not 0.
        max_retries: how often a job is given out again before it has failed.

    Raises:
        ExecutorError: there is no such cluster, or it has no room for a child.
    """

    def __init__(
        self,
        train: TrainChild,
        num_workers: int = 0,
        *,
        address: str = "",
        cpus_per_child: float = 1.0,
        gpus_per_child: float = 0.0,
        max_retries: int = 3,
    ) -> None:
        if num_workers < 0 or max_retries < 0:
            raise ExecutorError(
                f"SEARCH.EXECUTOR: wanted 0 or more workers and retries, got {num_workers} and "
                f"{max_retries}"
            )
        if cpus_per_child <= 0 or not 0 <= gpus_per_child <= 1:
            raise ExecutorError(
                "SEARCH.EXECUTOR.RAY: wanted more than 0 CPUs and 0 to 1 GPUs for a child, got "
                f"{cpus_per_child:g} and {gpus_per_child:g}"
            )
        self.max_retries = max_retries
        self.resources = {"CPU": cpus_per_child, "GPU": gpus_per_child}
        self.device = "cuda" if gpus_per_child else "cpu"
        self.workers: list[_Worker] = []
        self._failed_starts = 0
        self._is_connection_ours = not ray.is_initialized()
        if self._is_connection_ours:
            _connect(address, math.ceil(num_workers * cpus_per_child) or count_cores())
        try:
            # A cluster with an address may grow into what is asked for.
            room = 0 if num_workers and address else self._count_room()
            self.num_workers = num_workers or room
            self._train = ray.put(train)
        except BaseException:
            self.close()
            raise
        self._actor_class: Any = ray.remote(_Trainer).options(
            num_cpus=cpus_per_child, num_gpus=gpus_per_child
        )

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        """See :class:`~nasnet_det.search.executors.Executor`.

        Raises:
            ExecutorError: workers are lost before they have started, again and again.
        """
        jobs, losses = iter(jobs), Losses(self.max_retries, self.num_workers)
        for worker in self.workers:
            worker.asked = worker.actor.get_place.remote()  # or the next job finds that it is lost
        while len(self.workers) < self.num_workers:
            self.workers.append(self._start())
        while True:
            self._hand_out(jobs, losses)
            is_any_free = any(worker.asked is None for worker in self.workers)
            if is_any_free and not any(worker.job for worker in self.workers):
                return
            answered = self._wait()
            if answered is None:  # the first whose child hangs
                worker = min(self.workers, key=_Worker.seconds_left)
                job = worker.job
                assert job is not None
                self._replace(worker, "its child hung")
                failure = f"out of time: it hung, with a limit of {job.time_limit_s:g} s"
                yield ChildResult(job.number, None, failure, job.time_limit_s + GRACE_S)
                continue
            worker = answered
            asked, worker.asked = worker.asked, None
            job, worker.job = worker.job, None
            try:
                answer = ray.get(asked)
            except RayError as error:
                if isinstance(error, RayTaskError) and not isinstance(error.cause, DeviceError):
                    raise error.cause from None  # such as images that can't be read
                reason = _last_line(error.cause if isinstance(error, RayTaskError) else error)
                self._replace(worker, reason)
                failed = losses.add(job, worker.machine, reason) if job else None
                if failed:
                    yield failed
                continue
            if job is None:
                worker.place, self._failed_starts = answer, 0
            else:
                losses.note_result()
                yield answer

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        if self._is_connection_ours:
            ray.shutdown()
        else:
            for worker in self.workers:
                ray.kill(worker.actor)
        self.workers = []

    def _count_room(self) -> int:
        have = ray.cluster_resources()
        wanted = {kind: amount for kind, amount in self.resources.items() if amount}
        room = min(int(have.get(kind, 0) / amount) for kind, amount in wanted.items())
        if not room:
            raise ExecutorError(
                f"SEARCH.EXECUTOR.RAY: wanted {self.resources['CPU']:g} CPUs and "
                f"{self.resources['GPU']:g} GPUs for a child, the cluster has "
                f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}"
            )
        return room

    def _start(self) -> _Worker:
        actor = self._actor_class.remote(self._train, self.device)
        return _Worker(actor, actor.get_place.remote())

    def _replace(self, worker: _Worker, reason: str) -> None:
        """Put a new actor in a lost one's place."""
        self._failed_starts += not worker.place
        if self._failed_starts > MAX_FAILED_STARTS:
            raise ExecutorError(
                f"{self._failed_starts} Ray workers one after another were lost before they had "
                f"started, the last: {reason}"
            )
        logger.warning("Ray worker lost (%s): %s", worker.place or "not yet started", reason)
        ray.kill(worker.actor)  # it may be out of reach for the moment only
        self.workers[self.workers.index(worker)] = self._start()

    def _hand_out(self, jobs: Iterator[ChildJob | None], losses: Losses) -> None:
        """Give every free worker a job."""
        is_any_left = True
        for worker in self.workers:
            if worker.asked is not None:
                continue
            job = losses.take_new_to(worker.machine)
            if job is None and is_any_left:
                job = next(jobs, None)
                is_any_left = job is not None
            worker.job = job or losses.take_any({w.machine for w in self.workers if w.place})
            if worker.job is not None:
                worker.asked, worker.began = worker.actor.run.remote(worker.job), time.monotonic()

    def _wait(self) -> _Worker | None:
        """The next worker that has an answer, or is lost; None: a child hangs."""
        asked = {worker.asked: worker for worker in self.workers if worker.asked is not None}
        while True:
            is_any_started = any(worker.place for worker in self.workers)
            left = min(worker.seconds_left() for worker in self.workers)
            timeout = max(0.0, left) if left < math.inf else None
            answers, _ = ray.wait(
                list(asked), timeout=timeout if is_any_started else WAIT_WARNING_S
            )
            if answers:
                return asked[answers[0]]
            if is_any_started:
                return None
            logger.warning("Ray has no worker for us yet: wanted are %s for each", self.resources)


def _connect(address: str, num_cpus: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **quiet)
        return
    host, _, port = address.rpartition(":")
    try:
        if host and "://" not in address:  # Ray would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise ExecutorError(
            f"SEARCH.EXECUTOR.RAY.ADDRESS: no Ray cluster can be used at {address!r} "
            f"({_last_line(error)})"
        ) from error


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[-1].strip():.200}"


def build_ray_actors(cfg: CfgNode, train: TrainChild) -> RayActors:
    """The executor of a config; children take along the images that were loaded here.

    Raises:
        ExecutorError: it can't be had.
    """
    node = cfg.SEARCH.EXECUTOR
    device = "cuda" if node.RAY.GPUS_PER_CHILD else "cpu"
    if node.DEVICE not in ("auto", device):
        raise ExecutorError(
            f"SEARCH.EXECUTOR.DEVICE: with SEARCH.EXECUTOR.RAY.GPUS_PER_CHILD "
            f"{node.RAY.GPUS_PER_CHILD:g} wanted auto or {device}, got {node.DEVICE!r}"
        )
    if isinstance(train, ChildTrainer):
        train.load()
        train = replace(train, carries_images=True)
    return RayActors(
        train,
        node.NUM_WORKERS,
        address=node.RAY.ADDRESS,
        cpus_per_child=node.RAY.CPUS_PER_CHILD,
        gpus_per_child=node.RAY.GPUS_PER_CHILD,
        max_retries=node.MAX_RETRIES,
    )
