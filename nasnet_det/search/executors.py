"""Who trains the children: this process, worker processes beside it, or a Ray cluster.

An executor takes jobs and gives one result for each, in any order. What it trains with is a
function ``train(job, device)``, as :class:`~nasnet_det.search.child.ChildTrainer` is; worker
processes get it by pickling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from yacs.config import CfgNode

from nasnet_det.near_names import nearest
from nasnet_det.search.devices import ExecutorError, find_devices
from nasnet_det.search.job import ChildJob, ChildResult, TrainChild
from nasnet_det.search.local_processes import LocalProcesses


class Executor(Protocol):
    """Trains children.

    Attributes:
        num_workers: children that it trains at the same time.
    """

    num_workers: int

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

    num_workers = 1

    def __init__(self, train: TrainChild, device: str = "cpu") -> None:
        self.train, self.device = train, device

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        """See :class:`Executor`; in order. A child that hangs is not ended.

        Raises:
            DeviceError: the device computes no more.
        """
        for job in jobs:
            if job is not None:
                yield self.train(job, self.device)

    def close(self) -> None:
        """Nothing was started."""


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
