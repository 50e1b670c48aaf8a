"""An FPN on a backbone whose features are ``c2`` to ``c5``, from ``MODEL.FPN``'s options."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.modeling import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from nasnet_det.config import ConfigError


def build_bottom_up(cfg: CfgNode, key: str, build: Callable[[str | None], Backbone]) -> Backbone:
    """A backbone up to the last of ``MODEL.FPN.IN_FEATURES``.

    These must be neighbours of the backbone's features, from high to low resolution.

    Args:
        cfg: the config.
        key: of the features.
        build: makes the backbone with this last feature; None: with all.

    Raises:
        ConfigError: they are not.
    """
    features: Sequence[str] = cfg
    for part in key.split("."):
        features = features[part]  # type: ignore[call-overload]
    given = list(cfg.MODEL.FPN.IN_FEATURES)
    bottom_up = build(given[-1] if given and given[-1] in features else None)
    if not given or given != list(bottom_up.output_shape())[-len(given) :]:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES: wanted neighbours of {key} {list(features)} in that order, "
            f"got {given}"
        )
    return bottom_up


def build_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """P2 to P5 and a P6 by subsampling."""
    top_block = LastLevelMaxPool()
    top_block.in_feature = "p" + cfg.MODEL.FPN.IN_FEATURES[-1][1:]
    return _build(cfg, bottom_up, top_block)


def build_retinanet_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """P3 to P5, and P6 and P7 by strided convolutions on C5."""
    last = cfg.MODEL.FPN.IN_FEATURES[-1]
    channels = bottom_up.output_shape()[last].channels
    return _build(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, last))


def _build(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
