"""Objects of a picture that is cut: boxes, masks and keypoints end where the picture does.

Coordinates are Detectron2's: pixels from the left upper corner of the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

Annotation = dict[str, Any]
Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1
MIN_SIDE = 1e-3  # pixels; less is nothing, but for rounding
MIN_AREA = 1e-3


def get_box(annotation: Annotation) -> np.ndarray:
    """The box (4,) as x0, y0, x1, y1."""
    box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return np.asarray(box, float)


def cut_box(box: np.ndarray, rectangle: Rectangle) -> np.ndarray | None:
    """The part (4,) of a box in a rectangle; None where nothing is left of it."""
    x0, y0, x1, y1 = rectangle
    cut = np.array([*np.maximum(box[:2], (x0, y0)), *np.minimum(box[2:], (x1, y1))])
    return cut if (cut[2:] - cut[:2] > MIN_SIDE).all() else None


def cut_polygons(polygons: Sequence[np.ndarray], rectangle: Rectangle) -> list[np.ndarray]:
    """The parts of polygons in a rectangle, by Sutherland and Hodgman's algorithm.

    Args:
        polygons: (N, 2) each; they may be concave: what falls apart stays joined along the border,
            which has no area.

    Returns:
        (M, 2) each, without those of which no area is left.
    """
    x0, y0, x1, y1 = rectangle
    found = []
    for polygon in polygons:
        for axis, limit, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
            polygon = _cut_side(np.asarray(polygon, float), axis, limit, sign)
        if len(polygon) > 2 and _find_area(polygon) > MIN_AREA:
            found.append(polygon)
    return found


def _cut_side(polygon: np.ndarray, axis: int, limit: float, sign: int) -> np.ndarray:
    """What of a polygon has coordinates of at least (``sign`` 1) or at most a limit."""
    depths = sign * (polygon[:, axis] - limit)
    if len(polygon) == 0 or (depths >= 0).all():
        return polygon
    points = []
    for i in range(len(polygon)):
        before, here = polygon[i - 1], polygon[i]
        if (depths[i - 1] >= 0) != (depths[i] >= 0):
            crossing = before + (here - before) * depths[i - 1] / (depths[i - 1] - depths[i])
            crossing[axis] = limit
            points.append(crossing)
        if depths[i] >= 0:
            points.append(here)
    return np.array(points).reshape(-1, 2)


def _find_area(polygon: np.ndarray) -> float:
    x, y = (polygon - polygon[0]).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def decode_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of polygons or of an RLE in a picture of that height and width."""
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    return mask_util.decode(segmentation).astype(bool)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """The RLE of a mask (H, W)."""
    return mask_util.encode(np.asfortranarray(mask, np.uint8))


def _find_border(transform: Any) -> Rectangle | None:
    """The picture after a transform that cuts by its own output; None of any other."""
    if isinstance(transform, T.RotationTransform):
        return 0.0, 0.0, float(transform.bound_w), float(transform.bound_h)
    if isinstance(transform, T.ExtentTransform):
        height, width = transform.output_size
        return 0.0, 0.0, float(width), float(height)
    return None


def transform_object(
    annotation: Annotation,
    transforms: T.TransformList,
    size: tuple[int, int],
    *,
    keypoint_hflip_indices: Any = None,
) -> Annotation | None:
    """As Detectron2's ``transform_instance_annotations``, and what a crop cuts off stays away.

    There, an object that a crop has cut reaches into what a later transform adds beside it, and
    polygons may end outside of the picture.

    Args:
        annotation: in Detectron2's form; changed in place.
        transforms: of the picture.
        size: height and width of the picture after them.
        keypoint_hflip_indices: as in Detectron2.

    Returns:
        None where nothing is left of the box, or of its mask.
    """
    whole = (0.0, 0.0, float(size[1]), float(size[0]))
    box: np.ndarray | None = get_box(annotation)
    segmentation = annotation.get("segmentation")
    polygons = None
    if isinstance(segmentation, list):
        polygons = [np.array(part, float).reshape(-1, 2) for part in segmentation]
    for transform in transforms.transforms:
        if isinstance(transform, T.CropTransform):
            x0, y0 = float(transform.x0), float(transform.y0)
            limits = (x0, y0, x0 + transform.w, y0 + transform.h)
            box = box if box is None else cut_box(box, limits)
            polygons = polygons and cut_polygons(polygons, limits)
        if box is None:
            return None
        box = transform.apply_box(box[None])[0]
        polygons = polygons and [transform.apply_coords(part.copy()) for part in polygons]
        border = _find_border(transform)
        if border is not None:
            box, polygons = cut_box(box, border), polygons and cut_polygons(polygons, border)
    box = None if box is None else cut_box(box, whole)
    if box is None:
        return None
    annotation.update(bbox=box, bbox_mode=BoxMode.XYXY_ABS)
    if polygons is not None:
        parts = cut_polygons(polygons, whole)
        annotation["segmentation"] = [part.reshape(-1) for part in parts]
        if not parts:
            return None
    elif isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        annotation["segmentation"] = mask
        if not mask.any():
            return None
    if "keypoints" in annotation:
        annotation["keypoints"] = detection_utils.transform_keypoint_annotations(
            annotation["keypoints"], transforms, size, keypoint_hflip_indices
        )
    return annotation
