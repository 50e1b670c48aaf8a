"""Files of annotations and the pictures that belong to them, found in folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from nasnet_det.data.picture_files import is_hidden, list_pictures
from nasnet_det.data.pictures import PictureError, read_size

SUFFIXES = (".xml", ".txt", ".json", ".csv")


def list_annotation_files(folder: str, suffix: str | tuple[str, ...]) -> list[str]:
    """The files below a folder that end with ``suffix``, relative to it with ``/``, sorted.

    Hidden names don't count, and links are followed, each folder once.
    """
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_hidden(name)]
        inner = os.path.relpath(place, folder)
        prefix = "" if inner == os.curdir else inner.replace(os.sep, "/") + "/"
        found += [
            prefix + n for n in names if n.lower().endswith(suffix) and not is_hidden(n)
        ]  # fmt: skip
    return sorted(found)


def find_split_folders(files: Sequence[str]) -> list[str]:
    """The folders that files are in, if all of them are called as splits are; else none.

    Args:
        files: names relative to the folder of the data set.
    """
    folders = sorted({os.path.dirname(name).partition("/")[0] for name in files})
    return folders if all(map(is_split_name, folders)) else []


def is_split_name(name: str) -> bool:
    """Whether a name is like ``train``, ``val2017`` or ``testing``."""
    return any(word in name.lower() for word in ("train", "val", "test"))


def stamp_folder(root: str) -> tuple[Any, ...]:
    """A value that changes when a file of annotations below a folder does, or when one comes."""
    status = os.stat(root)
    stamps = [(root, status.st_mtime_ns, status.st_size)]
    for name in list_annotation_files(root, SUFFIXES) if os.path.isdir(root) else ():
        status = os.stat(os.path.join(root, name))
        stamps.append((name, status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def index_pictures(folder: str) -> dict[str, str]:
    """The pictures below a folder: name without suffix -> name, both relative to it, with ``/``.

    Where names differ by their suffixes alone, the first counts.
    """
    found: dict[str, str] = {}
    for path in list_pictures(folder) if os.path.isdir(folder) else ():
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        found.setdefault(os.path.splitext(name)[0], name)
    return found


def find_size(path: str) -> tuple[int, int] | None:
    """Width and height of an upright picture by its header; None where it can't be read."""
    try:
        return read_size(path)
    except PictureError:
        return None


def get_base(name: str) -> str:
    """The last part of a path as any system writes it."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].strip()
