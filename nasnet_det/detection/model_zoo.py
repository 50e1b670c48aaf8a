"""Models and configs of this package by name, in the habit of ``detectron2.model_zoo``.

::

    from nasnet_det.detection import model_zoo

    model = model_zoo.get("COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml")
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from omegaconf import DictConfig
from torch import nn

from nasnet_det.config import ConfigError, get_config_file
from nasnet_det.detection import config as defaults
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.lazy_config import get_lazy_config
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.trainer import Trainer

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

TRAINED = {
    "COCO-Detection/faster_rcnn_nasnet_a_large_C4_1200_tf.yaml": (
        "nasnet://nasnet_a_large.tf_detection"
    )
}
"""Config -> the published weights of its whole detector."""


def get_checkpoint_url(config_path: str) -> str:
    """Where the trained weights of a config's detector are, for ``MODEL.WEIGHTS``.

    Raises:
        ConfigError: nobody has published any; those that are there are named.
    """
    if config_path not in TRAINED:
        raise ConfigError(
            f"{config_path}: nobody has published trained weights of this detector, only of "
            f"{', '.join(TRAINED)}; leave trained out, and train it"
        )
    return TRAINED[config_path]


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """A config by its path under ``configs/``: YAML, or a lazy one that ends with ``.py``.

    Args:
        config_path: for example ``COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml``.
        trained: ``MODEL.WEIGHTS`` are those of the whole detector; else what the config says.

    Raises:
        ConfigError: there is no such config, or nobody has published its weights.
    """
    url = get_checkpoint_url(config_path) if trained else ""
    if config_path.endswith(".py"):
        return get_lazy_config(config_path)
    cfg = defaults.get_config(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = url
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """A model by the path of its config, in training mode, with the weights that this names.

    Args:
        config_path, trained: see :func:`get_config`.
        device: in place of the config's; None: that, or the CPU where there is no GPU.

    Raises:
        ConfigError: see :func:`get_config`, or the model can't be built.
        CheckpointError: its weights can't be had.
    """
    cfg: Any = get_config(config_path, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if not isinstance(cfg, CfgNode):
        model: nn.Module = instantiate(cfg.model)
        return model.to(device) if device else model
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    adopt_pools(cfg)
    model = Trainer.build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        Checkpointer(model, is_trained=trained).load(cfg.MODEL.WEIGHTS)
    return model
