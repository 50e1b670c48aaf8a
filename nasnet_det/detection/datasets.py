"""Data sets of a config: COCO-format files by their paths, and the check before any work starts.

``register_config_datasets`` gives the files named in ``DATASETS.TRAIN_JSON`` and its siblings to
Detectron2. ``check_datasets`` then reads every data set of the config, those of Detectron2 too, and
turns what would fail hours later, or would silently spoil the result, into one sentence.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from nasnet_det.data.broken_pictures import check_policy
from nasnet_det.data.coco import CocoFile, read_coco
from nasnet_det.data.coco_objects import Objects
from nasnet_det.data.columns import shorten
from nasnet_det.data.error import DataError
from nasnet_det.detection.records import build_records, find_trained
from nasnet_det.genotype import nearest

# Which key counts the classes; an architecture that is not listed may have a key of its own.
NUM_CLASSES_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
}

logger = logging.getLogger(__name__)


def register_config_datasets(cfg: CfgNode) -> None:
    """Register the COCO-format files that a config names and set the keys that follow from them.

    Where ``DATASETS.TRAIN_JSON`` (``TEST_JSON``) is named, ``DATASETS.TRAIN`` (``TEST``) becomes
    the registered name, such as ``("coco_json/instances_train",)``, and the numbers of classes of
    ``MODEL.ROI_HEADS`` and ``MODEL.RETINANET`` become that of the JSON's categories, the training
    set's where both are named. Nothing happens where neither is, or where it happened before.

    Args:
        cfg: a config with the keys of ``add_nasnet_config``, not frozen; changed in place.

    Raises:
        DataError: a JSON without its images folder or the reverse, or a JSON that can't be read
            or has no proper list of categories.
    """
    num_classes = None
    for split in ("TEST", "TRAIN"):
        files = _files_of_split(cfg, split)
        if files is not None:
            name = _register(*files, with_shapes=_needs_shapes(cfg), needs_masks=cfg.MODEL.MASK_ON)
            cfg.DATASETS[split] = (name,)
            num_classes = len(MetadataCatalog.get(name).thing_classes)
    if num_classes is None:
        return
    for node, key in ((cfg.MODEL.ROI_HEADS, "ROI_HEADS"), (cfg.MODEL.RETINANET, "RETINANET")):
        if num_classes != node.NUM_CLASSES:
            logger.info(
                "MODEL.%s.NUM_CLASSES: %d instead of %d, the number of categories of the JSON",
                *(key, num_classes, node.NUM_CLASSES),
            )
            node.NUM_CLASSES = num_classes


def get_categories(name: str) -> list[dict[str, Any]]:
    """COCO categories (``id``, ``name``) of a set in the order of the labels; [] if unknown."""
    metadata = MetadataCatalog.get(name).as_dict() if name in DatasetCatalog else {}
    names = metadata.get("thing_classes") or []
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {i + 1: i for i in range(len(names))}
    labels = {label: key for key, label in ids.items()}
    return [{"id": labels[label], "name": name} for label, name in enumerate(names)]


def check_datasets(cfg: CfgNode, *, eval_only: bool = False) -> None:
    """Check the data sets of a config without opening an image.

    Every COCO-format set of ``DATASETS.TRAIN`` and ``DATASETS.TEST`` is read once: its records, its
    boxes, whether its images are there, and whether classes and heads fit together. A set that is
    not in COCO's format is left alone. One info line is logged a set.

    Args:
        cfg: after :func:`register_config_datasets`.
        eval_only: leave ``DATASETS.TRAIN`` out.

    Raises:
        ConfigError: ``DATASETS.BROKEN_IMAGES`` is no policy.
        DataError: the first fault that was found.
    """
    check_policy("DATASETS.BROKEN_IMAGES", cfg.DATASETS.BROKEN_IMAGES)
    train = [] if eval_only else _names(cfg.DATASETS.TRAIN)
    test = _names(cfg.DATASETS.TEST)
    if not (test if eval_only else train):
        split = "TEST" if eval_only else "TRAIN"
        raise DataError(
            f"DATASETS.{split}: wanted the name of a data set, got none; name one, or give its "
            f"files by DATASETS.{split}_JSON and DATASETS.{split}_IMAGES"
        )
    names = [name for name in dict.fromkeys([*train, *test]) if _is_coco(name)]
    for name in names:  # cheap, so all of them before the first is read
        _check_files_exist(name)
    classes = {
        name: _check_dataset(cfg, name, is_train=name in train, is_test=name in test)
        for name in names
    }
    _check_same_classes(classes)
    _check_num_classes(cfg, classes)


def _files_of_split(cfg: CfgNode, split: str) -> tuple[str, str] | None:
    """The JSON and the images folder of ``TRAIN`` or ``TEST``; None where neither is named."""
    keys = (f"{split}_JSON", f"{split}_IMAGES")
    given = {f"DATASETS.{key}": os.fspath(cfg.DATASETS[key]) for key in keys}
    if not any(given.values()):
        return None
    if not all(given.values()):
        (key, value), (other, _) = sorted(given.items(), key=lambda item: not item[1])
        raise DataError(
            f"DATASETS.{keys[0]} and DATASETS.{keys[1]} (the folder that the JSON's file_name "
            f"entries start from) belong together, got {key} = {value!r} without {other}"
        )
    json_file, images = (os.path.abspath(os.path.expanduser(path)) for path in given.values())
    return json_file, images


def _needs_shapes(cfg: CfgNode) -> bool:
    return bool(cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON)


def _register(json_file: str, image_root: str, *, with_shapes: bool, needs_masks: bool) -> str:
    """The name under which the files are known to Detectron2 from now on."""
    if not os.path.isfile(json_file):
        raise DataError(f"{json_file}: there is no such file; wanted COCO-format annotations")
    coco = read_coco(json_file, with_shapes=with_shapes)
    metadata = {
        "json_file": json_file,
        "image_root": image_root,
        "evaluator_type": "coco",
        "thing_classes": list(coco.category_names),
        "thing_dataset_id_to_contiguous_id": {key: i for i, key in enumerate(coco.category_ids)},
    }
    path = Path(json_file)
    stem = Path(path.name.removesuffix(".gz")).stem
    base = "/".join(filter(None, (path.parent.name, stem)))
    for number in itertools.count(1):
        name = base if number == 1 else f"{base}#{number}"
        if name not in DatasetCatalog:
            break
        known = MetadataCatalog.get(name).as_dict()
        if (known.get("json_file"), known.get("image_root")) == (json_file, image_root):
            # The file may be written anew since, and Detectron2 refuses to change metadata.
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
            break
    load = partial(_load_records, json_file, image_root, with_shapes, needs_masks)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
    return name


def _load_records(
    json_file: str, image_root: str, with_shapes: bool, needs_masks: bool
) -> list[dict[str, Any]]:
    coco = read_coco(json_file, with_shapes=with_shapes)
    return build_records(coco, image_root, needs_masks=needs_masks)


def find_coco(name: str, *, with_shapes: bool = False) -> CocoFile | None:
    """The COCO-format file of a registered set; None for sets of other kinds.

    Raises:
        DataError: there is no such set, or its file can't be used.
    """
    if not _is_coco(name):
        return None
    path = PathManager.get_local_path(str(MetadataCatalog.get(name).json_file))
    return read_coco(path, with_shapes=with_shapes)


def _names(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _is_coco(name: str) -> bool:
    """Whether a set is in COCO's format.

    Raises:
        DataError: there is no set of that name.
    """
    if name not in DatasetCatalog:
        hint = nearest(name, DatasetCatalog.list()).partition("(valid:")[0]
        raise DataError(
            f"unknown data set {name!r}, {hint or 'and none is like it; '}sets of Detectron2 are "
            "looked for in the folder DETECTRON2_DATASETS, and a set of your own is given by "
            "DATASETS.TRAIN_JSON and TRAIN_IMAGES (TEST_JSON and TEST_IMAGES)"
        )
    metadata = MetadataCatalog.get(name)
    # LVIS has a json_file too, with image names, categories and an evaluation of its own.
    return bool(metadata.get("json_file")) and metadata.get("evaluator_type") != "lvis"


def _check_files_exist(name: str) -> None:
    metadata = MetadataCatalog.get(name)
    json_file, image_root = str(metadata.json_file), metadata.get("image_root")
    if not PathManager.isfile(json_file):
        raise DataError(f"data set {name!r}: no file {json_file}{_builtin_hint(name)}")
    # An evaluator writes a JSON for a set that came from Python; that has no images folder.
    if image_root and not PathManager.isdir(str(image_root)):
        raise DataError(f"data set {name!r}: no images folder {image_root}{_builtin_hint(name)}")


def _builtin_hint(name: str) -> str:
    """How Detectron2 looks for the sets that it knows by name, COCO's among them."""
    if not re.match(r"(keypoints_)?coco_20\d\d_", name):
        return ""
    value = os.environ.get("DETECTRON2_DATASETS")
    state = f"now {value!r}" if value else f"not set, so {os.path.abspath('datasets')!r}"
    return (
        f"; it is looked for in the folder DETECTRON2_DATASETS ({state}), which must contain "
        "coco/annotations and coco/<images> and be set before Python starts; for a set of your "
        "own, give DATASETS.TRAIN_JSON, TRAIN_IMAGES, TEST_JSON and TEST_IMAGES"
    )


def _check_dataset(cfg: CfgNode, name: str, *, is_train: bool, is_test: bool) -> list[str]:
    """Check one set; the names of its classes in the order of their ids."""
    metadata = MetadataCatalog.get(name)
    where = f"data set {name!r} ({metadata.json_file})"
    coco = find_coco(name, with_shapes=_needs_shapes(cfg))
    assert coco is not None
    _check_metadata(where, coco, metadata.as_dict())
    objects = coco.objects
    if is_train:
        _check_sizes(where, coco)
        usable = objects.is_usable[find_trained(objects, needs_masks=False)]
        if not usable.any():
            raise DataError(
                f"{where}: none of its {len(coco.image_ids)} images has a box to train on; wanted "
                f"at least one annotation that is neither a crowd nor empty, got {len(usable)} "
                "others"
            )
    elif not objects.is_usable.any():
        logger.warning("%s: no image has a box, so detections are written but not scored", where)
    if is_test and (objects.ids == 0).any():
        logger.warning(
            "%s: COCO's evaluation counts a match with annotation id 0 as a miss; number the "
            "annotations from 1",
            where,
        )
    if cfg.MODEL.MASK_ON and len(objects):
        _check_masks(where, objects, cfg.INPUT.MASK_FORMAT, is_train=is_train)
    image_root = metadata.get("image_root")
    if image_root and "://" not in str(image_root):  # listing a remote store is the user's bill
        _check_image_files(where, coco.file_names, str(image_root))
    logger.info(
        "data set %s: %d images, %d boxes, %d classes, %d crowd boxes, %d images without boxes",
        *(name, len(coco.image_ids), len(objects), len(coco.category_ids)),
        *(objects.is_crowd.sum(), len(coco.image_ids) - len(np.unique(objects.image))),
    )
    return list(coco.category_names)


def _check_sizes(where: str, coco: CocoFile) -> None:
    unknown = [i for i, known in enumerate(np.isfinite(coco.sizes).all(axis=1)) if not known]
    if unknown:
        raise DataError(
            f"{where}: images.width: wanted width and height of every image, but {len(unknown)} of "
            f"{len(coco.sizes)} lack them, the first has id {coco.image_ids[unknown[0]]!r}"
        )


def _check_masks(where: str, objects: Objects, mask_format: str, *, is_train: bool) -> None:
    """Count objects without a usable mask, and see that the format can hold the others."""
    masks = [m for m, crowd in zip(objects.masks, objects.is_crowd, strict=True) if not crowd]
    num_missing = sum(mask is None for mask in masks)
    if num_missing == len(masks):
        raise DataError(
            f"{where}: annotations.segmentation: wanted masks, since MODEL.MASK_ON is True, but "
            f"{num_missing} of {len(masks)} objects have no usable one (polygons of 3 points or an "
            "RLE)"
        )
    if num_missing:
        logger.warning(
            "%s: %d of %d objects have no usable mask and are left out",
            *(where, num_missing, len(masks)),
        )
    if is_train and mask_format == "polygon" and any(isinstance(mask, dict) for mask in masks):
        raise DataError(
            f"{where}: INPUT.MASK_FORMAT: wanted bitmask, since some masks are RLEs, got polygon"
        )


def _check_metadata(where: str, coco: CocoFile, metadata: dict[str, Any]) -> None:
    """Compare the JSON with what is registered, which Detectron2 asserts when it loads the set."""
    registered = metadata.get("thing_classes")
    if registered is not None and list(registered) != list(coco.category_names):
        raise DataError(
            f"{where}: its categories are not the classes that it was registered with: "
            + _describe_difference(list(registered), list(coco.category_names))
        )
    ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if ids is not None and sorted(ids) != list(coco.category_ids):
        raise DataError(
            f"{where}: its category ids are not those that it was registered with: wanted "
            f"{sorted(ids)!s:.60}, got {list(coco.category_ids)!s:.60}"
        )


def _check_image_files(where: str, names: Sequence[str], image_root: str) -> None:
    """Check that all images are there; each folder is listed once, whatever their number."""
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, base = os.path.split(os.path.join(image_root, name))
        if folder not in listed:
            listed[folder] = _list_files(folder)
        if base not in listed[folder]:
            missing.append(name)
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(names)} images are missing in {image_root}: "
            f"{shorten(missing)}; file_name must be relative to that folder"
        )


def _list_files(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return set()


def _check_same_classes(classes: dict[str, list[str]]) -> None:
    """Check that all sets mean the same by class 0, 1, ..."""
    (first, wanted), *others = classes.items() or [("", [])]
    for name, got in others:
        if got != wanted:
            raise DataError(
                f"the classes of data sets {first!r} and {name!r} differ: "
                f"{_describe_difference(wanted, got)}; name sets with the same categories, by "
                "DATASETS.TRAIN and DATASETS.TEST or by DATASETS.TRAIN_JSON and DATASETS.TEST_JSON"
            )


def _describe_difference(wanted: Sequence[str], got: Sequence[str]) -> str:
    """``wanted 3 classes, got 2; only in the first: 'b'; only in the second: none``."""
    if sorted(wanted) == sorted(got):
        i = next(i for i, pair in enumerate(zip(wanted, got, strict=True)) if len(set(pair)) > 1)
        return f"the same names in another order of ids, class {i} is {wanted[i]!r} and {got[i]!r}"
    only = []
    for these, those in ((wanted, got), (got, wanted)):
        only.append(shorten([name for name in these if name not in those]) or "none")
    return (
        f"wanted {len(wanted)} classes, got {len(got)}; only in the first: {only[0]}; "
        f"only in the second: {only[1]}"
    )


def _check_num_classes(cfg: CfgNode, classes: dict[str, list[str]]) -> None:
    """Check that the head has a score for each class, and for no other."""
    key = NUM_CLASSES_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    if key is None:
        return
    given = cfg.MODEL[key.split(".")[1]].NUM_CLASSES
    for name, names in classes.items():
        if len(names) != given:
            raise DataError(
                f"{key}: wanted {len(names)}, the number of categories of data set {name!r}, got "
                f"{given}; set {key} {len(names)}"
            )
