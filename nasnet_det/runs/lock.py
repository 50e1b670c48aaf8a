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
def lock_folder(
    folder: Path, holder: str, *, name: str = "run", wait: bool = False
) -> Iterator[int]:
    """Make the folder, and keep other runs out of it; a kill lets go of it too.

    Args:
        folder: where the run writes.
        holder: what it is, such as ``search``: what a second one is told.
        name: of the lock's file. Runs that write the same files need the same.
        wait: wait for another one that is running there.

    Yields:
        the lock's file descriptor. A command that inherits it holds the lock too, until it ends,
        also where this process is killed before.

    Raises:
        FileError: another one is running there, or the folder can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{name}.lock", "a+")  # noqa: SIM115
    except (FileExistsError, NotADirectoryError):
        raise FileError(f"OUTPUT_DIR: wanted a folder, got {folder}") from None
    except OSError as error:
        raise FileError(f"OUTPUT_DIR {folder} can't be written to ({error.strerror})") from error
    os.register_at_fork(after_in_child=file.close)  # data workers outlive a kill by seconds
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read().strip() or "another run"
            if not wait:
                raise FileError(
                    f"OUTPUT_DIR {folder} is in use ({other}); wait for its end, or give another "
                    "OUTPUT_DIR"
                ) from None
            logger.warning("Waiting for the end of what runs in %s (%s)", folder, other)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network drives have no locks
            logger.warning("%s can't be locked against other runs (%s)", folder, error.strerror)
        try:
            file.truncate(0)
            file.write(f"{holder}, process {os.getpid()}\n")
            file.flush()
        except OSError:  # the disk is full: it holds nevertheless
            pass
        yield file.fileno()
