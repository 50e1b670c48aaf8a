"""The processes of one training, as torchrun starts them.

Each has its part of every batch and all of the model. A process that torchrun did not start is
alone: it is the main one of one, and nothing is sent.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nasnet_det.config import ConfigError
from nasnet_det.errors import InputError
from nasnet_det.runs.signals import StoppedBySignal

_store: dist.Store | None = None  # what all processes can read and write


class LostProcessError(InputError):
    """Another process of the training has ended; the message says what to do."""


@contextmanager
def join_processes() -> Iterator[None]:
    """Meet the other processes that torchrun started, over gloo for CPUs and nccl for GPUs.

    Raises:
        LostProcessError: one of them has ended before its time.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    global _store
    _store, rank, world_size = next(dist.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=_store, rank=rank, world_size=world_size)
    try:
        yield
    except StoppedBySignal:
        dist.destroy_process_group()  # all have come here, and its threads may outlive Python
        raise
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise LostProcessError(
            "another process of this training has ended; --resume goes on from the last checkpoint"
        ) from error
    dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective failed since the other side is gone; gloo has no class for it."""
    return isinstance(error, dist.DistError) or "onnection" in str(error)


def get_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def get_world_size() -> int:
    """The number of processes, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes."""
    return get_rank() == 0


def is_first_to_fail() -> bool:
    """Whether no other process has asked this yet, so that one of them tells the user why."""
    if _store is None:
        return int(os.environ.get("RANK", 0)) == 0
    try:
        return _store.add("nasnet_det.failures", 1) == 1
    except dist.DistError:  # it was the main process's, which has failed
        return False


def wait_for_all() -> None:
    """Go on when all processes have come this far."""
    if dist.is_initialized():
        dist.barrier()


def add_up(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes."""
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


def find_largest(number: int) -> int:
    """The largest of a number over all processes; every process has to ask."""
    if not dist.is_initialized():
        return number
    value = torch.tensor(number)  # over gloo, so that no GPU waits
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def average(values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes."""
    return add_up(values) / get_world_size()


@torch.no_grad()
def average_in_place(tensors: Sequence[torch.Tensor]) -> None:
    """Give some tensors of one type the means of all processes, in one message."""
    if not dist.is_initialized() or not tensors:
        return
    mean = average(torch.cat([tensor.flatten() for tensor in tensors]))
    for tensor, value in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(value.view_as(tensor))


def gather(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * get_world_size()
    dist.all_gather_object(values, value)
    return values


def wrap_model(model: nn.Module) -> DistributedDataParallel:
    """A model whose gradients become the means of all processes in the backward pass."""
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: False}  # the name depends on torch's version
    return DistributedDataParallel(model, **options)


def choose_gpu(device: torch.device) -> torch.device:
    """The GPU of this process, where ``device`` is a GPU and there are several processes.

    Raises:
        ConfigError: this machine has fewer GPUs than processes, or a certain one is asked for.
    """
    if device.type == "cpu" or get_world_size() == 1:
        return device
    if device.index is not None:
        raise ConfigError(
            f"MODEL.DEVICE: wanted auto, cuda or cpu for {get_world_size()} processes, got {device}"
        )
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"torchrun started process {number + 1} on this machine, which has "
            f"{torch.cuda.device_count()} GPUs; give --nproc-per-node {torch.cuda.device_count()} "
            "or MODEL.DEVICE cpu"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
