"""Finding pictures in folders, by one rule for every stage.

A picture is a file with a suffix that the decoder knows, or without any suffix if its first bytes
are a picture's. Hidden names (``.ipynb_checkpoints``, ``._x.jpg``) and macOS's ``__MACOSX`` never
count. Links are followed, each folder once, so that a loop ends. What is left out is counted.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import has_picture_suffix, is_picture

_ARCHIVE_FOLDER = "__MACOSX"

logger = logging.getLogger(__name__)


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The pictures among files and, recursively, in folders; a named file counts as it is.

    Raises:
        DataError: a path does not exist, or there is no picture.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found += sorted(map(Path, list_pictures(path)))
        elif path.is_file():
            found.append(path)
        else:
            advice = "; download it first" if "://" in str(given) else ""
            raise DataError(f"no such picture or folder: {given}{advice}")
    if not found:
        raise DataError("no pictures found: wanted files, or folders with files such as .jpg, .png")
    return found


def list_pictures(folder: str | os.PathLike[str]) -> list[str]:
    """The paths of the pictures below a folder, by folder and then by name.

    What else is there is said in one line of the log.

    Raises:
        DataError: the folder can't be read.
    """
    pictures: list[tuple[str, str]] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    waiting = [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        if (real := os.path.realpath(place)) in seen:
            continue
        seen.add(real)
        for entry in _list_entries(place, is_root=place == os.fspath(folder)):
            if is_hidden(entry.name):
                continue
            kind = _find_kind(entry)
            if kind == "folder":
                waiting.append(entry.path)
            elif kind == "picture":
                pictures.append((place, entry.name))
            else:
                left_out[kind] += 1
    if left_out:
        ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{count} {kind}" for kind, count in ordered[:5])
        logger.info("%s: %d files are no pictures: %s", folder, left_out.total(), kinds)
    return [os.path.join(*parts) for parts in sorted(pictures)]


def is_hidden(name: str) -> bool:
    """Whether a name is not meant to be seen, as those of notebooks' and macOS's own files."""
    return name.startswith(".") or name == _ARCHIVE_FOLDER


def _list_entries(place: str, *, is_root: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError as error:
        if is_root:
            raise DataError(f"{place} can't be read as a folder: {error.strerror}") from None
        logger.warning("the folder %s can't be read (%s) and is left out", place, error.strerror)
        return []


def _find_kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``picture``, or how to call what is neither."""
    try:
        if entry.is_dir():
            return "folder"
        if not entry.is_file():
            return "broken links" if entry.is_symlink() else "special files"
    except OSError:  # a link to itself
        return "broken links"
    suffix = os.path.splitext(entry.name)[1].lower()
    if has_picture_suffix(entry.name) or (not suffix and is_picture(entry.path)):
        return "picture"
    return suffix or "without a suffix"
