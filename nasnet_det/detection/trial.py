"""A few steps of a training that leave nothing behind: its config, after a training's checks."""

from __future__ import annotations

from detectron2.config import CfgNode

from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import check_datasets, register_config_datasets
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.run import choose_seed, use_available_device


def prepare_trial(cfg: CfgNode) -> CfgNode:
    """The config for one process, without what a training does beside its steps.

    Args:
        cfg: see :func:`~nasnet_det.detection.config.get_config`; it is not changed.

    Raises:
        InputError: the config or the data can't be used.
    """
    cfg = cfg.clone()
    cfg.defrost()
    check_values(cfg)
    adopt_pools(cfg)
    check_backbone(cfg)
    register_config_datasets(cfg)
    use_available_device(cfg)
    check_datasets(cfg, eval_only=False)
    choose_seed(cfg, resume=False)
    cfg.TEST.PRECISE_BN.ENABLED = False
    cfg.freeze()
    return cfg
