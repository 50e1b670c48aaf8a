"""Networks of timm as Detectron2 backbones.

Registered builders, for ``MODEL.BACKBONE.NAME``; ``MODEL.TIMM.NAME`` is the network:

- ``build_timm_backbone``: features ``c2`` to ``c5``.
- ``build_timm_fpn_backbone``: P2 to P6 for Faster, Mask and Cascade R-CNN.
- ``build_retinanet_timm_fpn_backbone``: P3 to P7 for RetinaNet.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN

from nasnet_det import libraries
from nasnet_det.detection.feature_pyramid import build_fpn, build_retinanet_fpn
from nasnet_det.detection.library_backbone import (
    FEATURES,
    LibraryBackbone,
    build_library_backbone,
    build_library_bottom_up,
    choose_features,
)
from nasnet_det.errors import InputError

# Arguments of timm's transformers that let pictures have any size.
ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


class TimmBackbone(LibraryBackbone):
    """A network of timm; its parameters have timm's names behind ``trunk.``.

    Args:
        name: any that has features, with or without the tag of its weights: ``resnet50``,
            ``convnext_tiny.fb_in22k``, ``hf-hub:owner/name``.
        pretrained: start from timm's weights.
        out_features, last_feature: see :class:`~nasnet_det.detection.NASNetBackbone`.
        freeze_at, norm: see :class:`LibraryBackbone`.
        drop_path_rate: of timm's networks that have one; 0: none.

    Raises:
        InputError: there is no such network, or it can't be one of a detector.
    """

    node = "MODEL.TIMM"
    weights_key = ("PRETRAINED", True)

    @configurable
    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        out_features: Sequence[str] = FEATURES,
        last_feature: str | None = None,
        freeze_at: int = 0,
        norm: str = "",
        drop_path_rate: float = 0.0,
    ) -> None:
        given: dict[str, Any] = {"num_classes": 0}
        if drop_path_rate:
            given["drop_path_rate"] = drop_path_rate
        key = "MODEL.TIMM.NAME"
        trunk: Any = libraries.build_timm(name, key, pretrained=False, **given)
        accepted = inspect.signature(type(trunk).__init__).parameters
        any_size = {k: v for k, v in ANY_SIZE.items() if k in accepted}
        if any_size or pretrained:
            trunk = libraries.build_timm(name, key, pretrained=pretrained, **given, **any_size)
        needed = ("feature_info", "forward_intermediates", "prune_intermediate_layers")
        if not all(hasattr(trunk, method) for method in needed):
            raise InputError(f"timm's {name} gives no features; take another network")
        # The last of each stride. Some are no power of two, and so have no name.
        strides = {info["reduction"]: i for i, info in enumerate(trunk.feature_info)}
        known = {f"c{s.bit_length() - 1}": i for s, i in strides.items() if s & (s - 1) == 0}
        levels, features = choose_features(
            f"timm's {name}", list(known), out_features, last_feature
        )
        groups = libraries.import_timm().models.group_parameters(
            trunk, trunk.group_matcher(coarse=True)
        )
        indices = [known[level] for level in levels]
        self.indices = trunk.prune_intermediate_layers(indices, prune_norm=True)
        super().__init__(
            *(f"timm's {name}", trunk, levels, features),
            stem=groups[0],
            freeze_at=freeze_at,
            norm=norm,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        """Arguments from ``MODEL.TIMM`` and ``MODEL.BACKBONE.FREEZE_AT``."""
        node = cfg.MODEL.TIMM
        return {
            "name": node.NAME,
            # Of no use where other weights come over them.
            "pretrained": node.PRETRAINED and not cfg.MODEL.WEIGHTS,
            "out_features": node.OUT_FEATURES,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "norm": node.NORM,
            "drop_path_rate": node.DROP_PATH_RATE,
        }

    def compute(self, image: torch.Tensor) -> Sequence[torch.Tensor]:
        """See the base."""
        trunk: Any = self.trunk
        maps: list[torch.Tensor] = trunk.forward_intermediates(
            image, indices=self.indices, output_fmt="NCHW", intermediates_only=True
        )
        return maps


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> LibraryBackbone:
    """The plain backbone from a config."""
    return build_library_backbone(TimmBackbone, cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """P2 to P6, from ``MODEL.FPN``'s options."""
    return build_fpn(cfg, build_library_bottom_up(TimmBackbone, cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_retinanet_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """P3 to P7, from ``MODEL.FPN``'s options."""
    return build_retinanet_fpn(cfg, build_library_bottom_up(TimmBackbone, cfg, input_shape))
