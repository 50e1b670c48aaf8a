"""A search's folder belongs to one search at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasnet_det.files import FileError


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other searches out of it; a kill lets go of it too.

    Raises:
        FileError: another search is running there, or the folder can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "search.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"OUTPUT_DIR {folder} can't be written to ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileError(f"OUTPUT_DIR {folder}: another search is running there") from None
        yield
