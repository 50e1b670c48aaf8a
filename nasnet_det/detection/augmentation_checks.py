"""Whether the keys for the augmentation of training pictures fit each other and the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.detection import albumentations_file
from nasnet_det.detection.augmentation import KEY, OF_RGB, SIZES, build_augmentations, list_names
from nasnet_det.detection.config_relations import are_numbers, refuse
from nasnet_det.runs.seeds import derive_seed, seeded

NUM_TRIED = 16  # pictures with boxes; of a pipeline that drops all of theirs nothing is learned


def check_augmentation(cfg: CfgNode) -> None:
    """See that training pictures can be augmented as ``INPUT`` says.

    Raises:
        ConfigError: they can't.
    """
    node = cfg.INPUT
    if "AUGMENTATIONS" not in node:  # a config without the keys of add_nasnet_config
        return
    build_augmentations(node.AUGMENTATIONS)
    names = list_names(node.AUGMENTATIONS)
    sizes = [name for name in names if name in SIZES]
    if sizes and list(node.MIN_SIZE_TRAIN) != [0]:
        refuse("INPUT.MIN_SIZE_TRAIN", f"[0], since {KEY} has {sizes[0]}", node.MIN_SIZE_TRAIN)
    colours = [name for name in names if name in OF_RGB]
    if colours and node.FORMAT != "RGB":
        refuse("INPUT.FORMAT", f"RGB, since {KEY} has {colours[0]}", node.FORMAT)
    for name in ("MOSAIC", "COPY_PASTE"):
        scale = node[name].SCALE
        if len(scale) != 2 or not are_numbers(scale) or not 0 < scale[0] <= scale[1] <= 4:
            refuse(f"INPUT.{name}.SCALE", "two rising numbers in (0, 4]", scale)
        if node[name].PROB and cfg.MODEL.META_ARCHITECTURE in ("PanopticFPN", "SemanticSegmentor"):
            wanted = f"0, since {cfg.MODEL.META_ARCHITECTURE} learns segments, which aren't mixed"
            refuse(f"INPUT.{name}.PROB", wanted, node[name].PROB)
    if node.ALBUMENTATIONS:
        _check_pipeline(cfg)
    masked = "INPUT.ALBUMENTATIONS" if node.ALBUMENTATIONS else ""
    masked = "INPUT.COPY_PASTE.PROB" if node.COPY_PASTE.PROB else masked
    if masked and cfg.MODEL.MASK_ON and node.MASK_FORMAT != "bitmask":
        refuse("INPUT.MASK_FORMAT", f"bitmask, since {masked} changes masks", node.MASK_FORMAT)


def _check_pipeline(cfg: CfgNode) -> None:
    key, path = albumentations_file.KEY, cfg.INPUT.ALBUMENTATIONS
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        refuse("INPUT.FORMAT", f"RGB or BGR, since {key} is {path}", cfg.INPUT.FORMAT)
    if cfg.MODEL.KEYPOINT_ON:
        refuse(key, "none, since MODEL.KEYPOINT_ON is True, and a flip would mix sides up", path)
    if cfg.MODEL.META_ARCHITECTURE in ("PanopticFPN", "SemanticSegmentor"):
        refuse(key, f"none, since {cfg.MODEL.META_ARCHITECTURE} learns segments too", path)
    albumentations_file.AlbumentationsPipeline(path, image_format=cfg.INPUT.FORMAT)


def check_boxes_are_left(mapper: Any, records: Sequence[Any], *, seed: int) -> None:
    """Try the pipeline of a mapper on the first pictures with boxes.

    Args:
        mapper: a :class:`~nasnet_det.detection.mapper.PictureMapper`, or any other.
        records: of the training.
        seed: of the run.

    Raises:
        ConfigError: not one box is left.
    """
    if getattr(mapper, "pipeline", None) is None:
        return
    num_tried = num_boxes = 0
    for number, record in enumerate(records):
        if num_tried == NUM_TRIED:
            break
        boxes = [box for box in record.get("annotations", ()) if not box.get("iscrowd", 0)]
        if not boxes:
            continue
        with seeded(derive_seed(seed, number)):
            mapped = mapper(record)
        if mapped is None:
            continue
        if len(mapped["instances"]):
            return
        num_tried, num_boxes = num_tried + 1, num_boxes + len(boxes)
    if num_tried:
        raise ConfigError(
            f"{albumentations_file.KEY}: wanted a pipeline that leaves some boxes, got none of the "
            f"{num_boxes} on the first {num_tried} pictures with {mapper.pipeline.path}; make its "
            "crops larger, or lower min_visibility and min_area in its bbox_params"
        )
