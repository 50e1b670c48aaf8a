"""Published classifiers: their weights, and what has to hold for their published accuracy."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.network import NASNet
from nasnet_det.weights.file import read_description
from nasnet_det.weights.published import PREFIX, load_published

logger = logging.getLogger(__name__)


def is_published(weights: str) -> bool:
    """Whether ``MODEL.WEIGHTS`` is ``nasnet://`` with a name, or a file of convert_weights.py."""
    return weights.startswith(PREFIX) or bool(read_description(weights))


def build_published(cfg: CfgNode, classes: Sequence[str]) -> NASNet:
    """The classifier of ``MODEL.WEIGHTS``, with the pools of who published it.

    What the published accuracy is measured at, where that is known, is logged.

    Args:
        cfg: the config; its network and its input must be those of the weights.
        classes: names of the classes of the data.

    Raises:
        ConfigError: network, input or classes are others.
        CheckpointError: the weights can't be had or read.
    """
    converted = load_published(cfg.MODEL.WEIGHTS)
    about, faults = converted.metadata, []
    if about["variant"] != cfg.MODEL.NASNET.VARIANT:
        faults.append(f"MODEL.NASNET.VARIANT: wanted {about['variant']}")
    prepared = about["preprocessing"]
    for key, wanted in (("PIXEL_MEAN", prepared["mean"]), ("PIXEL_STD", prepared["std"])):
        if list(cfg.DATA[key]) != [255 * value for value in wanted]:
            faults.append(f"DATA.{key}: wanted {[255 * value for value in wanted]}")
    if about["num_classes"] != len(classes):
        faults.append(f"DATA.PATH: wanted {about['num_classes']} classes, got {len(classes)}")
    elif "WordNet" in about["class_order"] and not all(
        re.fullmatch(r"n\d{8}", name) for name in classes
    ):
        faults.append(f"DATA.PATH: wanted folders named by WordNet id, got {classes[0]}")
    if faults:
        raise ConfigError(
            f"{cfg.MODEL.WEIGHTS} does not fit the config and the data: {'; '.join(faults)}"
        )
    crop = prepared.get("crop_fraction")
    logger.info(
        "The published accuracy is measured at DATA.IMAGE_SIZE %d%s",
        prepared["input_size"],
        f" and TEST.CROP_FRACTION {crop}" if crop else "",
    )
    return converted.build_model()
