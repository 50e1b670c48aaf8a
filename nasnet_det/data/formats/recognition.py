"""Which format a path holds, and reading it, as a COCO JSON's content, whatever it is.

A data set's address is a path, or ``path#split`` for a part of what it holds: ``VOC2007#val``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import AnnotatedSet, choose_split
from nasnet_det.data.formats.files import stamp_folder
from nasnet_det.data.formats.labelme import is_labelme, list_labelme_splits, read_labelme
from nasnet_det.data.formats.table import is_table, read_table
from nasnet_det.data.formats.voc import find_voc_images, is_voc, list_voc_splits, read_voc
from nasnet_det.data.formats.yolo import (
    find_yolo_images,
    is_yolo,
    list_yolo_roots,
    list_yolo_splits,
    read_yolo,
)
from nasnet_det.data.json_file import read_json

OTHER_SUFFIXES = (".yaml", ".yml", ".csv")


@dataclass(frozen=True)
class Format:
    """How to read a format.

    Attributes:
        name: as people call it.
        recognises: whether a path is one.
        list_splits: the names of its parts; none where it has no parts.
        read: (path, split, images=..., and options) -> :class:`AnnotatedSet`.
        options: names of the reader's options.
        find_images: path -> the folder of pictures, where nothing else is said.
        list_roots: path -> files and folders that the annotations are in.
    """

    name: str
    recognises: Callable[[str], bool]
    list_splits: Callable[[str], list[str]]
    read: Callable[..., AnnotatedSet]
    options: tuple[str, ...] = ()
    find_images: Callable[[str], str] = os.path.dirname
    list_roots: Callable[[str], list[str]] = lambda path: [path]


def is_coco(path: str) -> bool:
    """Whether a path is meant as that of a COCO JSON, be it there or not."""
    is_other = os.path.splitext(path)[1].lower() in OTHER_SUFFIXES
    return not is_other and not os.path.isdir(path) and not parse_address(path)[1]


def _read_coco(path: str, split: str, *, images: str = "") -> AnnotatedSet:
    try:
        content, digest = read_json(path)
    except DataError as error:
        if not path.lower().endswith(".txt"):
            raise
        raise DataError(f"{error}; of YOLO's labels give the data.yaml") from None
    return AnnotatedSet(path, images, content, sha256=digest)


FORMATS = (
    Format(
        *("voc", is_voc, list_voc_splits, read_voc),
        options=("classes", "first_pixel", "keep_difficult"),
        find_images=find_voc_images,
    ),
    Format(
        *("yolo", is_yolo, list_yolo_splits, read_yolo),
        options=("classes",),
        find_images=find_yolo_images,
        list_roots=list_yolo_roots,
    ),
    Format(
        *("labelme", is_labelme, list_labelme_splits, read_labelme),
        options=("classes",),
        find_images=lambda path: path,
    ),
    Format(
        *("csv", is_table, lambda _: [], read_table),
        options=("classes", "first_pixel"),
    ),
    Format("coco", is_coco, lambda _: [], _read_coco),
)


def parse_address(address: str) -> tuple[str, str]:
    """The path and the split; the split is empty where there is none."""
    path, mark, split = address.rpartition("#")
    is_split = mark and os.path.exists(path) and not os.path.exists(address)
    return (path, split) if is_split else (address, "")


def find_format(path: str) -> Format:
    """The format of what lies at a path.

    Raises:
        DataError: there is nothing, or nothing that is known.
    """
    if not os.path.exists(path):
        raise DataError(f"{path}: there is no such file or folder of annotations")
    for format in FORMATS:
        if format.recognises(path):
            return format
    shown = ", ".join(sorted(os.listdir(path))[:8]) or "nothing"
    raise DataError(
        f"{path}: wanted annotations (a COCO JSON, a Pascal VOC folder, a YOLO data.yaml, a folder "
        f"of labelme's JSONs or a CSV), got a folder with {shown}"
    )


def list_addresses(path: str) -> dict[str, str]:
    """Split -> address of all that a path holds; one of the name "" where it has no splits.

    ``trainval`` does not count beside ``train``, as it is no other part.
    """
    place, split = parse_address(path)
    names = [split] if split else find_format(place).list_splits(place)
    if "train" in names and "trainval" in names:
        names = [name for name in names if name != "trainval"]
    return {name: f"{place}#{name}" for name in names} or {"": place}


def stamp_files(address: str) -> object:
    """A value that changes when the files of a data set do.

    Raises:
        OSError: there is nothing at the path.
    """
    path, split = parse_address(address)
    os.stat(path)
    stamps = [stamp_folder(root) for root in find_format(path).list_roots(path)]
    return split, *stamps


def find_images(address: str) -> str:
    """The folder of a data set's pictures by its format."""
    path, _ = parse_address(address)
    return find_format(path).find_images(path)


def find_address(path: str, *, is_train: bool) -> str:
    """The address of what is meant for a training or an evaluation; a full one stays as it is.

    Raises:
        DataError: there are splits, and none is for this.
    """
    place, split = parse_address(path)
    names = [] if split else find_format(place).list_splits(place)
    if not names:
        return path
    name = choose_split(names, is_train=is_train)
    if name is None:
        purpose = "a training" if is_train else "an evaluation"
        raise DataError(
            f"{path}: wanted a split for {purpose}, got {', '.join(names)}; name the one that you "
            f"mean, as {place}#{names[0]}"
        )
    return f"{place}#{name}"


def read_annotations(address: str, *, images: str = "", **options: Any) -> AnnotatedSet:
    """Read a data set in any format.

    Args:
        address: see the module.
        images: the folder of the pictures, where the format does not say it.
        **options: of the format's reader; None for its default.

    Raises:
        DataError: it can't be read.
    """
    path, split = parse_address(address)
    format = find_format(path)
    if split and split not in (names := format.list_splits(path)):
        raise DataError(f"{path}: no split {split!r}; it has {', '.join(names) or 'none'}")
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - set(format.options)):
        raise DataError(f"{address}: {unknown[0]} means nothing for the format {format.name}")
    return format.read(path, split, images=images, **given)
