"""The devices of this machine that children are trained on."""

from __future__ import annotations

import os

import torch

from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest

MAX_FAILED_STARTS = 10
"""Workers that may end, one after another, before they have started (ours)."""

GRACE_S = 10.0
"""Seconds after its time limit in which a child may still answer (ours)."""


class ExecutorError(InputError):
    """An executor that can't be had, or whose workers can't be started."""


class DeviceError(InputError):
    """A device that computes no more; no child's failure."""


def check_device(device: str) -> None:
    """See that a device computes.

    Raises:
        DeviceError: it doesn't; the message says why.
    """
    try:
        is_right = (torch.ones(2, device=device) + 1).tolist() == [2, 2]
    except Exception as error:  # whatever it is: nothing is wrong with the sum
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DeviceError(f"{device} computes no more ({reason:.200})") from error
    if not is_right:
        raise DeviceError(f"{device} computes wrongly: 1 + 1 is not 2 there")


def find_devices(device: str, num_workers: int) -> list[str]:
    """The device of each worker.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:<i>``, or ``auto``: GPUs where there are any.
        num_workers: 0 for one for each GPU or for each core that this process may use.

    Raises:
        ExecutorError: there is no such device.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"cuda:{i}" for i in range(num_gpus)]
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda", *gpus):
        have = nearest(device, ["auto", "cpu", *(["cuda"] if gpus else []), *gpus])
        raise ExecutorError(f"SEARCH.EXECUTOR.DEVICE: unknown device {device!r}, {have}")
    if device == "cuda" and not gpus:
        raise ExecutorError(
            "SEARCH.EXECUTOR.DEVICE: wanted a CUDA GPU, but torch finds none on this machine"
        )
    if num_workers < 0:
        raise ExecutorError(f"SEARCH.EXECUTOR.NUM_WORKERS: wanted 0 or more, got {num_workers}")
    found = gpus if device == "cuda" else [device]
    if not num_workers:
        num_workers = count_cores() if device == "cpu" else len(found)
    return [found[i % len(found)] for i in range(num_workers)]


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
