"""Classifiers of torchvision as Detectron2 backbones.

Registered builders, for ``MODEL.BACKBONE.NAME``; ``MODEL.TORCHVISION.NAME`` is the network:

- ``build_torchvision_backbone``: features ``c2`` to ``c5``.
- ``build_torchvision_fpn_backbone``: P2 to P6 for Faster, Mask and Cascade R-CNN.
- ``build_retinanet_torchvision_fpn_backbone``: P3 to P7 for RetinaNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from torchvision.models.feature_extraction import create_feature_extractor

from nasnet_det import libraries
from nasnet_det.detection.feature_pyramid import build_fpn, build_retinanet_fpn
from nasnet_det.detection.library_backbone import (
    FEATURES,
    PROBE_SIZE,
    LibraryBackbone,
    build_library_backbone,
    build_library_bottom_up,
    choose_features,
)
from nasnet_det.detection.torchvision_features import find_features, find_stem


class TorchvisionBackbone(LibraryBackbone):
    """A classifier of torchvision; its parameters have torchvision's names behind ``trunk.``.

    Args:
        name: such as ``resnet50``, ``convnext_tiny`` or ``efficientnet_b0``.
        weights: of its weights' names, such as ``IMAGENET1K_V2`` or ``DEFAULT``; "" for none.
        out_features, last_feature: see :class:`~nasnet_det.detection.NASNetBackbone`.
        freeze_at, norm: see :class:`LibraryBackbone`.

    Raises:
        InputError: there is no such network, or it can't be one of a detector.
    """

    node = "MODEL.TORCHVISION"
    weights_key = ("WEIGHTS", "DEFAULT")

    @configurable
    def __init__(
        self,
        name: str,
        *,
        weights: str = "",
        out_features: Sequence[str] = FEATURES,
        last_feature: str | None = None,
        freeze_at: int = 0,
        norm: str = "",
    ) -> None:
        what = f"torchvision's {name}"
        model = libraries.build_torchvision(name, weights, "MODEL.TORCHVISION.NAME")
        probe = torch.zeros(1, 3, *PROBE_SIZE)
        nodes = find_features(model, probe)
        levels, features = choose_features(what, list(nodes), out_features, last_feature)
        trunk = create_feature_extractor(model, {nodes[level]: level for level in levels})
        stem = find_stem(trunk, probe)
        super().__init__(what, trunk, levels, features, stem=stem, freeze_at=freeze_at, norm=norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        """Arguments from ``MODEL.TORCHVISION`` and ``MODEL.BACKBONE.FREEZE_AT``."""
        node = cfg.MODEL.TORCHVISION
        return {
            "name": node.NAME,
            "weights": "" if cfg.MODEL.WEIGHTS else node.WEIGHTS,
            "out_features": node.OUT_FEATURES,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "norm": node.NORM,
        }

    def compute(self, image: torch.Tensor) -> Sequence[torch.Tensor]:
        """See the base."""
        return list(self.trunk(image).values())


@BACKBONE_REGISTRY.register()
def build_torchvision_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> LibraryBackbone:
    """The plain backbone from a config."""
    return build_library_backbone(TorchvisionBackbone, cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """P2 to P6, from ``MODEL.FPN``'s options."""
    return build_fpn(cfg, build_library_bottom_up(TorchvisionBackbone, cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_retinanet_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """P3 to P7, from ``MODEL.FPN``'s options."""
    return build_retinanet_fpn(cfg, build_library_bottom_up(TorchvisionBackbone, cfg, input_shape))
