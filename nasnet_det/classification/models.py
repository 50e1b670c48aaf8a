"""The classifier that a config describes."""

from __future__ import annotations

from yacs.config import CfgNode

from nasnet_det.classification.library_classifier import LibraryClassifier
from nasnet_det.network import NASNet
from nasnet_det.network_config import config_errors, get_spec_overrides, resolve_network


def build_model(
    cfg: CfgNode, num_classes: int, *, pretrained: bool = False
) -> NASNet | LibraryClassifier:
    """The classifier of a config, with torch's own random numbers.

    Args:
        cfg: the config.
        num_classes: that it tells apart.
        pretrained: where ``MODEL.PRETRAINED`` says so, with the weights of its library.

    Raises:
        ConfigError: there is no such network.
    """
    if cfg.MODEL.NETWORK:
        return LibraryClassifier(
            cfg.MODEL.NETWORK,
            num_classes,
            image_size=cfg.DATA.IMAGE_SIZE,
            pretrained=pretrained and cfg.MODEL.PRETRAINED,
        )
    node = cfg.MODEL.NASNET
    with config_errors():
        spec, cells = resolve_network(
            node.VARIANT,
            node.GENOTYPE,
            input_size=cfg.DATA.IMAGE_SIZE,
            drop_path_prob=node.DROP_PATH_PROB,
            drop_path_schedule=node.DROP_PATH_SCHEDULE,
            dropout=node.DROPOUT,
            norm=node.NORM,
            norm_momentum=node.NORM_MOMENTUM,
            pool_padding=node.POOL_PADDING,
            **get_spec_overrides(node),
        )
        return NASNet(
            spec,
            cells,
            num_classes=num_classes,
            aux_head=cfg.AUX.WEIGHT > 0,
            activation_checkpointing=node.ACTIVATION_CHECKPOINTING,
        )
