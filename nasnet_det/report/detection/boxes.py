"""The boxes of a COCO-format data set and of a results file, as arrays.

Images and categories are numbered in the order of their ids, as COCO's evaluation goes through
them; boxes are x, y, width, height in pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasnet_det.data.coco import read_coco
from nasnet_det.data.error import DataError
from nasnet_det.data.json_file import read_json

NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Truth:
    """A data set: I images, K categories, N objects in the order of the file.

    Attributes:
        path, sha256: of the JSON.
        image_ids, file_names: of the images.
        sizes: (I, 2), width and height of the images in pixels; NaN where unknown.
        category_ids, category_names: of the categories.
        ids: (N,), of the annotations.
        image, category: (N,), indices of each object's image and category.
        boxes: (N, 4).
        areas: (N,), in pixels: of the mask, where the data set has masks.
        is_crowd: (N,), a box around many objects, which COCO's evaluation leaves out.
    """

    path: str
    sha256: str
    image_ids: tuple[Any, ...]
    file_names: tuple[str, ...]
    sizes: np.ndarray
    category_ids: tuple[Any, ...]
    category_names: tuple[str, ...]
    ids: np.ndarray
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


@dataclass(frozen=True)
class Detections:
    """What a detector found: D boxes in the order of the file.

    Attributes:
        image, category: (D,), indices as in :class:`Truth`.
        boxes: (D, 4).
        scores: (D,), from 0 to 1.
    """

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def read_truth(path: str | os.PathLike[str]) -> Truth:
    """Read a data set's JSON.

    Raises:
        DataError: it can't be read, or lacks what an evaluation needs.
    """
    coco = read_coco(path)
    if not coco.has_annotations:
        raise DataError(f"{os.fspath(path)}: an evaluation needs 'annotations', which are missing")
    objects = coco.objects
    return Truth(
        path=os.fspath(path),
        sha256=coco.sha256,
        image_ids=coco.image_ids,
        file_names=coco.file_names,
        sizes=coco.sizes,
        category_ids=coco.category_ids,
        category_names=coco.category_names,
        ids=objects.ids,
        image=objects.image,
        category=objects.category,
        boxes=objects.boxes,
        areas=objects.areas,
        is_crowd=objects.is_crowd,
    )


def read_detections(path: str | os.PathLike[str], truth: Truth) -> Detections:
    """Read a COCO results file: a list of objects with image_id, category_id, bbox and score.

    Boxes of categories that the data set lacks are left out, as in COCO's evaluation.

    Raises:
        DataError: it can't be read, or names images that the data set lacks.
    """
    data, _ = read_json(path)
    where = os.fspath(path)
    if not isinstance(data, list):
        raise DataError(f"{where}: wanted a list of boxes, got a {type(data).__name__}")
    try:
        known = set(truth.category_ids)
        records = [record for record in data if record["category_id"] in known]
        detections = Detections(
            image=_find_indices(where, data, "image_id", truth.image_ids)[
                [record["category_id"] in known for record in data]
            ],
            category=_find_indices(where, records, "category_id", truth.category_ids),
            boxes=np.array([r["bbox"] for r in records], dtype=np.float64).reshape(-1, 4),
            scores=np.array([r["score"] for r in records], dtype=np.float64),
        )
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{where}: a box lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: is no COCO results file ({error})") from None
    for name, values in (("bbox", detections.boxes), ("score", detections.scores)):
        if not np.isfinite(values).all():
            raise DataError(f"{where}: a {name} is not a finite number")
    return detections


def _find_indices(
    where: str, records: Sequence[Mapping[str, Any]], key: str, ids: Sequence[Any]
) -> np.ndarray:
    """The place in ``ids`` of what each record names."""
    places = {name: place for place, name in enumerate(ids)}
    try:
        return np.array([places[record[key]] for record in records], dtype=np.int64)
    except KeyError:
        unknown = dict.fromkeys(r[key] for r in records if r[key] not in places)
        shown = ", ".join(repr(name) for name in list(unknown)[:NUM_EXAMPLES])
        raise DataError(
            f"{where}: {len(unknown)} values of {key} are not in the data set, such as {shown}: "
            "these boxes are of another data set"
        ) from None


def intersect_over_union(
    first: np.ndarray, second: np.ndarray, is_crowd: np.ndarray | None = None
) -> np.ndarray:
    """IoU of boxes, computed as pycocotools does.

    Args:
        first: (..., 4), the boxes that were found.
        second: (..., 4), broadcast against ``first``.
        is_crowd: (...), of the second: there it is the share of the *first* box that is covered.
    """
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    sides = np.clip(high - low, 0, math.inf)
    common = sides[..., 0] * sides[..., 1]
    area = first[..., 2] * first[..., 3]
    union = area + second[..., 2] * second[..., 3] - common
    if is_crowd is not None:
        union = np.where(is_crowd, area, union)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)
