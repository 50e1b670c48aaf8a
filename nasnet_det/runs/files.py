"""Files and folders that are whole or absent, whenever the process is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from nasnet_det.errors import InputError

PARTIAL = ".nasnet_det.partial"
"""What the name of a file ends with while it is written, and no other program's does."""
MAX_STEM = 150  # bytes: with a number and a suffix a name stays below the 255 of file systems


class FileError(InputError):
    """A file that can't be read or written; the message names it and says why."""


def write_whole_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that its name never stands for half of it, whenever the process is killed.

    Args:
        path: replaced at the end, in one step.
        write: gets the open file.

    Raises:
        FileError: the disk is full or can't be written to; ``path`` is as it was.
    """
    partial = f"{path}{PARTIAL}"
    try:
        with open(partial, "wb", opener=_open_no_link) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(os.path.dirname(partial) or ".")
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's writer, when a write fails
        with contextlib.suppress(OSError):
            Path(partial).unlink()
        raise FileError(
            f"{path} can't be written ({_find_reason(error)}); what was there before is unchanged"
        ) from error


def write_content(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file of this content (a text in UTF-8) as :func:`write_whole_file` does.

    Raises:
        FileError: it can't be written, or the text holds halves of characters.
    """
    try:
        data = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        shown = ascii(error.object[max(0, error.start - 20) : error.end + 20])
        raise FileError(f"{path} can't be written: {shown} in it is no Unicode text") from None
    write_whole_file(path, lambda file: file.write(data))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file as :func:`write_whole_file` does."""
    write_content(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[str]:
    """A folder to fill, which gets its name when it is whole.

    Raises:
        FileError: there is something at the path already.
    """
    out = os.path.abspath(os.path.expanduser(path))
    if os.path.lexists(out) and not (os.path.isdir(out) and not os.listdir(out)):
        raise FileError(f"{out}: wanted a new or an empty folder; nothing in it is overwritten")
    partial = f"{out}{PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
    os.makedirs(partial)
    try:
        yield partial
        if os.path.isdir(out):
            os.rmdir(out)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def shorten_name(name: str, limit: int = MAX_STEM) -> str:
    """A name for a file, cut to ``limit`` bytes, without what is no Unicode text."""
    return name.encode(errors="surrogatepass")[:limit].decode(errors="ignore")


def _open_no_link(path: str, flags: int) -> int:
    """So that a link that someone left under the name leads nowhere."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _find_reason(error: BaseException) -> str:
    """The system's words, which torch's error about the unfinished file may hide."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    return " ".join(str(error).split()) or "for no known reason"


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power cut."""
    if os.name == "posix":  # elsewhere a folder can't be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise  # the others: network drives, which can't flush a folder
        finally:
            os.close(descriptor)
