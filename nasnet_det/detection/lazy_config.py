"""NASNets in Detectron2's lazy configs: models from its zoo, and the checks that YAML configs have.

``configs/common/models/`` is made with it. A project of its own loads one of these models and calls
the check before it builds anything::

    from nasnet_det.detection import check_lazy_config, get_lazy_config

    cfg.model = get_lazy_config("common/models/faster_rcnn_nasnet_fpn.py").model
    cfg.train.init_checkpoint = "nasnet://nasnet_a_large.timm"
    check_lazy_config(cfg)
"""

from __future__ import annotations

from typing import Any

from detectron2.config import LazyCall, LazyConfig
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from omegaconf import DictConfig

from nasnet_det.config import ConfigError, get_config_file
from nasnet_det.detection.backbone import NASNetBackbone, NASNetC4Backbone
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.config import get_config
from nasnet_det.detection.published_weights import adopt_pools


def get_lazy_config(name: str) -> DictConfig:
    """A lazy config that comes with the package.

    Args:
        name: for example ``common/models/faster_rcnn_nasnet_fpn.py``.

    Raises:
        ConfigError: there is no such config; the nearest is named.
    """
    config: DictConfig = LazyConfig.load(get_config_file(name))
    return config


def put_nasnet(model: DictConfig, **arguments: Any) -> DictConfig:
    """Put a NASNet under the FPN of a lazy model from Detectron2's zoo, and give it its input.

    Args:
        model: of ``common/models/mask_rcnn_fpn.py``, ``retinanet.py`` or one made of these; changed
            in place.
        **arguments: of :class:`~nasnet_det.detection.NASNetBackbone`, such as ``variant``.

    Returns:
        ``model``.
    """
    first = 3 if "head_in_features" in model else 2  # RetinaNet begins at P3
    features = [f"c{k}" for k in range(first, 6)]
    model.backbone = LazyCall(build_fpn)(
        bottom_up=LazyCall(NASNetBackbone)(
            **{"variant": "nasnet_a_mobile", "norm": "SyncBN", "out_features": features} | arguments
        ),
        out_channels=model.backbone.out_channels,
    )
    model.pixel_mean = [127.5] * 3
    model.pixel_std = [127.5] * 3
    model.input_format = "RGB"
    return model


def build_fpn(
    bottom_up: NASNetBackbone, *, out_channels: int = 256, norm: str = "", fuse_type: str = "sum"
) -> FPN:
    """An FPN over all features of a backbone: P2 to P6, or from ``c3`` on P3 to P7.

    Args:
        bottom_up: its features are the levels.
        out_channels, norm, fuse_type: see Detectron2's ``FPN``.
    """
    shapes = bottom_up.output_shape()
    top = list(shapes)[-1]
    top_block = LastLevelMaxPool()
    if "c2" in shapes:
        top_block.in_feature = f"p{top[1:]}"
    else:
        top_block = LastLevelP6P7(shapes[top].channels, out_channels, top)
    return FPN(bottom_up, list(shapes), out_channels, norm, top_block, fuse_type)


def check_lazy_config(cfg: DictConfig) -> None:
    """Check a lazy config as ``check_backbone`` (backbone_card.py) checks the others.

    The input of the model must be that of the data loaders, and network, pools and input those that
    ``train.init_checkpoint`` was trained with. A ``pool_padding`` that is not given becomes that of
    the weights.

    Args:
        cfg: with ``model``, and with ``train`` and ``dataloader`` where there are such; changed in
            place.

    Raises:
        ConfigError: the model has no NASNet, or something differs; every difference is named.
    """
    network = _find_network(cfg.model)
    for split in ("train", "test"):
        mapper = cfg.get("dataloader", {}).get(split, {}).get("mapper", {})
        given = mapper.get("image_format", cfg.model.input_format)
        if given != cfg.model.input_format:
            raise ConfigError(
                f"dataloader.{split}.mapper.image_format: wanted {cfg.model.input_format}, the "
                f"model's input_format, got {given}"
            )
    keys = get_config()
    keys.MODEL.BACKBONE.NAME = "build_nasnet_backbone"
    keys.MODEL.WEIGHTS = cfg.get("train", {}).get("init_checkpoint", "") or ""
    keys.MODEL.PIXEL_MEAN, keys.MODEL.PIXEL_STD = (
        list(cfg.model.pixel_mean),
        list(cfg.model.pixel_std),
    )
    keys.INPUT.FORMAT = cfg.model.input_format
    node = keys.MODEL.NASNET
    for name, value in network.items():
        key = str(name).upper()
        if key in node and key != "OUT_FEATURES":
            node[key] = value
    adopt_pools(keys)
    check_backbone(keys)
    network.pool_padding = node.POOL_PADDING


def _find_network(model: DictConfig) -> DictConfig:
    """The arguments of the NASNet in a lazy model."""
    targets = [
        t
        for c in (NASNetBackbone, NASNetC4Backbone)
        for t in (c, f"{c.__module__}.{c.__qualname__}")
    ]
    backbone = model.backbone
    for node in (backbone, backbone.get("bottom_up")):
        if isinstance(node, DictConfig) and node.get("_target_") in targets:
            return node
    raise ConfigError(
        "model.backbone: wanted a NASNetBackbone, or one as its bottom_up, got "
        f"{backbone.get('_target_')}"
    )
