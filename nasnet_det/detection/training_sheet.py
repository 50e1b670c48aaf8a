"""What a training's loader gives, drawn."""

from __future__ import annotations

import itertools
import os
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import PolygonMasks, polygons_to_bitmask
from PIL import Image

from nasnet_det.detection.loader import build_train_loader
from nasnet_det.detection.trial import prepare_trial
from nasnet_det.doctor.writing import check_free
from nasnet_det.drawing.sheet import DrawnObject, draw_tile, find_format, write_sheet
from nasnet_det.errors import InputError

MAX_PICTURES = 240


def draw_training(cfg: CfgNode, path: str, *, num_pictures: int = 24) -> tuple[int, int]:
    """Draw the first pictures that a training of a config sees, as it sees them, into one picture.

    Args:
        cfg: see :func:`~nasnet_det.detection.config.get_config`; it is not changed. With a ``SEED``
            of its own, these are the first pictures of a training with it in one process.
        path: of the picture to write; its suffix says the format.
        num_pictures: from 1 to 240.

    Returns:
        how many pictures and how many objects are drawn.

    Raises:
        InputError: the config, the data or the number can't be used.
        FileError: the sheet can't be written, or something lies there.
    """
    picture_format = find_format(path)
    check_free(path)
    if not 1 <= num_pictures <= MAX_PICTURES:
        raise InputError(f"wanted 1 to {MAX_PICTURES} pictures, got {num_pictures}")
    cfg = prepare_trial(cfg)
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # which changes no picture
    batches = build_train_loader(cfg)
    records = itertools.islice(itertools.chain.from_iterable(batches), num_pictures)
    names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", [])
    tiles, num_objects = [], 0
    for record in records:
        objects = _list_objects(record, names)
        num_objects += len(objects)
        pixels = convert_image_to_rgb(record["image"].permute(1, 2, 0), cfg.INPUT.FORMAT)
        height, width = pixels.shape[:2]
        text = f"{width}x{height} {os.path.basename(record['file_name'])}"
        tiles.append(draw_tile(Image.fromarray(pixels), objects, text))
    write_sheet(path, tiles, picture_format)
    return len(tiles), num_objects


def _list_objects(record: dict[str, Any], names: list[str]) -> list[DrawnObject]:
    instances = record.get("instances")
    if instances is None:
        return []
    found = []
    for number in range(len(instances)):
        label = int(instances.gt_classes[number])
        x0, y0, x1, y1 = instances.gt_boxes.tensor[number].tolist()
        mask = None
        if instances.has("gt_masks"):
            masks = instances.gt_masks
            if isinstance(masks, PolygonMasks):
                mask = polygons_to_bitmask(masks.polygons[number], *instances.image_size)
            else:
                mask = torch.as_tensor(masks.tensor[number]).bool().numpy()
        name = names[label] if label < len(names) else str(label)
        found.append(DrawnObject((x0, y0, x1, y1), label, name, mask))
    return found
