"""Pictures through a trained detector: what it found as COCO's JSON, and drawn."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from PIL import Image

from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_pixels
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.run import check_names, use_available_device
from nasnet_det.runs.files import write_content


class Predicted(NamedTuple):
    """What :func:`predict` did.

    Attributes:
        num_pictures: that it looked at.
        unreadable: why it could not look at others, one sentence each.
    """

    num_pictures: int
    unreadable: list[str]


def predict(
    cfg: CfgNode,
    pictures: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    threshold: float = 0.5,
    on_picture: Callable[[Path], object] = lambda _: None,
) -> Predicted:
    """Find objects in pictures.

    Args:
        cfg: of the training; ``MODEL.WEIGHTS`` is its checkpoint. It is not changed.
        pictures: files, and folders with pictures in them.
        output: is made, and gets each picture with its boxes drawn, and predictions.json in COCO's
            format with all scores.
        threshold: of the score, 0 to 1, for drawing.
        on_picture: is told each one before it is read.

    Raises:
        InputError: there is no picture, or the config or the weights can't be used.
    """
    paths = find_pictures(pictures)
    predictor = Predictor(_prepare_prediction(cfg))
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    coco: dict[str, Any] = {
        "info": {"weights": predictor.cfg.MODEL.WEIGHTS},
        "images": [],
        "annotations": [],
        "categories": predictor.categories,
    }
    unreadable = []
    for path in paths:
        on_picture(path)
        try:
            image = read_pixels(path)
        except DataError as error:
            unreadable.append(str(error))
            continue
        instances = predictor(image)
        image_id = len(coco["images"]) + 1
        height, width = image.shape[:2]
        name = _free_name(path, {item["drawn"] for item in coco["images"]})
        size = {"width": width, "height": height}
        coco["images"].append({"id": image_id, "file_name": str(path), "drawn": name, **size})
        coco["annotations"] += predictor.to_annotations(instances, image_id)
        drawn = predictor.draw(image, instances[instances.scores >= threshold])
        Image.fromarray(drawn).save(folder / name)
    for number, annotation in enumerate(coco["annotations"], start=1):
        annotation["id"] = number
    write_content(folder / "predictions.json", json.dumps(coco))
    return Predicted(len(coco["images"]), unreadable)


def _prepare_prediction(cfg: CfgNode) -> CfgNode:
    """The config, on a device that is there."""
    cfg = cfg.clone()
    cfg.defrost()
    check_names(cfg)
    adopt_pools(cfg)
    with contextlib.suppress(DataError):  # the training's data may be elsewhere by now
        register_config_datasets(cfg)
    use_available_device(cfg)
    cfg.freeze()
    return cfg


def _free_name(path: Path, taken: set[str]) -> str:
    """``photo.png``, or ``photo_2.png`` where two folders have a ``photo``."""
    names = (f"{path.stem}{'' if i == 1 else f'_{i}'}.png" for i in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
