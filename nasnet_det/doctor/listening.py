"""What the readers of data and weights say in the log, for findings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listen(name: str, level: int) -> Iterator[list[logging.LogRecord]]:
    """Collect what is said in a log, in place of saying it.

    Args:
        name: of the logger, whose children count too.
        level: the least that counts, whatever the program has set.
    """
    told: list[logging.LogRecord] = []
    handler = logging.Handler(level)
    handler.emit = told.append  # type: ignore[method-assign, assignment]
    log = logging.getLogger(name)
    was = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield told
    finally:
        log.removeHandler(handler)
        log.setLevel(was[0])
        log.propagate = was[1]
