"""The user's pictures that say how large the numbers inside a detector become, for int8."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_pixels
from nasnet_det.detection.datasets import find_coco
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.runtime.quantization import NUM_PICTURES

logger = logging.getLogger(__name__)


def read_calibration_images(cfg: CfgNode) -> Iterator[torch.Tensor]:
    """Pictures as a detector gets them in a test, (3, H, W) floats in the scale of bytes.

    Raises:
        ConfigError: there are none.
        DataError: there is no such folder, or none of its pictures can be read.
    """
    resize = build_test_resize(cfg)
    num_read = 0
    for path in find_calibration_pictures(cfg):
        try:
            pixels = read_pixels(path)
        except DataError as error:
            logger.warning("%s, so it calibrates nothing", error)
            continue
        num_read += 1
        given = pixels if cfg.INPUT.FORMAT == "RGB" else pixels[:, :, ::-1]
        seen = resize.get_transform(given).apply_image(given).astype("float32")
        yield torch.as_tensor(seen.transpose(2, 0, 1).copy())
    if not num_read:
        raise DataError("TEST.RUNTIME.CALIBRATION: wanted pictures for int8, got none to read")


def find_calibration_pictures(cfg: CfgNode) -> list[Path]:
    """At most :data:`NUM_PICTURES`, evenly spread.

    They are those of ``TEST.RUNTIME.CALIBRATION``, else of the training.

    Raises:
        ConfigError: there are none.
        DataError: there is no such folder.
    """
    paths: list[Path] = []
    if cfg.TEST.RUNTIME.CALIBRATION:
        paths = find_pictures([cfg.TEST.RUNTIME.CALIBRATION])
    for name in cfg.DATASETS.TRAIN if not paths else ():
        coco = find_coco(name)
        if coco is not None:
            root = MetadataCatalog.get(name).image_root
            paths += [Path(root, file_name) for file_name in coco.file_names]
    if not paths:
        raise ConfigError(
            "TEST.RUNTIME.CALIBRATION: wanted a folder with pictures like those of the test, "
            "which int8 needs and no training set is here to give, got none"
        )
    number = min(NUM_PICTURES, len(paths))
    return [paths[i * len(paths) // number] for i in range(number)]
