"""A COCO-format data set: its JSON is parsed once, checked once and hashed once.

Training, evaluation and report all take what :func:`read_coco` gives. It accepts what tools write:
ids as 1.0 or as texts, no ``iscrowd`` and no ``area``, back-slashes in names, lists of images
without annotations. What had to be guessed stands in the log.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasnet_det.data.coco_objects import Objects, read_objects
from nasnet_det.data.columns import (
    Record,
    is_number,
    raise_first_fault,
    read_column,
    read_ids,
    read_records,
)
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import read_annotations, stamp_files
from nasnet_det.data.picture_sizes import fill_sizes, settle_sizes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CocoFile:
    """A data set: I images and K categories by their ids, N objects in the order of the file.

    Attributes:
        path, sha256: of the JSON; of another format its address, and the sum of what was read.
        image_ids, file_names: of the images, (I,); ids are all numbers or all texts.
        sizes: (I, 2), width and height in pixels; NaN where the JSON has none.
        category_ids, category_names: of the categories, (K,).
        keypoint_names: of the objects' keypoints in their order, where the categories agree on
            them; else none.
        has_annotations: whether there is a list of annotations, be it empty.
        objects: see :class:`Objects`; image and category are indices of the lists above.
    """

    path: str
    sha256: str
    image_ids: tuple[Any, ...]
    file_names: tuple[str, ...]
    sizes: np.ndarray
    category_ids: tuple[Any, ...]
    category_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    has_annotations: bool
    objects: Objects


def read_coco(
    path: str | os.PathLike[str],
    *,
    images: str = "",
    with_shapes: bool = False,
    size_mismatch: str = "stop",
) -> CocoFile:
    """Read a data set; the same files are parsed only once.

    Args:
        path: of the JSON, which may be gzipped, or the address of a set in another format
            (``formats/recognition.py``).
        images: the folder of pictures, whose headers say the sizes that the file does not say.
        size_mismatch: what is done about other sizes: ``stop`` leaves them to the check of the
            data set, ``picture`` takes those of the pictures; see ``picture_sizes.py``.
        with_shapes: keep masks and keypoints.

    Raises:
        DataError: it can't be read, or is not in COCO's format; the first fault is named.
    """
    where = os.path.abspath(path)
    try:
        stamp = stamp_files(where)
    except FileNotFoundError:
        is_list = "('" in where or "['" in where
        advice = ", of one set; others are registered and named in DATASETS.TRAIN and TEST"
        raise DataError(
            f"{where}: there is no such file; wanted annotations{advice if is_list else ''}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{where}: can't be read: {reason}") from None
    return _read(where, stamp, images, with_shapes, size_mismatch)


@functools.lru_cache(maxsize=4)
def _read(
    where: str, stamp: object, images: str, with_shapes: bool, size_mismatch: str
) -> CocoFile:
    found = read_annotations(where, images=images)
    for kind, line in zip(found.losses.counts, found.losses.describe(), strict=True):
        # No training would see what a tag of VOC's says that is none of an object's box.
        level = logging.INFO if kind.startswith("<") else logging.WARNING
        logger.log(level, "%s: left out: %s", where, line)
    settle = None
    if os.path.isdir(images):
        complete = fill_sizes if size_mismatch == "stop" else settle_sizes
        settle = functools.partial(complete, where, image_root=images)
    return parse_coco(
        where, found.content, found.sha256, with_shapes=with_shapes, settle_sizes=settle
    )


def parse_coco(
    where: str,
    data: Any,
    digest: str = "",
    *,
    with_shapes: bool = False,
    settle_sizes: Callable[[Sequence[str], np.ndarray], np.ndarray] | None = None,
) -> CocoFile:
    """Check what a JSON holds and take it apart.

    Args:
        where: opens the sentence of a fault.
        data: the content.
        digest: SHA-256 of the file.
        with_shapes: keep masks and keypoints.
        settle_sizes: gives better sizes (I, 2) for the names and sizes of the images.

    Raises:
        DataError: it is not in COCO's format; its ``records`` are the entries at fault.
    """
    if not isinstance(data, dict):
        raise DataError(
            f"{where}: wanted an object with images, annotations and categories, got "
            f"a {type(data).__name__}{_name_kind(data)}"
        )
    if (kind := _name_kind(data)) and "images" not in data:
        raise DataError(f"{where}: wanted images, annotations and categories, got a file{kind}")
    categories = _read_categories(where, data)
    images = _read_images(where, data)
    has_annotations = "annotations" in data
    records = read_records(where, data, "annotations") if has_annotations else []
    sizes = np.array([size for _, size in images.values()])
    if settle_sizes is not None:
        sizes = settle_sizes([name for name, _ in images.values()], sizes)
    objects = read_objects(
        where, records, list(images), list(categories), sizes, with_shapes=with_shapes
    )
    return CocoFile(
        path=where,
        sha256=digest,
        image_ids=tuple(images),
        file_names=tuple(name for name, _ in images.values()),
        sizes=sizes,
        category_ids=tuple(categories),
        category_names=tuple(categories.values()),
        keypoint_names=_find_keypoint_names(data),
        has_annotations=has_annotations,
        objects=objects,
    )


def _name_kind(data: Any) -> str:
    """What a JSON that is no data set seems to be, and the remedy, as the end of a sentence."""
    if isinstance(data, list) and data and isinstance(data[0], dict) and "score" in data[0]:
        return " of detections; give the annotations of the pictures"
    if isinstance(data, dict) and "shapes" in data:
        return " of labelme's for one picture; give the folder of these files"
    if isinstance(data, dict) and any(
        key.startswith("_via_") or (isinstance(value, dict) and "regions" in value)
        for key, value in data.items()
    ):
        return " of the VGG Image Annotator's own; export COCO's format there"
    return ""


def _read_categories(where: str, data: Record) -> dict[Any, str]:
    """Ids and names in the order of the ids, which is that of the classes."""
    records = read_records(where, data, "categories")
    if not records:
        raise DataError(f"{where}: wanted at least one entry in 'categories', got none")
    ids = read_ids(where, "categories", records)
    names = read_column(where, "categories", records, "name", {str}, "a text")
    if len(set(names)) < len(names):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        logger.warning(
            "%s: several categories have the name %r",
            *(where, repeated[0]),
            extra={"kind": "same_names", "records": [r for r in records if r["name"] in repeated]},
        )
    return dict(sorted(zip(ids, names, strict=True)))


def _find_keypoint_names(data: Record) -> tuple[str, ...]:
    """As a category of persons has them: ``"keypoints": ["nose", "left_eye", ...]``."""
    lists = [record["keypoints"] for record in data["categories"] if record.get("keypoints")]
    is_one = bool(lists) and all(names == lists[0] for names in lists) and type(lists[0]) is list
    return tuple(map(str, lists[0])) if is_one else ()


def _read_images(where: str, data: Record) -> dict[Any, tuple[str, tuple[float, float]]]:
    """Names and sizes by the ids, in the order of the ids."""
    records = read_records(where, data, "images")
    if not records:
        raise DataError(f"{where}: wanted at least one entry in 'images', got none")
    ids = read_ids(where, "images", records)
    names = read_column(where, "images", records, "file_name", {str}, "a file's name")
    if num_windows := sum("\\" in name for name in names):
        odd = [record for record, name in zip(records, names, strict=True) if "\\" in name]
        names = [name.replace("\\", "/") for name in names]
        logger.warning(
            "%s: %d names of images have \\ for /",
            *(where, num_windows),
            extra={"kind": "back_slashes", "records": odd},
        )
    widths, heights = (_read_sides(where, records, key) for key in ("width", "height"))
    values = zip(names, zip(widths, heights, strict=True), strict=True)
    return dict(sorted(zip(ids, values, strict=True), key=lambda item: item[0]))


def _read_sides(where: str, records: Sequence[Record], key: str) -> list[float]:
    values: list[Any] = [record.get(key) for record in records]
    wanted = "a whole number of pixels above 0"
    raise_first_fault(
        where, f"images.{key}", records, values, lambda v: v is None or _is_size(v), wanted
    )
    return [float("nan") if value is None else float(value) for value in values]


def _is_size(value: Any) -> bool:
    return is_number(value) and 0 < value < float("inf") and value == int(value)
