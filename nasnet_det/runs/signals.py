"""Ctrl-C and SIGTERM: work that can be saved ends at a good moment, and says how to go on."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_S = 1.0  # a signal that comes again within it is one that two senders sent
GRACE_S = 10  # of a worker, for the rest of a step

logger = logging.getLogger(__name__)


class StoppedBySignal(KeyboardInterrupt):
    """Work ended on a signal.

    Attributes:
        number: of the signal.
        what_now: what is saved and how to go on; "" where nothing is said.
        status: what the process should end with, as shells count: 128 + the signal's number.
    """

    def __init__(self, number: int, what_now: str = "") -> None:
        said = f"; {what_now}" if what_now else ""
        super().__init__(f"stopped by {signal.Signals(number).name}{said}")
        self.number, self.what_now, self.status = number, what_now, 128 + number


class SignalCatcher:
    """Notes the first signal instead of ending the process.

    A second signal, at least a second later, has its usual effect at once.

    Args:
        unit: what is brought to its end first, for the log: "iteration".

    Attributes:
        number: of the signal that came; 0 without any.
    """

    def __init__(self, unit: str) -> None:
        self.number = 0
        self._unit, self._time = unit, 0.0
        self._handlers: dict[int, Any] = {}

    def catch(self) -> None:
        """From now on, where this is the main thread, which alone may."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def restore(self) -> None:
        """Leave the signals to whoever had them."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.number and time.monotonic() - self._time > SAME_S:
            self.restore()
            os.kill(os.getpid(), number)
            return
        if not self.number:
            name = signal.Signals(number).name
            logger.warning("%s: stopping after this %s; again to stop at once", name, self._unit)
            self.number, self._time = number, time.monotonic()


@contextmanager
def stop_on_sigterm(what_now: str = "") -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, where this is the main thread.

    Locks and processes are then put away.

    Args:
        what_now: see :class:`StoppedBySignal`, which it raises.
    """

    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise StoppedBySignal(number, what_now)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def leave_signals(_: int) -> None:
    """In a worker of a DataLoader: leave them to the training, which still wants its pictures.

    Cluster managers send SIGTERM to workers too. Whoever sends it to a worker alone, as Python does
    when a training fails, has to wait a little.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
