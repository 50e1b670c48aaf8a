"""Records in Detectron2's form, made of a COCO-format file that was read once."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from pycocotools import mask as mask_util

from nasnet_det.data.coco import CocoFile, read_coco
from nasnet_det.data.coco_objects import Objects


def load_records(
    path: str, image_root: str, *, with_shapes: bool, needs_masks: bool, size_mismatch: str
) -> tuple[CocoFile, list[dict[str, Any]]]:
    """Read a data set and build its records.

    A picture of which neither the file nor its header says a size can't be read, and is left out.

    Args:
        path: as :func:`~nasnet_det.data.coco.read_coco` takes it.
        image_root, needs_masks: as in :func:`build_records`.
        with_shapes: keep masks and keypoints.
        size_mismatch: ``stop`` or ``picture``.
    """
    coco = read_coco(
        PathManager.get_local_path(path),
        images=image_root,
        with_shapes=with_shapes,
        size_mismatch=size_mismatch,
    )
    records = build_records(coco, image_root, needs_masks=needs_masks)
    if os.path.isdir(image_root):
        records = [record for record in records if "width" in record]
    return coco, records


def build_records(coco: CocoFile, image_root: str, *, needs_masks: bool) -> list[dict[str, Any]]:
    """What Detectron2's ``load_coco_json`` makes of the same file, and no object is dropped for it.

    Args:
        coco: a data set, with shapes where masks or keypoints are trained.
        image_root: the folder that file names start from.
        needs_masks: leave out objects without a usable mask, as a mask head can't be trained with
            them.
    """
    objects = coco.objects
    kept = find_trained(objects, needs_masks=needs_masks)
    order = kept[np.argsort(objects.image[kept], kind="stable")]
    starts = np.searchsorted(objects.image[order], np.arange(len(coco.image_ids) + 1))
    records = []
    for place, (image_id, name) in enumerate(zip(coco.image_ids, coco.file_names, strict=True)):
        record: dict[str, Any] = {
            "file_name": os.path.join(image_root, name), "image_id": image_id
        }  # fmt: skip
        if np.isfinite(coco.sizes[place]).all():
            record["width"], record["height"] = map(int, coco.sizes[place])
        mine = order[starts[place] : starts[place + 1]]
        if coco.has_annotations:
            record["annotations"] = [_build_annotation(objects, number) for number in mine.tolist()]
        records.append(record)
    return records


def find_trained(objects: Objects, *, needs_masks: bool) -> np.ndarray:
    """Indices of the objects that a training or an evaluation sees."""
    if not needs_masks:
        return np.arange(len(objects))
    return np.flatnonzero([mask is not None for mask in objects.masks])


def _build_annotation(objects: Objects, number: int) -> dict[str, Any]:
    box = objects.boxes[number].tolist()
    annotation: dict[str, Any] = {
        "iscrowd": int(objects.is_crowd[number]),
        "bbox": [int(value) for value in box] if objects.is_whole[number] else box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": int(objects.category[number]),
    }
    if objects.masks and objects.masks[number] is not None:
        annotation["segmentation"] = _encode(objects.masks[number])
    if objects.keypoints and objects.keypoints[number] is not None:
        # COCO's keypoints are indices of pixels, everything else is measured from their corners.
        annotation["keypoints"] = [
            value if i % 3 == 2 else value + 0.5
            for i, value in enumerate(objects.keypoints[number])
        ]
    return annotation


def _encode(mask: Any) -> Any:
    """A mask as Detectron2 wants it: an RLE is compressed."""
    if isinstance(mask, dict) and isinstance(mask["counts"], list):
        return mask_util.frPyObjects(mask, *mask["size"])
    return mask
