"""Large pictures in overlapping tiles, so that small objects are not shrunk away.

A detector sees every picture at the size of ``INPUT.MIN_SIZE_TEST``. Of a large picture it also
sees tiles, each at that size. What it finds in them and in the whole picture is merged:

1. A box that ends where its tile ends, inside the picture, is *cut*: it may be a part of an object.
2. Non-maximum suppression among the boxes that are not cut, class by class.
3. A cut box that lies within a box of its class which is not cut is a part of it and goes.
4. Non-maximum suppression among what is left, for objects that nothing but cut boxes show.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.ops import batched_nms

from nasnet_det.config import ConfigError
from nasnet_det.detection.categories import get_head
from nasnet_det.detection.resize import build_test_resize

EDGE = 0.01  # a box ends at an edge if it is as near as this part of the tile's side
PART = 0.7  # of a cut box lies within the one that it is a part of


class View(NamedTuple):
    """A part of a picture, in pixels: from its left and top to before its right and bottom."""

    left: int
    top: int
    right: int
    bottom: int


def plan_tiles(height: int, width: int, *, size: int, overlap: float) -> list[View]:
    """The views of a picture: the whole, and square tiles where it is larger than one.

    Tiles have the full size and equal distances, so they overlap at least as much as wanted.

    Args:
        height, width: of the picture.
        size: side of a tile in pixels.
        overlap: of neighbours, as a share of the side, in [0, 1).
    """
    whole = View(0, 0, width, height)
    if max(height, width) <= size:
        return [whole]
    tops, lefts = (_place(length, size, overlap) for length in (height, width))
    tiles = [
        View(left, top, min(left + size, width), min(top + size, height))
        for top, left in product(tops, lefts)
    ]
    return [whole, *tiles]


def _place(length: int, size: int, overlap: float) -> list[int]:
    """Where tiles start along one side."""
    if length <= size:
        return [0]
    number = 1 + -(-(length - size) // max(1, int(size * (1 - overlap))))
    return [round(i * (length - size) / (number - 1)) for i in range(number)]


class TiledDetector(nn.Module):
    """A detector that finds objects in the tiles of pictures; see the module.

    Args:
        model: a detector of Detectron2's.
        resize: what it sees of a view.
        size, overlap: see :func:`plan_tiles`.
        nms_threshold: the overlap (IoU) from which two boxes of a class are one object.
        batch_size: views at a time.
    """

    def __init__(
        self,
        model: nn.Module,
        resize: T.Augmentation,
        *,
        size: int,
        overlap: float,
        nms_threshold: float,
        batch_size: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.resize = model, resize
        self.size, self.overlap = size, overlap
        self.nms_threshold, self.batch_size = nms_threshold, batch_size

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module, *, batch_size: int = 1) -> TiledDetector:
        """With the tiles of ``TEST.TILES``.

        Raises:
            ConfigError: they are none.
        """
        size, overlap = cfg.TEST.TILES.SIZE, cfg.TEST.TILES.OVERLAP
        if size < 1:
            raise ConfigError(f"TEST.TILES.SIZE: wanted a number of pixels above 0, got {size}")
        if not 0 <= overlap < 1:
            raise ConfigError(f"TEST.TILES.OVERLAP: wanted a number in [0, 1), got {overlap}")
        return cls(
            model,
            build_test_resize(cfg),
            size=size,
            overlap=overlap,
            nms_threshold=get_head(cfg).NMS_THRESH_TEST,
            batch_size=batch_size,
        )

    def forward(self, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """As Detectron2's detectors, but every ``image`` (C, H, W) has the picture's own size."""
        return [{"instances": self._find(item["image"])} for item in inputs]

    def _find(self, image: Tensor) -> Instances:
        pixels = image.permute(1, 2, 0).cpu().numpy()
        height, width = pixels.shape[:2]
        views = plan_tiles(height, width, size=self.size, overlap=self.overlap)
        found: list[Instances] = []
        for start in range(0, len(views), self.batch_size):
            batch = [
                self._to_input(pixels, view) for view in views[start : start + self.batch_size]
            ]
            found += [result["instances"] for result in self.model(batch)]
        if len(views) == 1:
            return found[0]
        return merge_views(views, found, (height, width), nms_threshold=self.nms_threshold)

    def _to_input(self, pixels: np.ndarray, view: View) -> dict[str, Any]:
        part = np.ascontiguousarray(pixels[view.top : view.bottom, view.left : view.right])
        seen = self.resize.get_transform(part).apply_image(part)
        tensor = torch.as_tensor(np.ascontiguousarray(seen.transpose(2, 0, 1)))
        return {"image": tensor, "height": part.shape[0], "width": part.shape[1]}


def merge_views(
    views: Sequence[View],
    found: Sequence[Instances],
    size: tuple[int, int],
    *,
    nms_threshold: float,
) -> Instances:
    """What was found in views as what is in the picture; see the module.

    Args:
        views: of the picture.
        found: in each, in its own pixels.
        size: height and width of the picture.
        nms_threshold: see :class:`TiledDetector`.

    Returns:
        instances in the picture's pixels, the best first.
    """
    boxes = torch.cat(
        [
            one.pred_boxes.tensor + one.pred_boxes.tensor.new_tensor(view[:2] * 2)
            for view, one in zip(views, found, strict=True)
        ]
    )
    scores = torch.cat([one.scores for one in found])
    classes = torch.cat([one.pred_classes for one in found])
    is_cut = torch.cat([find_cut(v, one, size) for v, one in zip(views, found, strict=True)])
    kept = _merge(boxes, scores, classes, is_cut, nms_threshold=nms_threshold)
    merged = Instances(size, pred_boxes=Boxes(boxes[kept]), scores=scores[kept])
    merged.pred_classes = classes[kept]
    counts = [len(one) for one in found]
    view_of = np.repeat(np.arange(len(views)), counts)
    place_in = np.concatenate([np.arange(count) for count in counts])
    places = [(views[view_of[i]], found[view_of[i]], int(place_in[i])) for i in kept.tolist()]
    if found[0].has("pred_masks"):
        masks = torch.zeros((len(kept), *size), dtype=torch.bool, device=boxes.device)
        for mask, (view, one, i) in zip(masks, places, strict=True):
            mask[view.top : view.bottom, view.left : view.right] = one.pred_masks[i]
        merged.pred_masks = masks
    if found[0].has("pred_keypoints"):
        points = torch.cat([one.pred_keypoints for one in found])[kept]
        starts = points.new_tensor([view[:2] for view, _, _ in places]).reshape(-1, 1, 2)
        merged.pred_keypoints = torch.cat([points[..., :2] + starts, points[..., 2:]], dim=2)
    return merged


def find_cut(view: View, found: Instances, size: tuple[int, int]) -> Tensor:
    """Which boxes end where their view ends inside the picture, (N,) bool."""
    height, width = size
    is_inner = (view.left > 0, view.top > 0, view.right < width, view.bottom < height)
    box = found.pred_boxes.tensor
    sides = box.new_tensor([view.right - view.left, view.bottom - view.top] * 2)
    ends = torch.cat([box[:, :2], sides[:2] - box[:, 2:]], dim=1)
    return ((ends <= EDGE * sides) & torch.tensor(is_inner, device=box.device)).any(dim=1)


def _merge(
    boxes: Tensor, scores: Tensor, classes: Tensor, is_cut: Tensor, *, nms_threshold: float
) -> Tensor:
    """Indices of the boxes that are kept, the best first."""
    whole, cut = (torch.nonzero(mask).flatten() for mask in (~is_cut, is_cut))
    whole = whole[batched_nms(boxes[whole], scores[whole], classes[whole], nms_threshold)]
    if len(cut) and len(whole):
        apart = (classes * (boxes.max() + 1))[:, None].to(boxes)  # boxes of other classes
        inside = _share_inside(boxes[cut] + apart[cut], boxes[whole] + apart[whole])
        cut = cut[inside.amax(dim=1) < PART]
    left = torch.cat([whole, cut])
    return left[batched_nms(boxes[left], scores[left], classes[left], nms_threshold)]


def _share_inside(inner: Tensor, outer: Tensor) -> Tensor:
    """What share of the area of each inner box (N, 4) lies in each outer one (M, 4): (N, M)."""
    low = torch.maximum(inner[:, None, :2], outer[None, :, :2])
    high = torch.minimum(inner[:, None, 2:], outer[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    area = (inner[:, 2:] - inner[:, :2]).prod(dim=1)
    return shared / area.clamp(min=1e-6)[:, None]
