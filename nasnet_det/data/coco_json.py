"""Reading the JSON of a COCO-format data set, trusting nothing in it.

Each function checks one part of the file and returns it column by column; the first fault becomes
one sentence. ``datasets.py`` puts them together.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_det.data.error import DataError

# Annotation tools round; a box further outside than this belongs to another image or format.
MAX_OUTSIDE_PIXELS = 1.0
NUM_EXAMPLES = 3

logger = logging.getLogger(__name__)


def read_json(path: str, where: str) -> dict[str, Any]:
    """The object in a JSON file; ``where`` opens the error sentence."""
    collects = gc.isenabled()
    gc.disable()  # a parse makes millions of objects and no garbage; twice as fast for all of COCO
    try:
        text = Path(path).read_text(encoding="utf-8")
        data = json.loads(text)
    except OSError as error:
        raise DataError(f"{where}: can't be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip() or "Unterminated" in error.msg:
            fault = f"ends too early, after {len(text):,} characters: copy or download it again"
        else:
            fault = f"is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise DataError(f"{where}: the file {fault}") from None
    except (ValueError, RecursionError) as error:  # bytes that are not text; absurd numbers, depth
        raise DataError(f"{where}: the file is not valid JSON: {error}") from None
    finally:
        if collects:
            gc.enable()
    if not isinstance(data, dict):
        raise DataError(
            f"{where}: wanted an object with images, annotations and categories, got "
            f"a {type(data).__name__}"
        )
    return data


@dataclass(frozen=True)
class Images:
    """The images of a JSON: ids and names, and sizes (n, 2) as width, height in pixels."""

    ids: list[Any]
    names: list[str]
    sizes: np.ndarray


@dataclass(frozen=True)
class Annotations:
    """The annotations of a JSON, column by column; boxes (n, 4) as x, y, width, height."""

    ids: list[int]
    image_ids: list[Any]
    boxes: np.ndarray
    is_crowd: np.ndarray


def _records(where: str, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects at ``key`` of the JSON."""
    records = data.get(key)
    if not isinstance(records, list):
        got = f"got {records!r:.60}" if key in data else f"got only {', '.join(data) or 'nothing'}"
        reason = " (to train and to evaluate with)" if key == "annotations" else ""
        raise DataError(f"{where}: wanted a list {key!r}{reason}, {got:.200}")
    _first_fault(where, key, records, records, lambda r: isinstance(r, dict), "an object")
    return records


def _first_fault(
    where: str,
    place: str,
    records: Sequence[Any],
    values: Sequence[Any],
    is_right: Callable[[Any], bool],
    wanted: str,
) -> None:
    """Raise where a value is wrong, naming how many are and the first one's record."""
    wrong = [i for i, value in enumerate(values) if not is_right(value)]
    if wrong:
        record, value = records[wrong[0]], values[wrong[0]]
        known = isinstance(record, dict) and type(record.get("id")) in (int, str)
        which = f"id {record['id']!r}" if known else f"number {wrong[0] + 1} of the list"
        got = "nothing" if value is None else f"{value!r:.60}"
        raise DataError(
            f"{where}: {place}: wanted {wanted}, but {len(wrong)} of {len(values)} differ, the "
            f"first ({which}) has {got}"
        )


def _column(
    where: str,
    kind: str,
    records: Sequence[dict[str, Any]],
    key: str,
    types: Collection[type],
    wanted: str,
) -> list[Any]:
    """The values of one key, which each record must have, and in one of the types."""
    values = [record.get(key) for record in records]
    if not set(map(type, values)) <= set(types):  # fast where all is well, bool is no int
        _first_fault(where, f"{kind}.{key}", records, values, lambda v: type(v) in types, wanted)
    return values


def _unique_ids(
    where: str, kind: str, records: Sequence[dict[str, Any]], types: Collection[type]
) -> list[Any]:
    """The ids of records; each must be there once."""
    ids = _column(where, kind, records, "id", types, "a whole number")
    if len(set(map(type, ids))) > 1:
        raise DataError(f"{where}: {kind}.id: wanted all numbers or all texts, got both")
    _first_fault(where, f"{kind}.id", records, ids, _fits_evaluation, "a number of 64 bits")
    # COCO's own 2014 minival files repeat annotations; Detectron2 reads them all the same.
    if len(set(ids)) < len(ids) and not (kind == "annotations" and "minival" in where):
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        raise DataError(
            f"{where}: {kind}.id: wanted each id once, but {len(repeated)} of {len(ids)} come more "
            f"than once: {shorten(repeated)}"
        )
    return ids


def _fits_evaluation(key: int | str) -> bool:
    """Whether COCO's evaluation, which is compiled, can hold an id."""
    return isinstance(key, str) or -(2**63) <= key < 2**63


def shorten(values: Sequence[Any]) -> str:
    """The first few of many values."""
    shown = ", ".join(f"{value!r:.100}" for value in values[:NUM_EXAMPLES])
    return shown + (", ..." if len(values) > NUM_EXAMPLES else "")


def check_categories(where: str, data: dict[str, Any]) -> dict[int, str]:
    """Category ids and names in the order of the ids, which is that of the classes."""
    records = _records(where, data, "categories")
    if not records:
        raise DataError(f"{where}: wanted at least one entry in 'categories', got none")
    ids = _unique_ids(where, "categories", records, {int})
    names = _column(where, "categories", records, "name", {str}, "a text")
    if len(set(names)) < len(names):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        logger.warning("%s: several categories have the name %r", where, repeated[0])
    return dict(sorted(zip(ids, names, strict=True)))


def check_images(where: str, data: dict[str, Any]) -> Images:
    """The images of a file; a DataError names the first that can't be used."""
    records = _records(where, data, "images")
    if not records:
        raise DataError(f"{where}: wanted at least one entry in 'images', got none")
    ids = _unique_ids(where, "images", records, {int, str})
    names = _column(where, "images", records, "file_name", {str}, "a file's name")
    sides = [_read_sides(where, records, key) for key in ("width", "height")]
    return Images(ids, names, np.array(sides).T)


def _read_sides(where: str, records: Sequence[dict[str, Any]], key: str) -> list[float]:
    values: list[Any] = [record.get(key) for record in records]
    wanted = "a whole number of pixels above 0"
    _first_fault(where, f"images.{key}", records, values, _is_size, wanted)
    return [float(value) for value in values]


def _is_size(value: Any) -> bool:
    return _is_number(value) and 0 < value < float("inf") and value == int(value)


def _is_number(value: Any) -> bool:
    """Whether a value of the JSON is a number that a float can hold; NaN and infinity are."""
    if type(value) is int:
        return abs(value) < 2**1000
    return type(value) is float


def check_annotations(
    where: str, data: dict[str, Any], image_ids: set[Any], category_ids: set[int], is_test: bool
) -> Annotations:
    """The annotations of a file; a DataError names the first that can't be used."""
    records = _records(where, data, "annotations")
    ids = _unique_ids(where, "annotations", records, {int})
    if is_test and 0 in ids:
        logger.warning(
            "%s: COCO's evaluation counts a match with annotation id 0 as a miss; number the "
            "annotations from 1",
            where,
        )
    of_images = _column(where, "annotations", records, "image_id", {int, str}, "the id of an image")
    _check_known(where, records, "image_id", of_images, image_ids, "images")
    of_categories = _column(
        where, "annotations", records, "category_id", {int}, "the id of a category"
    )
    _check_known(where, records, "category_id", of_categories, category_ids, "categories")
    crowds = _check_flags(where, records, is_test)
    _check_shapes(where, records)
    return Annotations(ids, of_images, _read_boxes(where, records), crowds)


def _check_known(
    where: str,
    records: Sequence[dict[str, Any]],
    key: str,
    values: Sequence[Any],
    known: set[Any],
    kind: str,
) -> None:
    if not set(values) <= known:
        wanted = f"an id of the list {kind!r}"
        _first_fault(where, f"annotations.{key}", records, values, known.__contains__, wanted)


def _check_flags(where: str, records: Sequence[dict[str, Any]], is_test: bool) -> np.ndarray:
    """Whether each annotation is a crowd; what COCO's evaluation needs is there in a test set."""
    default = None if is_test else 0
    crowds = [record.get("iscrowd", default) for record in records]
    wanted = "0 or 1" + (" (evaluation needs it)" if is_test else "")
    # The text "0" would count as a crowd.
    if crowds.count(0) + crowds.count(1) < len(crowds):
        _first_fault(where, "annotations.iscrowd", records, crowds, lambda v: v in (0, 1), wanted)
    if is_test:
        areas = [record.get("area") for record in records]
        wanted = "a number of pixels (evaluation needs it)"
        _first_fault(where, "annotations.area", records, areas, _is_area, wanted)
    ignored = [record.get("ignore", 0) for record in records]
    wanted = "0 or none (Detectron2 does not know it; iscrowd 1 is meant for this)"
    if ignored.count(0) < len(ignored):
        _first_fault(where, "annotations.ignore", records, ignored, lambda v: v == 0, wanted)
    return np.array(crowds, dtype=bool)


def _is_area(value: Any) -> bool:
    return _is_number(value) and 0 <= value < float("inf")


def _check_shapes(where: str, records: Sequence[dict[str, Any]]) -> None:
    """Check segmentations and keypoints as far as Detectron2 touches them for boxes, too."""
    segmentations = [record.get("segmentation") for record in records]
    wanted = "a list of polygons [[x, y, ...], ...] or an object with counts and size"
    _first_fault(
        where, "annotations.segmentation", records, segmentations, _is_segmentation, wanted
    )
    keypoints = [record.get("keypoints") for record in records]
    if any(keypoints):
        wanted = "a list of numbers"
        _first_fault(where, "annotations.keypoints", records, keypoints, _is_numbers, wanted)


def check_masks(where: str, records: Sequence[dict[str, Any]]) -> None:
    """Raise DataError where an annotation has no mask."""
    segmentations = [record.get("segmentation") for record in records]
    wanted = "a mask, since MODEL.MASK_ON is True"
    _first_fault(where, "annotations.segmentation", records, segmentations, bool, wanted)


def _is_segmentation(value: Any) -> bool:
    if isinstance(value, dict):
        return "counts" in value and isinstance(value.get("size"), list) and len(value["size"]) == 2
    return not value or (isinstance(value, list) and all(isinstance(p, list) for p in value))


def _is_numbers(value: Any) -> bool:
    return not value or (isinstance(value, list) and all(map(_is_number, value)))


def _read_boxes(where: str, records: Sequence[dict[str, Any]]) -> np.ndarray:
    """All boxes, float64 of shape (n, 4)."""
    boxes: list[Any] = [record.get("bbox") for record in records]
    is_usual = set(map(type, boxes)) == {list} and set(map(len, boxes)) == {4}
    if is_usual and set(map(type, itertools.chain.from_iterable(boxes))) <= {int, float}:
        with contextlib.suppress(OverflowError):  # an int beyond all floats: found below
            return np.array(boxes, dtype=np.float64)
    wanted = "four numbers [x, y, width, height]"
    _first_fault(where, "annotations.bbox", records, boxes, _is_box, wanted)
    return np.zeros((0, 4))  # nothing was at fault: there is no annotation


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def check_boxes(where: str, annotations: Annotations, images: Images) -> None:
    """Check that boxes are finite, have a size and stay inside their images."""
    boxes = annotations.boxes
    index = {key: i for i, key in enumerate(images.ids)}
    sizes = images.sizes[[index[key] for key in annotations.image_ids]].reshape(-1, 2)

    def refuse(wrong: np.ndarray, fault: str) -> None:
        if wrong.any():
            first = int(wrong.argmax())
            width, height = sizes[first].astype(int)
            raise DataError(
                f"{where}: {wrong.sum()} of {len(boxes)} boxes {fault}, the first: annotation "
                f"{annotations.ids[first]} has [{', '.join(f'{v:g}' for v in boxes[first])}] in "
                f"image {annotations.image_ids[first]!r} of {width}x{height}; wanted [x, y, width, "
                "height] in pixels"
            )

    refuse(~np.isfinite(boxes).all(axis=1), "are not finite")
    refuse(boxes[:, 2:].min(axis=1, initial=0) < 0, "have a negative size")
    outside = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - sizes).max(axis=1, initial=0)
    refuse(outside > MAX_OUTSIDE_PIXELS, f"leave their image by over {MAX_OUTSIDE_PIXELS:g} pixel")
    if num_empty := int((boxes[:, 2:] == 0).any(axis=1).sum()):
        # COCO's train2017 has such boxes itself; the loader drops them.
        logger.warning("%s: %d of %d boxes have no size", where, num_empty, len(boxes))
