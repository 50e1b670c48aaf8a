"""Mosaic and copy-paste: training pictures that are made of several, with all their objects.

What is random comes from Python's generator, which the loader seeds for each picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from nasnet_det.detection.cut_objects import (
    Annotation,
    Rectangle,
    cut_box,
    cut_polygons,
    decode_mask,
    encode_mask,
    get_box,
)

PAD_VALUE = 128  # of pixels that no picture covers, as in Detectron2's FixedSizeCrop
CENTRE = (0.3, 0.7)  # where the four pictures of a mosaic may meet, as a share of a side
PASTE_PROB = 0.5  # of each object of the other picture


class Picture(NamedTuple):
    """A picture and its objects.

    Attributes:
        image: (H, W, C).
        annotations: in Detectron2's form.
    """

    image: np.ndarray
    annotations: list[Annotation]


class Mixing:
    """With some probabilities a mosaic, and then objects of another picture in it.

    Args:
        mosaic_prob, paste_prob: from 0 to 1.
        mosaic_scale, paste_scale: the smallest and the largest size of a picture; 1 fits into the
            one that it becomes a part of.
    """

    def __init__(
        self,
        *,
        mosaic_prob: float = 0.0,
        mosaic_scale: Sequence[float] = (0.5, 1.0),
        paste_prob: float = 0.0,
        paste_scale: Sequence[float] = (0.5, 1.0),
    ) -> None:
        self.mosaic_prob, self.mosaic_scale = mosaic_prob, mosaic_scale
        self.paste_prob, self.paste_scale = paste_prob, paste_scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Mixing | None:
        """As the config says; None where it wants neither."""
        mosaic, paste = cfg.INPUT.MOSAIC, cfg.INPUT.COPY_PASTE
        if not (mosaic.PROB or paste.PROB):
            return None
        return cls(
            mosaic_prob=mosaic.PROB,
            mosaic_scale=mosaic.SCALE,
            paste_prob=paste.PROB,
            paste_scale=paste.SCALE,
        )

    def __call__(self, picture: Picture, draw: Callable[[], Picture]) -> Picture:
        """A picture of the same size, made of this one and of others.

        Args:
            picture: stays as it is.
            draw: gives another picture.
        """
        if random.random() < self.mosaic_prob:
            picture = make_mosaic([picture, draw(), draw(), draw()], self.mosaic_scale)
        if random.random() < self.paste_prob:
            picture = paste_objects(picture, draw(), self.paste_scale)
        return picture


def make_mosaic(pictures: Sequence[Picture], scale: Sequence[float]) -> Picture:
    """Four pictures around a point, each with a corner there.

    Args:
        pictures: left and right above, left and right below; the mosaic has the first one's size.
        scale: the smallest and the largest size of each; 1 fits into the mosaic.
    """
    canvas = np.full_like(pictures[0].image, PAD_VALUE)
    height, width = canvas.shape[:2]
    x, y = (round(side * random.uniform(*CENTRE)) for side in (width, height))
    quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    annotations = []
    for number, (picture, window) in enumerate(zip(pictures, quarters, strict=True)):
        size = _choose_size(picture, (height, width), scale)
        left, top = x - (0 if number % 2 else size[1]), y - (0 if number > 1 else size[0])
        annotations += place(picture, canvas, size, (left, top), window)
    return Picture(canvas, annotations)


def paste_objects(picture: Picture, other: Picture, scale: Sequence[float]) -> Picture:
    """Some objects of another picture over a picture (Ghiasi et al., arXiv 2012.07177).

    An object is cut out along its mask, or along its box where it has none. What it covers is
    covered: masks and boxes of the objects below shrink, and vanish with all that is known of them.

    Args:
        picture: stays as it is.
        other: whose objects are pasted; crowds never are.
        scale: the smallest and the largest size of the other; 1 fits into the picture.
    """
    height, width = picture.image.shape[:2]
    size = _choose_size(other, (height, width), scale)
    left, top = (round(random.uniform(*sorted((0, free)))) for free in (
        width - size[1], height - size[0]
    ))  # fmt: skip
    layer = np.zeros_like(picture.image)
    placed = place(other, layer, size, (left, top), (0, 0, width, height))
    objects = [annotation for annotation in placed if not annotation.get("iscrowd", 0)]
    pasted = [annotation for annotation in objects if random.random() < PASTE_PROB]
    cover = np.zeros((height, width), bool)
    for annotation in pasted:
        cover |= draw_object(annotation, (height, width))
    image = np.where(cover[..., None], layer, picture.image)
    below = [_uncover(annotation, cover) for annotation in picture.annotations]
    return Picture(image, [*(kept for kept in below if kept is not None), *pasted])


def _choose_size(
    picture: Picture, canvas: tuple[int, int], scale: Sequence[float]
) -> tuple[int, int]:
    """Height and width of a picture in a canvas of that height and width."""
    height, width = picture.image.shape[:2]
    factor = random.uniform(*scale) * min(canvas[0] / height, canvas[1] / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def place(
    picture: Picture,
    canvas: np.ndarray,
    size: tuple[int, int],
    corner: tuple[int, int],
    window: tuple[int, int, int, int],
) -> list[Annotation]:
    """Draw a picture on a canvas.

    Args:
        picture: stays as it is.
        canvas: (H, W, C), drawn on.
        size: height and width of the picture there.
        corner: x and y of its left upper corner there, which may lie outside.
        window: x0, y0, x1, y1 of the part of the canvas that it may cover.

    Returns:
        its objects, cut at the window and at the picture's border; without those of which nothing
        is left.
    """
    (left, top), (height, width) = corner, size
    x0, y0 = max(window[0], left), max(window[1], top)
    x1, y1 = min(window[2], left + width), min(window[3], top + height)
    if x0 >= x1 or y0 >= y1:
        return []
    resize = T.ResizeTransform(*picture.image.shape[:2], height, width)
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    canvas[y0:y1, x0:x1] = resize.apply_image(picture.image)[part]
    found = []
    for annotation in picture.annotations:
        placed = _place_object(annotation, resize, corner, (x0, y0, x1, y1))
        if placed is not None and isinstance(placed.get("segmentation"), np.ndarray):
            mask = np.zeros(canvas.shape[:2], bool)
            mask[y0:y1, x0:x1] = placed["segmentation"][part]
            placed["segmentation"] = encode_mask(mask)
            placed = placed if mask.any() else None
        if placed is not None:
            found.append(placed)
    return found


def _place_object(
    annotation: Annotation, resize: Any, corner: tuple[int, int], limits: Rectangle
) -> Annotation | None:
    """An object on the canvas; its mask, where it is an RLE, as (H, W) of the resized picture."""
    move = np.array(corner, float)
    box = cut_box(resize.apply_box(get_box(annotation)[None])[0] + np.tile(move, 2), limits)
    if box is None:
        return None
    placed = {**annotation, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS}
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        polygons = [np.array(part, float).reshape(-1, 2) for part in segmentation]
        polygons = cut_polygons([resize.apply_coords(part) + move for part in polygons], limits)
        placed["segmentation"] = [part.reshape(-1).tolist() for part in polygons]
        if not polygons:
            return None
    elif segmentation is not None:
        mask = decode_mask(segmentation, (resize.h, resize.w)).astype(np.uint8)
        placed["segmentation"] = resize.apply_segmentation(mask)
    if "keypoints" in annotation:
        points = np.array(annotation["keypoints"], float).reshape(-1, 3)
        points[:, :2] = resize.apply_coords(points[:, :2].copy()) + move
        inside = (points[:, :2] >= limits[:2]) & (points[:, :2] <= limits[2:])
        points[~inside.all(axis=1) | (points[:, 2] == 0)] = 0
        placed["keypoints"] = points.reshape(-1).tolist()
    return placed


def draw_object(annotation: Annotation, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels of an object's mask, or those that its box touches.

    Args:
        annotation: of an object that lies in the picture.
        size: height and width of the picture.
    """
    if annotation.get("segmentation") is not None:
        return decode_mask(annotation["segmentation"], size)
    mask = np.zeros(size, bool)
    box = get_box(annotation)
    (x0, y0), (x1, y1) = np.floor(np.maximum(box[:2], 0)).astype(int), np.ceil(box[2:]).astype(int)
    mask[y0:y1, x0:x1] = True
    return mask


def _uncover(annotation: Annotation, cover: np.ndarray) -> Annotation | None:
    """What is seen of an object below a cover (H, W); None where that is nothing."""
    mask = draw_object(annotation, (cover.shape[0], cover.shape[1]))
    seen = mask & ~cover
    if (seen == mask).all():
        return annotation
    if not seen.any():
        return None
    (rows,), (columns,) = (np.nonzero(seen.any(axis=axis)) for axis in (1, 0))
    extent = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    box = cut_box(get_box(annotation), extent)
    if box is None:
        return None
    found = {**annotation, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS}
    if annotation.get("segmentation") is not None:
        found["segmentation"] = encode_mask(seen)
    if "keypoints" in annotation:
        points = np.array(annotation["keypoints"], float).reshape(-1, 3)
        x, y = np.clip(points[:, :2].astype(int), 0, np.array(cover.shape)[::-1] - 1).T
        points[:, 2] = np.where(cover[y, x], np.minimum(points[:, 2], 1), points[:, 2])  # hidden
        found["keypoints"] = points.reshape(-1).tolist()
    return found
