"""Faster R-CNN as TensorFlow's Object Detection API computes it, for the weights trained there.

A detector that was trained with TensorFlow's rules gives its published results only by these; a new
one does not need them. They concern inference. A training goes by Detectron2's rules for labels,
sampling and losses. What differs from Detectron2:

- the first convolution of the RPN ends in ReLU6;
- anchors are clipped to the image before boxes are decoded from them;
- non-maximum suppression sees boxes before they are clipped, all of the RPN's and not only the best
  thousands, and ends with the wanted number; boxes without an area fall out after it;
- the corners of a region are the outer sample positions of its crop, and the corners of the image
  are the centres of the outer positions of the feature map;
- COCO's 80 classes are 80 of 90 logits.

Sources: faster_rcnn_meta_arch.py, grid_anchor_generator.py, post_processing.py,
faster_rcnn_box_coder.py of the Object Detection API; ``tf.image.crop_and_resize``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator.rpn import RPN, RPN_HEAD_REGISTRY, StandardRPNHead
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn
from torchvision.ops import nms

from nasnet_det.detection.roi_heads import NASNetROIHeads
from nasnet_det.errors import InputError

LARGEST_LOG_SCALE = 80.0
"""Detectron2 lets a box grow to 1000 / 16 times its anchor, TensorFlow to exp(80) times."""


def suppress(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, limit: int
) -> torch.Tensor:
    """The first ``limit`` boxes of a non-maximum suppression.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: a box goes if it overlaps by more with a better one that stays.
        limit: the most boxes to keep.

    Returns:
        indices of at most ``limit`` boxes, the best first.
    """
    order = scores.argsort(descending=True, stable=True)
    # What the best n boxes suppress among themselves does not depend on the others.
    n = 12 * limit
    while True:
        best = order[:n]
        kept = best[nms(boxes[best], scores[best], iou_threshold)][:limit]
        if len(kept) == limit or n >= len(order):
            return kept
        n *= 4


@RPN_HEAD_REGISTRY.register()
class TFRPNHead(StandardRPNHead):
    """Detectron2's RPN head with ReLU6 for ReLU."""

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> Conv2d:
        conv = super()._get_rpn_conv(in_channels, out_channels)
        conv.activation = nn.ReLU6()
        return conv


@PROPOSAL_GENERATOR_REGISTRY.register()
class TFRPN(RPN):
    """An RPN that proposes by TensorFlow's rules; ``MODEL.RPN.PRE_NMS_TOPK_*`` have no say."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """As Detectron2's, with larger boxes."""
        arguments = super().from_config(cfg, input_shape)
        weights = cfg.MODEL.RPN.BBOX_REG_WEIGHTS
        arguments["box2box_transform"] = Box2BoxTransform(weights, LARGEST_LOG_SCALE)
        return arguments

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode, suppress, clip; see Detectron2's method for the arguments."""
        proposals = []
        tiled = Boxes.cat(anchors)
        all_logits = torch.cat(pred_objectness_logits, dim=1).float()
        all_deltas = torch.cat(pred_anchor_deltas, dim=1).float()
        for logits, deltas, size in zip(all_logits, all_deltas, image_sizes, strict=True):
            clipped = tiled.clone()
            if not self.training:
                clipped.clip(size)
            boxes = self.box2box_transform.apply_deltas(deltas, clipped.tensor)
            kept = suppress(boxes, logits, self.nms_thresh, self.post_nms_topk[self.training])
            found = Instances(size)
            found.proposal_boxes = Boxes(boxes[kept])
            found.objectness_logits = logits[kept]
            proposals.append(_clip(found, found.proposal_boxes))
        return proposals


def _clip(found: Instances, boxes: Boxes) -> Instances:
    """Clip the boxes of instances to the image and drop those that have no area there."""
    boxes.clip(found.image_size)
    return found[boxes.nonempty()]


class CropAndResize(nn.Module):
    """Regions of a feature map by bilinear interpolation, as ``tf.image.crop_and_resize``.

    Args:
        size: height and width of a crop; both outer sample positions lie on the region's edge.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(
        self, features: torch.Tensor, boxes: list[torch.Tensor], image_size: tuple[int, int]
    ) -> torch.Tensor:
        """Crop the regions of all images.

        Args:
            features: (B, C, H, W).
            boxes: B times (R_i, 4), x0, y0, x1, y1 in pixels.
            image_size: height and width in pixels of what the features were computed from.

        Returns:
            (sum of R_i, C, size, size).
        """
        height, width = image_size
        dtype = torch.promote_types(features.dtype, torch.float32)
        steps = torch.linspace(0, 1, self.size, device=features.device)
        crops = []
        for feature, regions in zip(features, boxes, strict=True):
            x0, y0, x1, y1 = (regions[:, i, None] for i in range(4))
            # From 0 to 1, the centres of the map's first and last position.
            x = (x0 + (x1 - x0) * steps) / width
            y = (y0 + (y1 - y0) * steps) / height
            grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
            # All regions in one column, so that the map is not repeated for each.
            column = (2 * grid - 1).reshape(1, -1, self.size, 2)
            crop = F.grid_sample(
                feature[None].to(dtype), column.to(dtype), padding_mode="border", align_corners=True
            )
            crops.append(crop[0].unflatten(1, (-1, self.size)).transpose(0, 1))
        return torch.cat(crops).to(features.dtype)


class TFBoxPredictor(FastRCNNOutputLayers):
    """Detectron2's box predictor with TensorFlow's order of clipping and suppression.

    Args:
        input_shape, **kwargs: as in Detectron2.
        num_unused_classes: logits behind the background's that are no class. They count as
            background.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_unused_classes: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(input_shape, **kwargs)
        if num_unused_classes < 0:
            raise InputError(f"UNUSED_CLASSES: wanted at least 0, got {num_unused_classes}")
        if num_unused_classes:
            outputs = self.num_classes + 1 + num_unused_classes
            self.cls_score = nn.Linear(self.bbox_pred.in_features, outputs)
            nn.init.normal_(self.cls_score.weight, std=0.01)
            nn.init.zeros_(self.cls_score.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """As Detectron2's, and ``MODEL.NASNET.UNUSED_CLASSES``."""
        arguments = super().from_config(cfg, input_shape)
        weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        arguments["box2box_transform"] = Box2BoxTransform(weights, LARGEST_LOG_SCALE)
        return {**arguments, "num_unused_classes": cfg.MODEL.NASNET.UNUSED_CLASSES}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, channels) -> logits (R, classes + 1) and boxes (R, classes * 4)."""
        logits, deltas = super().forward(x)
        # The softmax of the sum's logarithm is the sum of the softmaxes.
        background = logits[:, self.num_classes :].logsumexp(dim=1, keepdim=True)
        return torch.cat([logits[:, : self.num_classes], background], dim=1), deltas

    def inference(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """Suppress in each class, clip, take the best; see Detectron2's method."""
        all_boxes = self.predict_boxes(predictions, proposals)
        all_scores = self.predict_probs(predictions, proposals)
        found, regions = [], []
        for boxes, scores, proposal in zip(all_boxes, all_scores, proposals, strict=True):
            selected = self._select(boxes.float(), scores.float(), proposal.image_size)
            regions.append(selected.region)
            selected.remove("region")
            found.append(selected)
        return found, regions

    def _select(
        self, boxes: torch.Tensor, scores: torch.Tensor, image_size: tuple[int, int]
    ) -> Instances:
        """Detections of one image, with the region that each comes from."""
        by_class = boxes.unflatten(1, (-1, 4)).expand(-1, self.num_classes, -1)
        limit = self.test_topk_per_image if self.test_topk_per_image >= 0 else boxes.numel()
        kept = []
        for label in range(self.num_classes):
            regions = (scores[:, label] > self.test_score_thresh).nonzero()[:, 0]
            chosen = suppress(
                by_class[regions, label],
                scores[regions, label],
                self.test_nms_thresh,
                limit,
            )
            kept.append(torch.stack([regions[chosen], torch.full_like(chosen, label)], dim=1))
        pairs = torch.cat(kept)
        order = scores[pairs[:, 0], pairs[:, 1]].argsort(descending=True, stable=True)
        found = Instances(image_size)
        found.region, found.pred_classes = pairs[order].unbind(1)
        found.scores = scores[found.region, found.pred_classes]
        found.pred_boxes = Boxes(by_class[found.region, found.pred_classes])
        return _clip(found, found.pred_boxes)[:limit]


@ROI_HEADS_REGISTRY.register()
class TFNASNetROIHeads(NASNetROIHeads):
    """The C4 detector's ROI heads with TensorFlow's crops and selection of boxes."""

    _image_size = (0, 0)  # of the batch, which boxes alone don't tell

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """As for :class:`~nasnet_det.detection.roi_heads.NASNetROIHeads`."""
        arguments = super().from_config(cfg, input_shape)
        arguments["pooler"] = CropAndResize(cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION)
        channels = arguments["res5"].out_channels
        arguments["box_predictor"] = TFBoxPredictor(cfg, ShapeSpec(channels=channels))
        return arguments

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """See Detectron2's method."""
        height, width = images.tensor.shape[-2:]
        self._image_size = (height, width)
        return super().forward(images, features, proposals, targets)

    def _shared_roi_transform(
        self, features: list[torch.Tensor], boxes: list[Boxes]
    ) -> torch.Tensor:
        return self.res5(self.pooler(features[0], [b.tensor for b in boxes], self._image_size))
