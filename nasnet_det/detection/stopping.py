"""Ctrl-C and SIGTERM: a training finishes its iteration, saves it, says how to go on, and ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.processes import find_largest
from nasnet_det.runs.signals import SIGNALS, SignalCatcher, StoppedBySignal


class StopOnSignal(HookBase):
    """Save and stop all processes after the iteration in which any of them got a signal.

    A second signal, at least a second later, has its usual effect at once. After the last
    iteration, when only the evaluation is left, the first one has.

    Args:
        checkpointer: writes the file.
        period: of the other checkpoints; one that was just saved is not saved again.
    """

    def __init__(self, checkpointer: Checkpointer, period: int) -> None:
        self._checkpointer, self._period = checkpointer, period
        self._signals = SignalCatcher("iteration")

    def before_train(self) -> None:
        """Catch the signals, where the training has the main thread."""
        self._signals.catch()

    def after_step(self) -> None:
        """Stop if a signal came."""
        finished = self.trainer.iter + 1
        is_last = finished == self.trainer.max_iter
        device = next(self.trainer.model.parameters()).device
        if number := find_largest(self._signals.number, device):
            is_saved = is_last or (self._period > 0 and finished % self._period == 0)
            if not is_saved and comm.is_main_process():
                name = f"model_{self.trainer.iter:07d}"
                self._checkpointer.save(name, iteration=self.trainer.iter)
            comm.synchronize()  # nobody leaves before it is saved
            raise StoppedBySignal(
                number, f"{finished} iterations are saved, and --resume goes on from there"
            )
        if is_last:
            self._signals.restore()

    def after_train(self) -> None:
        """Leave the signals to whoever had them."""
        self._signals.restore()


@contextmanager
def pass_signals_on() -> Iterator[None]:
    """Send each signal on to the processes that this one started, and wait for what they do."""

    def send(number: int, _: FrameType | None) -> None:
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, number)

    handlers: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, send) for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
