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
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.file_io import PathManager

from nasnet_det.data.broken_pictures import check_policy
from nasnet_det.data.coco_json import (
    check_annotations,
    check_boxes,
    check_categories,
    check_images,
    check_masks,
    read_json,
    shorten,
)
from nasnet_det.data.error import DataError
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
            name = _register(*files)
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
        name: _check_dataset(
            name, is_train=name in train, is_test=name in test, needs_masks=cfg.MODEL.MASK_ON
        )
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


def _register(json_file: str, image_root: str) -> str:
    """The name under which the files are known to Detectron2 from now on."""
    if not os.path.isfile(json_file):
        raise DataError(f"{json_file}: there is no such file; wanted COCO-format annotations")
    categories = check_categories(json_file, read_json(json_file, json_file))
    metadata = {
        "thing_classes": list(categories.values()),
        "thing_dataset_id_to_contiguous_id": {key: i for i, key in enumerate(categories)},
    }
    path = Path(json_file)
    base = "/".join(filter(None, (path.parent.name, path.stem)))
    for number in itertools.count(1):
        name = base if number == 1 else f"{base}#{number}"
        if name not in DatasetCatalog:
            break
        known = MetadataCatalog.get(name).as_dict()
        if (known.get("json_file"), known.get("image_root")) == (json_file, image_root):
            if metadata.items() <= known.items():
                return name
            # The file was written anew since; Detectron2 refuses to change metadata.
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
            break
    register_coco_instances(name, metadata, json_file, image_root)
    return name


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


def _check_dataset(name: str, *, is_train: bool, is_test: bool, needs_masks: bool) -> list[str]:
    """Check one set; the names of its classes in the order of their ids."""
    metadata = MetadataCatalog.get(name)
    where = f"data set {name!r} ({metadata.json_file})"
    data = read_json(PathManager.get_local_path(str(metadata.json_file)), where)
    categories = check_categories(where, data)
    _check_metadata(where, categories, metadata.as_dict())
    images = check_images(where, data)
    annotations = check_annotations(where, data, set(images.ids), set(categories), is_test)
    check_boxes(where, annotations, images)
    if needs_masks:
        check_masks(where, data["annotations"])
    usable = ~annotations.is_crowd & (annotations.boxes[:, 2:] > 0).all(axis=1)
    if not usable.any():
        use = "train on" if is_train else "evaluate with"
        raise DataError(
            f"{where}: none of its {len(images.ids)} images has a box to {use}; wanted at least "
            f"one annotation that is neither a crowd nor empty, got {len(usable)} others"
        )
    image_root = metadata.get("image_root")
    if image_root and "://" not in str(image_root):  # listing a remote store is the user's bill
        _check_image_files(where, images.names, str(image_root))
    logger.info(
        "data set %s: %d images, %d boxes, %d classes, %d crowd boxes, %d images without boxes",
        *(name, len(images.ids), len(usable), len(categories), annotations.is_crowd.sum()),
        len(images.ids) - len(set(annotations.image_ids)),
    )
    return list(categories.values())


def _check_metadata(where: str, categories: dict[int, str], metadata: dict[str, Any]) -> None:
    """Compare the JSON with what is registered, which Detectron2 asserts when it loads the set."""
    registered = metadata.get("thing_classes")
    if registered is not None and list(registered) != list(categories.values()):
        raise DataError(
            f"{where}: its categories are not the classes that it was registered with: "
            + _describe_difference(list(registered), list(categories.values()))
        )
    ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if ids is not None and sorted(ids) != list(categories):
        raise DataError(
            f"{where}: its category ids are not those that it was registered with: wanted "
            f"{sorted(ids)!s:.60}, got {list(categories)!s:.60}"
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
