"""Data sets of a config: files and folders by their paths, and the check before any work starts.

``register_config_datasets`` gives the files named in ``DATASETS.TRAIN_JSON`` and its siblings to
Detectron2. ``check_datasets`` then reads every data set of the config, those of Detectron2 too, and
turns what would fail hours later, or would silently spoil the result, into one sentence.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from nasnet_det.data.broken_pictures import check_policy
from nasnet_det.data.coco import CocoFile, read_coco
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import (
    find_address,
    find_format,
    find_images,
    is_coco,
    parse_address,
)
from nasnet_det.data.picture_sizes import SIZE_POLICIES
from nasnet_det.detection.dataset_checks import (
    check_dataset,
    check_files_exist,
    check_num_classes,
    check_same_classes,
)
from nasnet_det.detection.keypoint_names import describe_keypoints
from nasnet_det.detection.records import load_records
from nasnet_det.detection.registered_sets import adopt_registered_sets, read_registered
from nasnet_det.errors import MissingPackageError
from nasnet_det.near_names import nearest_of_many

WITHOUT_BOXES = ("sem_seg", "cityscapes_sem_seg")  # kinds of sets whose truth is a map of classes

logger = logging.getLogger(__name__)


def register_config_datasets(cfg: CfgNode) -> None:
    """Register the data sets that a config names by paths, and set the keys that follow from them.

    Where ``DATASETS.TRAIN_JSON`` (``TEST_JSON``) is named, ``DATASETS.TRAIN`` (``TEST``) becomes
    the registered name, such as ``("coco_json/instances_train",)``, and the numbers of classes of
    ``MODEL.ROI_HEADS`` and ``MODEL.RETINANET`` become that of the JSON's categories, the training
    set's where both are named. Nothing happens where neither is, or where it happened before.

    Args:
        cfg: a config with the keys of ``add_nasnet_config``, not frozen; changed in place.

    Raises:
        DataError: a JSON without its images folder or the reverse, or a data set that can't be
            read or has no proper list of categories.
    """
    num_classes = None
    for split in ("TEST", "TRAIN"):
        files = _files_of_split(cfg, split)
        if files is not None:
            name = _register(
                *files,
                with_shapes=_needs_shapes(cfg),
                needs_masks=cfg.MODEL.MASK_ON,
                size_mismatch=cfg.DATASETS.SIZE_MISMATCH,
            )
            cfg.DATASETS[split] = (name,)
            num_classes = len(MetadataCatalog.get(name).thing_classes)
    adopt_sets(cfg)
    if num_classes is None:
        return
    for node, key in ((cfg.MODEL.ROI_HEADS, "ROI_HEADS"), (cfg.MODEL.RETINANET, "RETINANET")):
        if num_classes != node.NUM_CLASSES:
            logger.info(
                "MODEL.%s.NUM_CLASSES: %d instead of %d, the number of categories of the JSON",
                *(key, num_classes, node.NUM_CLASSES),
            )
            node.NUM_CLASSES = num_classes


def adopt_sets(cfg: CfgNode) -> None:
    """Let the COCO-format sets of a config that have names be loaded by our reader."""
    adopt_registered_sets(
        [*_names(cfg.DATASETS.TRAIN), *_names(cfg.DATASETS.TEST)],
        with_shapes=_needs_shapes(cfg),
        needs_masks=cfg.MODEL.MASK_ON,
        size_mismatch=cfg.DATASETS.SIZE_MISMATCH,
    )


def get_categories(name: str) -> list[dict[str, Any]]:
    """COCO categories (``id``, ``name``) of a set in the order of the labels; [] if unknown."""
    metadata = MetadataCatalog.get(name).as_dict() if name in DatasetCatalog else {}
    names = metadata.get("thing_classes") or []
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {i + 1: i for i in range(len(names))}
    path = metadata.get("json_file")
    if not names and path and _is_coco(name) and PathManager.isfile(str(path)):
        coco = find_coco(name)  # Detectron2 learns them when it loads the set
        assert coco is not None
        return [
            {"id": key, "name": text}
            for key, text in zip(coco.category_ids, coco.category_names, strict=True)
        ]
    labels = {label: key for key, label in ids.items()}
    return [{"id": labels[label], "name": name} for label, name in enumerate(names)]


def list_categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """Categories of the first of some sets, as :func:`get_categories` gives them."""
    return [category for name in names[:1] for category in get_categories(name)]


def list_classes(names: Sequence[str]) -> list[str]:
    """Class names of some sets in the order of the labels; [] if no set's are known.

    Raises:
        DataError: two sets have different ones.
    """
    classes = {name: tuple(item["name"] for item in get_categories(name)) for name in names}
    known = {name: found for name, found in classes.items() if found}
    check_same_classes(known)
    return list(next(iter(known.values()), ()))


def find_annotations(name: str) -> str:
    """The JSON file of a registered data set; "" where it has none."""
    return str(MetadataCatalog.get(name).get("json_file") or "")


def check_datasets(cfg: CfgNode, *, eval_only: bool = False) -> None:
    """Check the data sets of a config without decoding an image.

    Every set of ``DATASETS.TRAIN`` and ``DATASETS.TEST`` is read once, those from Python too: its
    records, its boxes, the headers of its images, and whether classes and heads fit together. Of
    LVIS only its files are looked for. One info line is logged a set.

    Args:
        cfg: after :func:`register_config_datasets`.
        eval_only: leave ``DATASETS.TRAIN`` out.

    Raises:
        ConfigError: ``DATASETS.BROKEN_IMAGES`` or ``SIZE_MISMATCH`` is no policy.
        DataError: the first fault that was found.
    """
    check_policy("DATASETS.BROKEN_IMAGES", cfg.DATASETS.BROKEN_IMAGES)
    check_policy("DATASETS.SIZE_MISMATCH", cfg.DATASETS.SIZE_MISMATCH, SIZE_POLICIES)
    train = [] if eval_only else _names(cfg.DATASETS.TRAIN)
    test = _names(cfg.DATASETS.TEST)
    if not (test if eval_only else train):
        split = "TEST" if eval_only else "TRAIN"
        raise DataError(
            f"DATASETS.{split}: wanted the name of a data set, got none; name one, or give its "
            f"files by DATASETS.{split}_JSON and DATASETS.{split}_IMAGES"
        )
    names = list(dict.fromkeys([*train, *test]))
    for name in names:  # cheap, so all of them before the first is read
        if _is_coco(name) or is_lvis(name):
            check_files_exist(name)
        if is_lvis(name) and find_spec("lvis") is None:  # which Detectron2 reads and scores it with
            raise MissingPackageError("lvis", "pip install lvis")
    classes: dict[str, tuple[str, ...]] = {}
    for name in names:
        coco = find_coco(name, with_shapes=_needs_shapes(cfg))
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type")
        if coco is None and not is_lvis(name) and kind not in WITHOUT_BOXES:
            coco = read_registered(name, with_shapes=_needs_shapes(cfg))
        if coco is None:
            continue
        check_dataset(cfg, name, coco, is_train=name in train)
        if metadata.get("json_file") or metadata.get("thing_classes"):
            classes[name] = coco.category_names
    check_same_classes(classes)
    check_num_classes(cfg, classes)


def _files_of_split(cfg: CfgNode, split: str) -> tuple[str, str] | None:
    """The address and the images folder of ``TRAIN`` or ``TEST``; None where neither is named.

    Other formats than COCO's say themselves where the images are.
    """
    keys = (f"{split}_JSON", f"{split}_IMAGES")
    given = {f"DATASETS.{key}": os.fspath(cfg.DATASETS[key]) for key in keys}
    if not any(given.values()):
        return None
    path = os.path.abspath(os.path.expanduser(given[f"DATASETS.{keys[0]}"]))
    if given[f"DATASETS.{keys[0]}"] and not is_coco(path):
        address = find_address(path, is_train=split == "TRAIN")
        images = os.path.expanduser(given[f"DATASETS.{keys[1]}"])
        return address, os.path.abspath(images or find_images(address))
    if given[f"DATASETS.{keys[0]}"] and not os.path.exists(path) and ".json" not in path:
        find_format(path)  # it is not there
    if not all(given.values()):
        (key, value), (other, _) = sorted(given.items(), key=lambda item: not item[1])
        raise DataError(
            f"DATASETS.{keys[0]} and DATASETS.{keys[1]} (the folder that the JSON's file_name "
            f"entries start from) belong together, got {key} = {value!r} without {other}"
        )
    json_file, images = (os.path.abspath(os.path.expanduser(path)) for path in given.values())
    return json_file, images


def _needs_shapes(cfg: CfgNode) -> bool:
    pastes = cfg.INPUT.get("COPY_PASTE", {}).get("PROB")  # along the masks, where there are some
    return bool(cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON or pastes)


def _register(
    json_file: str, image_root: str, *, with_shapes: bool, needs_masks: bool, size_mismatch: str
) -> str:
    """The name under which the files are known to Detectron2 from now on."""
    options: dict[str, Any] = {"with_shapes": with_shapes, "size_mismatch": size_mismatch}
    coco = read_coco(json_file, images=image_root, **options)
    metadata = {
        "json_file": json_file,
        "image_root": image_root,
        "evaluator_type": "coco",
        "size_mismatch": size_mismatch,
        "thing_classes": list(coco.category_names),
        "thing_dataset_id_to_contiguous_id": {key: i for i, key in enumerate(coco.category_ids)},
        **describe_keypoints(coco.keypoint_names),
    }
    place, split = parse_address(json_file)
    if split:
        path = Path(place if os.path.isdir(place) else os.path.dirname(place), split)
    else:
        path = Path(place)
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
    load = partial(_load_records, json_file, image_root, needs_masks=needs_masks, **options)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
    return name


def _load_records(json_file: str, image_root: str, **options: Any) -> list[dict[str, Any]]:
    return load_records(json_file, image_root, **options)[1]


def find_coco(name: str, *, with_shapes: bool = False) -> CocoFile | None:
    """The COCO-format file of a registered set; None for sets of other kinds.

    Raises:
        DataError: there is no such set, or its file can't be used.
    """
    if not _is_coco(name):
        return None
    metadata = MetadataCatalog.get(name)
    path = PathManager.get_local_path(str(metadata.json_file))
    images = str(metadata.get("image_root") or "")
    policy = str(metadata.get("size_mismatch", "stop"))
    return read_coco(path, images=images, with_shapes=with_shapes, size_mismatch=policy)


def _names(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _is_coco(name: str) -> bool:
    """Whether a set is in COCO's format.

    Raises:
        DataError: there is no set of that name.
    """
    if name not in DatasetCatalog:
        hint = nearest_of_many(name, DatasetCatalog.list())
        hint += " " if hint.endswith("?") else "; "
        raise DataError(
            f"unknown data set {name!r}, {hint}sets of Detectron2 are looked for in the folder "
            "DETECTRON2_DATASETS, and a set of your own is given by "
            "DATASETS.TRAIN_JSON and TRAIN_IMAGES (TEST_JSON and TEST_IMAGES)"
        )
    return bool(find_annotations(name)) and not is_lvis(name)


def is_lvis(name: str) -> bool:
    """Whether a set is in the format of LVIS, with names of images and scores of its own."""
    return MetadataCatalog.get(name).get("evaluator_type") == "lvis"
