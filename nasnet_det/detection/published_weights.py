"""Published weights under a detector: ``MODEL.WEIGHTS nasnet://nasnet_a_large.timm``.

Importing this registers ``nasnet://`` with Detectron2.
"""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from nasnet_det.config import parse_yaml
from nasnet_det.detection.backbone_card import read_backbone_description
from nasnet_det.weights.file import read_description
from nasnet_det.weights.published import PublishedWeightsHandler, find_weights

PathManager.register_handler(PublishedWeightsHandler())


def adopt_pools(cfg: CfgNode, *, resume: bool = False) -> None:
    """Set an empty ``MODEL.NASNET.POOL_PADDING`` to what ``MODEL.WEIGHTS`` were trained with.

    The tools of this project do so; a project with Detectron2's own trainer calls this before it
    builds the model. Weights that don't tell have ``tf``.

    Args:
        cfg: changed in place.
        resume: the run of ``OUTPUT_DIR`` goes on, with the pools that it has.

    Raises:
        CheckpointError: the weights of ``nasnet://`` can't be had.
    """
    node = cfg.MODEL.NASNET
    if "nasnet" not in cfg.MODEL.BACKBONE.NAME:
        return
    if resume and not node.POOL_PADDING:
        node.POOL_PADDING = _read_pools_of_run(Path(cfg.OUTPUT_DIR, "config.yaml"))
    if resume and node.POOL_PADDING:
        return  # and the weights that it began with may be gone
    path = find_weights(cfg.MODEL.WEIGHTS)
    node.POOL_PADDING = (
        node.POOL_PADDING
        or read_description(path).get("pool_padding")
        or read_backbone_description(path).get("pool_padding")
        or "tf"
    )


def _read_pools_of_run(config_file: Path) -> str:
    """Of the config that a run wrote, "" where there is none."""
    try:
        config = parse_yaml(config_file.read_text(), str(config_file))
        return str(config["MODEL"]["NASNET"]["POOL_PADDING"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
