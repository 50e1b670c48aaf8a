"""Folders of classes, as people sort pictures: ``cat/1.jpg``, and ``train/cat/1.jpg`` with a split.

Hidden folders are no classes. A class without pictures is left out of the training and said.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import is_hidden, list_pictures

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("val", "valid", "validation", "test", "testing")  # the first that is there counts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassFolders:
    """Pictures by their classes.

    Attributes:
        place: the folder.
        paths: (N,) bytes, one array that workers share; by class, folder and name.
        labels: (N,) int64, places in ``classes``.
        classes: names of the folders, sorted.
    """

    place: Path
    paths: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """The folders of a split data set, each a folder of classes; None where there is none."""

    train: Path | None
    test: Path | None


def find_splits(place: Path) -> Splits:
    """The training and the test folder in a folder, or in the only folder in it, as of an archive.

    ``val``, ``valid``, ``validation`` and ``test`` are known, in this order, and in capitals too.
    """
    folders = _list_folders(place)
    names = {path.name.lower(): path for path in folders}
    train = next((names[name] for name in TRAIN_NAMES if name in names), None)
    test = next((names[name] for name in TEST_NAMES if name in names), None)
    if train is None and test is None and len(folders) == 1:
        inner = find_splits(folders[0])
        if inner.train is not None:
            logger.info("%s: its only folder %s is taken", place, folders[0].name)
            return inner
    return Splits(train, test)


def read_class_folders(place: Path, classes: Sequence[str] | None = None) -> ClassFolders:
    """List the pictures of a folder of classes.

    Args:
        place: the folder.
        classes: which classes there are, as of the training; those of the folder if None. Then
            classes without a picture are left out.

    Raises:
        DataError: there are no classes or no pictures, or classes that ``classes`` lacks.
    """
    pictures = {folder.name: list_pictures(folder) for folder in _list_folders(place)}
    names = sorted(name for name, paths in pictures.items() if paths)
    empty = sorted(set(pictures) - set(names))
    if not names:
        got = f"folders without any: {_shorten(empty)}" if empty else "no folders"
        raise DataError(
            f"{place} is not a folder of one sub-folder a class: wanted sub-folders with pictures, "
            f"got {got}"
        )
    if classes is None:
        classes = names
        if empty:
            logger.warning("%s: classes without pictures are left out: %s", place, _shorten(empty))
    elif unknown := sorted(set(names) - set(classes)):
        raise DataError(
            f"wanted the same classes in all folders, but only {place} has {_shorten(unknown)}; "
            f"the classes are {_shorten(classes)}"
        )
    elif missing := sorted(set(classes) - set(names)):
        logger.warning("%s: no pictures of %s", place, _shorten(missing))
    counts = [len(pictures.get(name, ())) for name in classes]
    paths = [os.fsencode(path) for name in classes for path in pictures.get(name, ())]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    return ClassFolders(place, np.array(paths), labels, tuple(classes))


def check_several_classes(folder: ClassFolders) -> None:
    """Refuse a training with one class.

    Raises:
        DataError: there is only one.
    """
    if len(folder.classes) < 2:
        raise DataError(
            f"{folder.place}: wanted folders of at least 2 classes, got one, {folder.classes[0]!r}"
        )


def _list_folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            names = [e.name for e in entries if not is_hidden(e.name) and _is_folder(e)]
    except OSError as error:
        raise DataError(f"{place} can't be read as a folder: {error.strerror}") from None
    return [place / name for name in sorted(names)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _shorten(names: Sequence[str], number: int = 5) -> str:
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return ", ".join(map(repr, names[:number])) + more
