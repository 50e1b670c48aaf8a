"""What the processes of a training tell each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.utils import comm

from nasnet_det.errors import InputError


class LostProcessError(InputError):
    """Another process of the training has ended; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this training has ended; --resume goes on from the last checkpoint"
        )


def is_lost_connection(error: BaseException) -> bool:
    """Whether a collective failed since the other side is gone; gloo has no class for it."""
    is_one = isinstance(error, torch.distributed.DistError) or "onnection" in str(error)
    return isinstance(error, RuntimeError) and comm.get_world_size() > 1 and is_one


def find_largest(number: int, device: torch.device) -> int:
    """The largest of a number over all processes; every process has to ask.

    Args:
        number: of this process.
        device: where the processes can send from: the model's.
    """
    if comm.get_world_size() == 1:
        return number
    value = torch.tensor(number, device=device)
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return int(value)


@torch.no_grad()
def average_in_place(tensors: Sequence[torch.Tensor]) -> None:
    """Give some tensors of one type the means of all processes, in one message."""
    if comm.get_world_size() == 1 or not tensors:
        return
    values = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(values)
    means = (values / comm.get_world_size()).split([tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))
