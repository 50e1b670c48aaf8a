"""Published weights under a detector: ``MODEL.WEIGHTS nasnet://nasnet_a_large.timm``.

Importing this registers ``nasnet://`` with Detectron2.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from nasnet_det.backbone_file import read_card
from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone_card import compare_preprocessing
from nasnet_det.weights.file import read_description, read_weights
from nasnet_det.weights.published import PREFIX, PublishedWeightsHandler

PathManager.register_handler(PublishedWeightsHandler())


def adopt_pools(cfg: CfgNode, *, resume: bool = False) -> None:
    """Set an empty ``MODEL.NASNET.POOL_PADDING`` to what ``MODEL.WEIGHTS`` were trained with.

    The tools of this project do so; a project with Detectron2's own trainer calls this before it
    builds the model. Weights that don't tell have ``tf``.

    Args:
        cfg: changed in place.
        resume: the run of ``OUTPUT_DIR`` goes on, with the pools that it has.

    Raises:
        ConfigError: converted weights were trained on other input than this config's.
        CheckpointError: the weights of ``nasnet://`` can't be had.
    """
    node = cfg.MODEL.NASNET
    if "nasnet" not in cfg.MODEL.BACKBONE.NAME:
        return
    saved = Path(cfg.OUTPUT_DIR, "config.yaml")
    if resume and saved.is_file() and not node.POOL_PADDING:
        node.POOL_PADDING = _find_in_config(saved.read_text())
    path = cfg.MODEL.WEIGHTS
    if path.startswith(PREFIX):
        path = PathManager.get_local_path(path)
    if not os.path.isfile(path):  # none, or one that is fetched later and is none of ours
        node.POOL_PADDING = node.POOL_PADDING or "tf"
        return
    description = read_description(path)
    node.POOL_PADDING = node.POOL_PADDING or description.get("pool_padding") or _find_pools(path)
    _check_preprocessing(cfg, description.get("preprocessing"))


def _find_pools(path: str) -> str:
    """Of a backbone of ours, or of a checkpoint of a detector's training."""
    card = read_card(path)
    if card is not None:
        return card.spec.pool_padding
    if not path.endswith(".pth"):
        return "tf"
    try:
        config = read_weights(path, mmap=True).get("config")
    except ValueError:  # who loads the weights says so
        return "tf"
    return (_find_in_config(config) if isinstance(config, str) else "") or "tf"


def _find_in_config(text: str) -> str:
    """``MODEL.NASNET.POOL_PADDING`` of a config in YAML, "" where it has none."""
    try:
        return str(yaml.safe_load(text)["MODEL"]["NASNET"]["POOL_PADDING"])
    except (yaml.YAMLError, LookupError, TypeError):
        return ""


def _check_preprocessing(cfg: CfgNode, trained: dict[str, Any] | None) -> None:
    if trained is None:
        return
    mean, std = ([255 * value for value in trained[key]] for key in ("mean", "std"))
    faults = compare_preprocessing(cfg, trained["channels"], mean, std)
    if faults:
        raise ConfigError(
            f"{cfg.MODEL.WEIGHTS} was trained on other input than this config's: "
            f"{'; '.join(faults)}"
        )
