"""What the processes of a training tell each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from nasnet_det.errors import InputError
from nasnet_det.runs.signals import StoppedBySignal

logger = logging.getLogger(__name__)


class LostProcessError(InputError):
    """Another process of the training has ended; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this training has ended; --resume goes on from the last checkpoint"
        )


class StoppedProcessError(Exception):
    """Tells who started a process that a signal stopped it: torch drops a KeyboardInterrupt.

    Args:
        stop: what is raised there.
    """

    def __init__(self, stop: StoppedBySignal) -> None:
        super().__init__(f"{stop.number}: {stop.what_now}")


def is_lost_connection(error: BaseException) -> bool:
    """Whether a collective failed since the other side is gone; gloo has no class for it."""
    is_one = isinstance(error, torch.distributed.DistError) or "onnection" in str(error)
    return isinstance(error, RuntimeError) and comm.get_world_size() > 1 and is_one


def log_failure(error: Exception) -> None:
    """Log what is the user's to solve in one line, anything else with its traceback."""
    if is_lost_connection(error):
        error = LostProcessError()
    if isinstance(error, InputError):
        logger.error("Training stopped: %s", error)
    else:
        logger.error("Exception during training:", exc_info=error)


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


@contextmanager
def raise_sentences() -> Iterator[None]:
    """Raise what ended a process that was started for a GPU: a user's mistake, or a signal.

    torch hands its traceback on as a text, whose last line names the error.
    """
    try:
        yield
    except ProcessRaisedException as error:
        name, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
        if name.endswith(f".{StoppedProcessError.__name__}"):
            number, _, what_now = sentence.partition(": ")
            raise StoppedBySignal(int(number), what_now) from None
        kinds: list[type[InputError]] = [InputError]
        for kind in kinds:
            kinds += kind.__subclasses__()
        if sentence and name in {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}:
            raise InputError(sentence) from None
        raise
    except ProcessExitedException as error:
        how = f"was ended by {error.signal_name}" if error.signal_name else "ended"
        code = "" if error.signal_name else f" with status {error.exit_code}"
        raise InputError(
            f"process {error.error_index} {how}{code}; --resume goes on from the last checkpoint"
        ) from None
