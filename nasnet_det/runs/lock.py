"""A run's folder belongs to one run at a time."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasnet_det.runs.files import FileError

logger = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: Path, *, run: str = "search", wait: bool = False) -> Iterator[int]:
    """Make the folder, and keep other runs out of it; a kill lets go of it too.

    Args:
        folder: where the run writes.
        run: what it is called.
        wait: wait for another one that is running there.

    Yields:
        the lock's file descriptor. A command that inherits it holds the lock too, until it ends,
        also where this process is killed before.

    Raises:
        FileError: another one is running there, or the folder can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{run}.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"OUTPUT_DIR {folder} can't be written to ({error.strerror})") from error
    os.register_at_fork(after_in_child=file.close)  # data workers outlive a kill by seconds
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not wait:
                raise FileError(f"OUTPUT_DIR {folder}: another {run} is running there") from None
            logger.warning("Waiting for the end of what an earlier %s runs in %s", run, folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
