"""The annotations of a COCO-format JSON as columns, trusting nothing in them.

What is said in the log carries its ``kind`` and the ``records`` that it is about.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasnet_det.data.columns import (
    Record,
    choose_records,
    is_number,
    raise_first_fault,
    read_column,
    read_ids,
)
from nasnet_det.data.error import DataError

# Annotation tools round; a box further outside than this is clipped.
MAX_OUTSIDE_PIXELS = 1.0
# A box of COCO's has more pixels than its object; so much more than the box no area can have.
AREA_TOLERANCE = 1.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Objects:
    """N objects in the order of the file.

    Attributes:
        ids: (N,) int64; numbered from 1 where the file has texts.
        image, category: (N,) int64, indices of each object's image and category.
        boxes: (N, 4) float64, x, y, width, height in pixels.
        is_whole: (N,), whether the file has whole numbers only for the box, which Detectron2
            computes with otherwise.
        areas: (N,), in pixels: of the mask, where the data set has masks.
        is_crowd: (N,), a box around many objects, which COCO's evaluation leaves out.
        masks: a list of polygons or an RLE of each object, None where it has no usable mask; empty
            if shapes were not asked for.
        keypoints: [x, y, visibility, ...] of each object, None where it has none; empty like masks.
    """

    ids: np.ndarray
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    is_whole: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    masks: list[Any]
    keypoints: list[Any]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_usable(self) -> np.ndarray:
        """(N,), whether an object is one to train on: no crowd, and its box has a size."""
        return ~self.is_crowd & (self.boxes[:, 2:] > 0).all(axis=1)


def read_objects(
    where: str,
    records: Sequence[Record],
    image_ids: Sequence[Any],
    category_ids: Sequence[Any],
    sizes: np.ndarray,
    *,
    with_shapes: bool,
) -> Objects:
    """Check annotations and take them apart.

    Args:
        where: opens the sentence of a fault.
        records: the list ``annotations``.
        image_ids, category_ids: those that are known.
        sizes: (I, 2), width and height of the images, NaN where unknown.
        with_shapes: keep masks and keypoints.

    Raises:
        DataError: the first fault.
    """
    # Detectron2 refuses an empty box; tools write it to say that a picture has no object.
    if num_empty := sum(record.get("bbox") == [] for record in records):
        empty = [record for record in records if record.get("bbox") == []]
        records = [record for record in records if record.get("bbox") != []]
        logger.warning(
            "%s: %d annotations have an empty box and are left out",
            *(where, num_empty),
            extra={"kind": "no_box", "records": empty},
        )
    ids = read_ids(where, "annotations", records)
    image = _find_places(where, records, "image_id", image_ids, "image")
    category = _find_places(where, records, "category_id", category_ids, "category")
    is_crowd = _read_crowds(where, records)
    boxes, is_whole = _read_boxes(where, records)
    _check_finite(where, records, boxes)
    boxes = _clip_boxes(where, records, boxes, sizes[image].reshape(-1, 2))
    if ids and isinstance(ids[0], str):
        ids = list(range(1, len(ids) + 1))  # nobody sees them, and COCO's evaluation wants numbers
    return Objects(
        ids=np.array(ids, dtype=np.int64),
        image=image,
        category=category,
        boxes=boxes,
        is_whole=is_whole,
        areas=_read_areas(where, records, boxes),
        is_crowd=is_crowd,
        masks=[_read_mask(record.get("segmentation")) for record in records if with_shapes],
        keypoints=_read_keypoints(where, records) if with_shapes else [],
    )


def _find_places(
    where: str, records: Sequence[Record], key: str, known: Sequence[Any], kind: str
) -> np.ndarray:
    """The place in ``known`` of what each record names."""
    article = "an image" if kind == "image" else "a category"
    values = read_column(where, "annotations", records, key, {int, str}, f"the id of {article}")
    places = {name: place for place, name in enumerate(known)}
    if not set(values) <= places.keys():
        plural = {"image": "images", "category": "categories"}[kind]
        wanted = f"an id of the list {plural!r}"
        raise_first_fault(where, f"annotations.{key}", records, values, places.__contains__, wanted)
    return np.array([places[value] for value in values], dtype=np.int64)


def _read_crowds(where: str, records: Sequence[Record]) -> np.ndarray:
    values = [record.get("iscrowd") or 0 for record in records]
    # The text "0" would count as a crowd.
    if values.count(0) + values.count(1) < len(values):
        wanted = "0 or 1"
        raise_first_fault(
            where, "annotations.iscrowd", records, values, lambda v: v in (0, 1), wanted
        )
    # pycocotools leaves it in the crowds of a file that it evaluated, and takes no notice of it.
    ignored = [0 if c else r.get("ignore", 0) for r, c in zip(records, values, strict=True)]
    if ignored.count(0) < len(ignored):
        wanted = "0 or none (Detectron2 does not know it; iscrowd 1 is meant for this)"
        raise_first_fault(where, "annotations.ignore", records, ignored, lambda v: v == 0, wanted)
    return np.array(values, dtype=bool)


def _read_boxes(where: str, records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """All boxes, float64 of shape (N, 4), and whether each has whole numbers only."""
    boxes: list[Any] = [record.get("bbox") for record in records]
    is_usual = set(map(type, boxes)) <= {list} and set(map(len, boxes)) <= {4}
    if is_usual and set(map(type, itertools.chain.from_iterable(boxes))) <= {int, float}:
        with contextlib.suppress(OverflowError):  # an int beyond all floats: found below
            values = np.array(boxes, dtype=np.float64).reshape(-1, 4)
            return values, np.array([float not in set(map(type, box)) for box in boxes], dtype=bool)
    wanted = "four numbers [x, y, width, height]"
    raise_first_fault(where, "annotations.bbox", records, boxes, _is_box, wanted)
    raise AssertionError("a box that is at fault was found")


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _check_finite(where: str, records: Sequence[Record], boxes: np.ndarray) -> None:
    faults: dict[str, np.ndarray] = {
        "are not finite": ~np.isfinite(boxes).all(axis=1),
        "have a negative size": np.asarray(boxes[:, 2:].min(axis=1, initial=0) < 0),
    }
    for fault, wrong in faults.items():
        if wrong.any():
            raise _describe_boxes(where, records, boxes, wrong, fault)
    is_empty = (boxes[:, 2:] == 0).any(axis=1)
    if num_empty := int(is_empty.sum()):
        # COCO's train2017 has such boxes itself; the loader drops them.
        logger.warning(
            "%s: %d of %d boxes have no size",
            *(where, num_empty, len(boxes)),
            extra={"kind": "box_without_size", "records": choose_records(records, is_empty)},
        )


def _describe_boxes(
    where: str, records: Sequence[Record], boxes: np.ndarray, wrong: np.ndarray, fault: str
) -> DataError:
    first = int(wrong.argmax())
    return DataError(
        f"{where}: {wrong.sum()} of {len(boxes)} boxes {fault}, the first: annotation "
        f"{records[first]['id']} has [{', '.join(f'{v:g}' for v in boxes[first])}]; wanted "
        "[x, y, width, height] in pixels",
        where="annotations.bbox",
        records=choose_records(records, wrong),
    )


def _clip_boxes(
    where: str, records: Sequence[Record], boxes: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Boxes inside their images (sizes (N, 2)); those that leave them by rounding stay as they are.

    Most boxes outside, or none larger than a pixel, are numbers of another meaning.
    """
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    with np.errstate(invalid="ignore"):  # sizes that are not known
        outside = np.maximum(-corners[:, :2], corners[:, 2:] - sizes).max(axis=1, initial=0)
        wrong = outside > MAX_OUTSIDE_PIXELS
    if wrong.sum() > len(boxes) / 2:
        fault = "leave their image, as corners or another picture's boxes would"
        raise _describe_boxes(where, records, boxes, wrong, fault)
    is_share = np.asarray((boxes <= 1).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
    if len(boxes) and is_share.all() and (sizes > 8).all():
        raise _describe_boxes(where, records, boxes, is_share, "are shares of their image")
    if not wrong.any():
        return boxes
    logger.warning(
        "%s: %d of %d boxes leave their image and are clipped, the first: annotation %s",
        *(where, wrong.sum(), len(boxes), records[int(wrong.argmax())]["id"]),
        extra={"kind": "clipped_box", "records": choose_records(records, wrong)},
    )
    clipped = np.clip(corners[wrong], 0, np.tile(sizes[wrong], 2))
    inside = boxes.copy()
    inside[wrong] = np.concatenate([clipped[:, :2], clipped[:, 2:] - clipped[:, :2]], axis=1)
    return inside


def _read_areas(where: str, records: Sequence[Record], boxes: np.ndarray) -> np.ndarray:
    """Areas; that of the box where a record has none that can be one."""
    values: list[Any] = [record.get("area") for record in records]
    of_boxes = boxes[:, 2] * boxes[:, 3]
    numbers = np.array([v if is_number(v) else np.nan for v in values], dtype=np.float64)
    is_area = np.isfinite(numbers) & (numbers >= 0)
    areas = np.where(is_area, numbers, of_boxes)
    if num_missing := int((~is_area).sum()):
        logger.warning(
            "%s: %d of %d annotations have no area; that of the box is taken for APs, APm and APl",
            *(where, num_missing, len(areas)),
            extra={"kind": "missing_area", "records": choose_records(records, ~is_area)},
        )
    is_large = areas > of_boxes * AREA_TOLERANCE + 1
    num_large = int(is_large.sum())
    is_constant = len(areas) > 1 and len(set(areas)) == 1 and len(set(of_boxes)) > 1
    if num_large or is_constant:
        fault = f"all areas are {areas[0]:g}" if is_constant else f"{num_large} areas exceed boxes"
        logger.warning(
            "%s: %s, and APs, APm and APl depend on them",
            *(where, fault),
            extra={
                "kind": "wrong_area",
                "records": choose_records(records, is_large | is_constant),
            },
        )
    return areas


def _read_mask(value: Any) -> Any:
    """Polygons of 3 points and more, or an RLE; None of what can't be a mask."""
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        is_rle = isinstance(size, list) and len(size) == 2 and isinstance(counts, list | str)
        return value if is_rle and counts else None
    if not isinstance(value, list):
        return None
    polygons = [
        polygon
        for polygon in value
        if isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(map(is_number, polygon))
    ]
    return polygons or None


def _read_keypoints(where: str, records: Sequence[Record]) -> list[Any]:
    values = [record.get("keypoints") or None for record in records]
    if any(values):
        wanted = "a list of numbers"
        raise_first_fault(where, "annotations.keypoints", records, values, _is_keypoints, wanted)
    return values


def _is_keypoints(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(is_number, value)))
