"""What two sets of the same pictures differ in: a conversion is measured, not promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasnet_det.data.formats.annotated_set import Record, group_objects
from nasnet_det.data.formats.losses import Losses

TOLERANCE = 0.0051  # pixels: half of a hundredth, to which numbers are read
_IMAGE_KEYS = ("id", "file_name", "width", "height")
_OBJECT_KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
_CATEGORY_KEYS = ("id", "name")


def find_losses(
    before: dict[str, Any], after: dict[str, Any], names: Sequence[str]
) -> Losses:  # fmt: skip
    """Compare what was to be written with what is read from the written files.

    Args:
        before, after: contents as of a COCO JSON; objects of an image in the same order.
        names: of the images of ``before``, in its order, as they are called in ``after``.
    """
    losses = Losses()
    _compare_categories(before["categories"], after["categories"], losses)
    images = {image["file_name"]: image for image in after["images"]}
    objects = [group_objects(before), group_objects(after)]
    labels = [{c["id"]: c["name"] for c in content["categories"]} for content in (before, after)]
    worst = 0.0
    for image, name in zip(before["images"], names, strict=True):
        other = images.get(name)
        if other is None:
            losses.add("images", image["file_name"])
            continue
        if any(image.get(key) != other.get(key) for key in ("width", "height")):
            losses.add("sizes of images", image["file_name"])
        _count_keys(image, other, _IMAGE_KEYS, "images", losses)
        old, new = (g.get(i["id"], []) for g, i in zip(objects, (image, other), strict=True))
        if len(old) != len(new):
            losses.add("objects", image["file_name"], count=abs(len(old) - len(new)))
            continue
        for pair in zip(old, new, strict=True):
            worst = max(worst, _compare_objects(*pair, labels, image["file_name"], losses))
    if worst > TOLERANCE:
        kind = "edges of boxes to within a pixel"
        count = losses.counts.pop(kind)
        losses.add(
            f"boxes moved, the farthest edge by {worst:.3g} pixels", losses.examples.pop(kind)[0],
            count=count,
        )  # fmt: skip
    for key in before.keys() - {"images", "annotations", "categories"}:
        if before[key]:
            losses.add(f"entries at the top: {key:.40}")
    return losses


def _compare_categories(old: Sequence[Record], new: Sequence[Record], losses: Losses) -> None:
    ids = {record["name"]: record["id"] for record in new}
    for record in old:
        name = record["name"]
        if name not in ids:
            losses.add("classes without an object", name)
        elif ids[name] != record["id"]:
            losses.add("ids of categories, which get others", f"{name} {record['id']}")
        _count_keys(record, {"supercategory": ""}, _CATEGORY_KEYS, "categories", losses)


def _compare_objects(
    old: Record, new: Record, labels: Sequence[dict[Any, str]], name: str, losses: Losses
) -> float:
    """Count what differs; by how many pixels the farthest edge does."""
    place = f"annotation {old['id']} of {name}"
    if labels[0][old["category_id"]] != labels[1][new["category_id"]]:
        losses.add("classes of objects", place)
    boxes = np.array([old["bbox"], new["bbox"]], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    moved = float(np.abs(boxes[0] - boxes[1]).max())
    if moved > TOLERANCE:
        losses.add("edges of boxes to within a pixel", place)
    if bool(old.get("iscrowd")) != bool(new.get("iscrowd")):
        losses.add("crowds (iscrowd 1), which become usual objects", place)
    if (mask := old.get("segmentation")) and not _are_same_masks(mask, new.get("segmentation")):
        became = "which get other shapes" if new.get("segmentation") else "of which the box stays"
        losses.add(f"masks, {became}", place)
    area, box_area = float(old.get("area") or 0), float(np.prod(old["bbox"][2:]))
    is_own = abs(area - box_area) > 1 and area > 0
    if is_own and abs(area - float(new.get("area") or 0)) > max(1.0, 0.01 * area):
        losses.add("areas other than the box's", place)
    _count_keys(old, new, _OBJECT_KEYS, "objects", losses)
    return moved


def _are_same_masks(old: Any, new: Any) -> bool:
    if isinstance(old, dict) or isinstance(new, dict) or not new or len(old) != len(new):
        return old == new
    return all(
        len(a) == len(b) and np.abs(np.subtract(a, b)).max(initial=0) <= TOLERANCE
        for a, b in zip(old, new, strict=True)
    )


def _count_keys(
    old: Record, new: Record, known: Sequence[str], of_what: str, losses: Losses
) -> None:
    for key, value in old.items():
        if key not in known and value not in (None, "", [], 0) and new.get(key) != value:
            losses.add(f"{key:.40} of {of_what}", str(old.get("id")))
