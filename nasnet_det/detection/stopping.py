"""Ctrl-C and SIGTERM: a training finishes its iteration, saves it, says how to go on, and ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.processes import find_largest

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_S = 1.0  # a signal that comes again within it is one that two senders sent

logger = logging.getLogger(__name__)


class TrainingStopped(KeyboardInterrupt):
    """A training ended on a signal, and is saved.

    Attributes:
        status: what the process should end with, as shells count: 128 + the signal's number.
    """

    def __init__(self, number: int, what_now: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {what_now}")
        self.status = 128 + number


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
        self._number, self._time = 0, 0.0
        self._handlers: dict[int, Any] = {}

    def before_train(self) -> None:
        """Catch the signals, where the training has the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self._number and time.monotonic() - self._time > SAME_S:
            self._restore()
            os.kill(os.getpid(), number)
            return
        if not self._number:
            name = signal.Signals(number).name
            logger.warning("%s: stopping after this iteration; again to stop at once", name)
            self._number, self._time = number, time.monotonic()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def after_step(self) -> None:
        """Stop if a signal came."""
        finished = self.trainer.iter + 1
        is_last = finished == self.trainer.max_iter
        device = next(self.trainer.model.parameters()).device
        if number := find_largest(self._number, device):
            is_saved = is_last or (self._period > 0 and finished % self._period == 0)
            if not is_saved and comm.is_main_process():
                name = f"model_{self.trainer.iter:07d}"
                self._checkpointer.save(name, iteration=self.trainer.iter)
            comm.synchronize()  # nobody leaves before it is saved
            raise TrainingStopped(
                number, f"{finished} iterations are saved, and --resume goes on from there"
            )
        if is_last:
            self._restore()

    def after_train(self) -> None:
        """Leave the signals to whoever had them."""
        self._restore()


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
