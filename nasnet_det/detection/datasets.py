"""Data sets of a config: COCO-format files by their paths, and the check before any work starts.

``register_config_datasets`` gives the files named in ``DATASETS.TRAIN_JSON`` and its siblings to
Detectron2. ``check_datasets`` then reads every data set of the config, those of Detectron2 too, and
turns what would fail hours later, or would silently spoil the result, into one sentence.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.file_io import PathManager

from nasnet_det.genotype import nearest

# Which key counts the classes; an architecture that is not listed may have a key of its own.
NUM_CLASSES_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
}
# Annotation tools round; a box further outside than this belongs to another image or format.
MAX_OUTSIDE_PIXELS = 1.0
NUM_EXAMPLES = 3

logger = logging.getLogger(__name__)


class DatasetError(ValueError):
    """A data set that can't be used; the message says what was wanted, what came, what to do."""


def register_config_datasets(cfg: CfgNode) -> None:
    """Register the COCO-format files that a config names and set the keys that follow from them.

    Where ``DATASETS.TRAIN_JSON`` (``TEST_JSON``) is named, ``DATASETS.TRAIN`` (``TEST``) becomes
    the registered name, such as ``("coco_json/instances_train",)``, and the numbers of classes of
    ``MODEL.ROI_HEADS`` and ``MODEL.RETINANET`` become that of the JSON's categories, the training
    set's where both are named. Nothing happens where neither is, or where it happened before.

    Args:
        cfg: a config with the keys of ``add_nasnet_config``, not frozen; changed in place.

    Raises:
        DatasetError: a JSON without its images folder or the reverse, or a JSON that can't be read
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


def check_datasets(cfg: CfgNode, *, eval_only: bool = False) -> None:
    """Check the data sets of a config without opening an image.

    Every COCO-format set of ``DATASETS.TRAIN`` and ``DATASETS.TEST`` is read once: its records, its
    boxes, whether its images are there, and whether classes and heads fit together. A set that is
    not in COCO's format is left alone. One info line is logged a set.

    Args:
        cfg: after :func:`register_config_datasets`.
        eval_only: leave ``DATASETS.TRAIN`` out.

    Raises:
        DatasetError: the first fault that was found.
    """
    train = [] if eval_only else _names(cfg.DATASETS.TRAIN)
    test = _names(cfg.DATASETS.TEST)
    if not (test if eval_only else train):
        split = "TEST" if eval_only else "TRAIN"
        raise DatasetError(
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


# ---- Registering


def _files_of_split(cfg: CfgNode, split: str) -> tuple[str, str] | None:
    """The JSON and the images folder of ``TRAIN`` or ``TEST``; None where neither is named."""
    keys = (f"{split}_JSON", f"{split}_IMAGES")
    given = {f"DATASETS.{key}": os.fspath(cfg.DATASETS[key]) for key in keys}
    if not any(given.values()):
        return None
    if not all(given.values()):
        (key, value), (other, _) = sorted(given.items(), key=lambda item: not item[1])
        raise DatasetError(
            f"DATASETS.{keys[0]} and DATASETS.{keys[1]} (the folder that the JSON's file_name "
            f"entries start from) belong together, got {key} = {value!r} without {other}"
        )
    json_file, images = (os.path.abspath(os.path.expanduser(path)) for path in given.values())
    return json_file, images


def _register(json_file: str, image_root: str) -> str:
    """The name under which the files are known to Detectron2 from now on."""
    if not os.path.isfile(json_file):
        raise DatasetError(f"{json_file}: there is no such file; wanted COCO-format annotations")
    categories = _check_categories(json_file, _read_json(json_file, json_file))
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


# ---- Finding the files


def _names(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _is_coco(name: str) -> bool:
    """Whether a set is in COCO's format.

    Raises:
        DatasetError: there is no set of that name.
    """
    if name not in DatasetCatalog:
        hint = nearest(name, DatasetCatalog.list()).partition("(valid:")[0]
        raise DatasetError(
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
        raise DatasetError(f"data set {name!r}: no file {json_file}{_builtin_hint(name)}")
    # An evaluator writes a JSON for a set that came from Python; that has no images folder.
    if image_root and not PathManager.isdir(str(image_root)):
        raise DatasetError(f"data set {name!r}: no images folder {image_root}{_builtin_hint(name)}")


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


def _read_json(path: str, where: str) -> dict[str, Any]:
    """The object in a JSON file; ``where`` opens the error sentence."""
    collects = gc.isenabled()
    gc.disable()  # a parse makes millions of objects and no garbage; twice as fast for all of COCO
    try:
        text = Path(path).read_text(encoding="utf-8")
        data = json.loads(text)
    except OSError as error:
        raise DatasetError(f"{where}: can't be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip() or "Unterminated" in error.msg:
            fault = f"ends too early, after {len(text):,} characters: copy or download it again"
        else:
            fault = f"is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise DatasetError(f"{where}: the file {fault}") from None
    except (ValueError, RecursionError) as error:  # bytes that are not text; absurd numbers, depth
        raise DatasetError(f"{where}: the file is not valid JSON: {error}") from None
    finally:
        if collects:
            gc.enable()
    if not isinstance(data, dict):
        raise DatasetError(
            f"{where}: wanted an object with images, annotations and categories, got "
            f"a {type(data).__name__}"
        )
    return data


# ---- One data set


@dataclass(frozen=True)
class _Images:
    """The images of a JSON: ids and names, and sizes (n, 2) as width, height in pixels."""

    ids: list[Any]
    names: list[str]
    sizes: np.ndarray


@dataclass(frozen=True)
class _Annotations:
    """The annotations of a JSON, column by column; boxes (n, 4) as x, y, width, height."""

    ids: list[int]
    image_ids: list[Any]
    boxes: np.ndarray
    is_crowd: np.ndarray


def _check_dataset(name: str, *, is_train: bool, is_test: bool, needs_masks: bool) -> list[str]:
    """Check one set; the names of its classes in the order of their ids."""
    metadata = MetadataCatalog.get(name)
    where = f"data set {name!r} ({metadata.json_file})"
    data = _read_json(PathManager.get_local_path(str(metadata.json_file)), where)
    categories = _check_categories(where, data)
    _check_metadata(where, categories, metadata.as_dict())
    images = _check_images(where, data)
    annotations = _check_annotations(where, data, set(images.ids), set(categories), is_test)
    _check_boxes(where, annotations, images)
    if needs_masks:
        _check_masks(where, data["annotations"])
    usable = ~annotations.is_crowd & (annotations.boxes[:, 2:] > 0).all(axis=1)
    if not usable.any():
        use = "train on" if is_train else "evaluate with"
        raise DatasetError(
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


def _records(where: str, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects at ``key`` of the JSON."""
    records = data.get(key)
    if not isinstance(records, list):
        got = f"got {records!r:.60}" if key in data else f"got only {', '.join(data) or 'nothing'}"
        reason = " (to train and to evaluate with)" if key == "annotations" else ""
        raise DatasetError(f"{where}: wanted a list {key!r}{reason}, {got:.200}")
    _first_fault(where, key, records, records, lambda r: isinstance(r, dict), "an object")
    return records


def _first_fault(
    where: str,
    place: str,
    records: Sequence[Any],
    values: Sequence[Any],
    is_right: Callable[[Any], bool],
    wanted: str,
) -> None:
    """Raise where a value is wrong, naming how many are and the first one's record."""
    wrong = [i for i, value in enumerate(values) if not is_right(value)]
    if wrong:
        record, value = records[wrong[0]], values[wrong[0]]
        known = isinstance(record, dict) and type(record.get("id")) in (int, str)
        which = f"id {record['id']!r}" if known else f"number {wrong[0] + 1} of the list"
        got = "nothing" if value is None else f"{value!r:.60}"
        raise DatasetError(
            f"{where}: {place}: wanted {wanted}, but {len(wrong)} of {len(values)} differ, the "
            f"first ({which}) has {got}"
        )


def _column(
    where: str,
    kind: str,
    records: Sequence[dict[str, Any]],
    key: str,
    types: Collection[type],
    wanted: str,
) -> list[Any]:
    """The values of one key, which each record must have, and in one of the types."""
    values = [record.get(key) for record in records]
    if not set(map(type, values)) <= set(types):  # fast where all is well, bool is no int
        _first_fault(where, f"{kind}.{key}", records, values, lambda v: type(v) in types, wanted)
    return values


def _unique_ids(
    where: str, kind: str, records: Sequence[dict[str, Any]], types: Collection[type]
) -> list[Any]:
    """The ids of records; each must be there once."""
    ids = _column(where, kind, records, "id", types, "a whole number")
    if len(set(map(type, ids))) > 1:
        raise DatasetError(f"{where}: {kind}.id: wanted all numbers or all texts, got both")
    _first_fault(where, f"{kind}.id", records, ids, _fits_evaluation, "a number of 64 bits")
    # COCO's own 2014 minival files repeat annotations; Detectron2 reads them all the same.
    if len(set(ids)) < len(ids) and not (kind == "annotations" and "minival" in where):
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        raise DatasetError(
            f"{where}: {kind}.id: wanted each id once, but {len(repeated)} of {len(ids)} come more "
            f"than once: {_shorten(repeated)}"
        )
    return ids


def _fits_evaluation(key: int | str) -> bool:
    """Whether COCO's evaluation, which is compiled, can hold an id."""
    return isinstance(key, str) or -(2**63) <= key < 2**63


def _shorten(values: Sequence[Any]) -> str:
    """The first few of many values."""
    shown = ", ".join(f"{value!r:.100}" for value in values[:NUM_EXAMPLES])
    return shown + (", ..." if len(values) > NUM_EXAMPLES else "")


def _check_categories(where: str, data: dict[str, Any]) -> dict[int, str]:
    """Category ids and names in the order of the ids, which is that of the classes."""
    records = _records(where, data, "categories")
    if not records:
        raise DatasetError(f"{where}: wanted at least one entry in 'categories', got none")
    ids = _unique_ids(where, "categories", records, {int})
    names = _column(where, "categories", records, "name", {str}, "a text")
    if len(set(names)) < len(names):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        logger.warning("%s: several categories have the name %r", where, repeated[0])
    return dict(sorted(zip(ids, names, strict=True)))


def _check_metadata(where: str, categories: dict[int, str], metadata: dict[str, Any]) -> None:
    """Compare the JSON with what is registered, which Detectron2 asserts when it loads the set."""
    registered = metadata.get("thing_classes")
    if registered is not None and list(registered) != list(categories.values()):
        raise DatasetError(
            f"{where}: its categories are not the classes that it was registered with: "
            + _describe_difference(list(registered), list(categories.values()))
        )
    ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if ids is not None and sorted(ids) != list(categories):
        raise DatasetError(
            f"{where}: its category ids are not those that it was registered with: wanted "
            f"{sorted(ids)!s:.60}, got {list(categories)!s:.60}"
        )


def _check_images(where: str, data: dict[str, Any]) -> _Images:
    records = _records(where, data, "images")
    if not records:
        raise DatasetError(f"{where}: wanted at least one entry in 'images', got none")
    ids = _unique_ids(where, "images", records, {int, str})
    names = _column(where, "images", records, "file_name", {str}, "a file's name")
    sides = [_read_sides(where, records, key) for key in ("width", "height")]
    return _Images(ids, names, np.array(sides).T)


def _read_sides(where: str, records: Sequence[dict[str, Any]], key: str) -> list[float]:
    values: list[Any] = [record.get(key) for record in records]
    wanted = "a whole number of pixels above 0"
    _first_fault(where, f"images.{key}", records, values, _is_size, wanted)
    return [float(value) for value in values]


def _is_size(value: Any) -> bool:
    return _is_number(value) and 0 < value < float("inf") and value == int(value)


def _is_number(value: Any) -> bool:
    """Whether a value of the JSON is a number that a float can hold; NaN and infinity are."""
    if type(value) is int:
        return abs(value) < 2**1000
    return type(value) is float


def _check_annotations(
    where: str, data: dict[str, Any], image_ids: set[Any], category_ids: set[int], is_test: bool
) -> _Annotations:
    records = _records(where, data, "annotations")
    ids = _unique_ids(where, "annotations", records, {int})
    if is_test and 0 in ids:
        logger.warning(
            "%s: COCO's evaluation counts a match with annotation id 0 as a miss; number the "
            "annotations from 1",
            where,
        )
    of_images = _column(where, "annotations", records, "image_id", {int, str}, "the id of an image")
    _check_known(where, records, "image_id", of_images, image_ids, "images")
    of_categories = _column(
        where, "annotations", records, "category_id", {int}, "the id of a category"
    )
    _check_known(where, records, "category_id", of_categories, category_ids, "categories")
    crowds = _check_flags(where, records, is_test)
    _check_shapes(where, records)
    return _Annotations(ids, of_images, _read_boxes(where, records), crowds)


def _check_known(
    where: str,
    records: Sequence[dict[str, Any]],
    key: str,
    values: Sequence[Any],
    known: set[Any],
    kind: str,
) -> None:
    if not set(values) <= known:
        wanted = f"an id of the list {kind!r}"
        _first_fault(where, f"annotations.{key}", records, values, known.__contains__, wanted)


def _check_flags(where: str, records: Sequence[dict[str, Any]], is_test: bool) -> np.ndarray:
    """Whether each annotation is a crowd; what COCO's evaluation needs is there in a test set."""
    default = None if is_test else 0
    crowds = [record.get("iscrowd", default) for record in records]
    wanted = "0 or 1" + (" (evaluation needs it)" if is_test else "")
    # The text "0" would count as a crowd.
    if crowds.count(0) + crowds.count(1) < len(crowds):
        _first_fault(where, "annotations.iscrowd", records, crowds, lambda v: v in (0, 1), wanted)
    if is_test:
        areas = [record.get("area") for record in records]
        wanted = "a number of pixels (evaluation needs it)"
        _first_fault(where, "annotations.area", records, areas, _is_area, wanted)
    ignored = [record.get("ignore", 0) for record in records]
    wanted = "0 or none (Detectron2 does not know it; iscrowd 1 is meant for this)"
    if ignored.count(0) < len(ignored):
        _first_fault(where, "annotations.ignore", records, ignored, lambda v: v == 0, wanted)
    return np.array(crowds, dtype=bool)


def _is_area(value: Any) -> bool:
    return _is_number(value) and 0 <= value < float("inf")


def _check_shapes(where: str, records: Sequence[dict[str, Any]]) -> None:
    """Check segmentations and keypoints as far as Detectron2 touches them for boxes, too."""
    segmentations = [record.get("segmentation") for record in records]
    wanted = "a list of polygons [[x, y, ...], ...] or an object with counts and size"
    _first_fault(
        where, "annotations.segmentation", records, segmentations, _is_segmentation, wanted
    )
    keypoints = [record.get("keypoints") for record in records]
    if any(keypoints):
        wanted = "a list of numbers"
        _first_fault(where, "annotations.keypoints", records, keypoints, _is_numbers, wanted)


def _check_masks(where: str, records: Sequence[dict[str, Any]]) -> None:
    segmentations = [record.get("segmentation") for record in records]
    wanted = "a mask, since MODEL.MASK_ON is True"
    _first_fault(where, "annotations.segmentation", records, segmentations, bool, wanted)


def _is_segmentation(value: Any) -> bool:
    if isinstance(value, dict):
        return "counts" in value and isinstance(value.get("size"), list) and len(value["size"]) == 2
    return not value or (isinstance(value, list) and all(isinstance(p, list) for p in value))


def _is_numbers(value: Any) -> bool:
    return not value or (isinstance(value, list) and all(map(_is_number, value)))


def _read_boxes(where: str, records: Sequence[dict[str, Any]]) -> np.ndarray:
    """All boxes, float64 of shape (n, 4)."""
    boxes: list[Any] = [record.get("bbox") for record in records]
    is_usual = set(map(type, boxes)) == {list} and set(map(len, boxes)) == {4}
    if is_usual and set(map(type, itertools.chain.from_iterable(boxes))) <= {int, float}:
        with contextlib.suppress(OverflowError):  # an int beyond all floats: found below
            return np.array(boxes, dtype=np.float64)
    wanted = "four numbers [x, y, width, height]"
    _first_fault(where, "annotations.bbox", records, boxes, _is_box, wanted)
    return np.zeros((0, 4))  # nothing was at fault: there is no annotation


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _check_boxes(where: str, annotations: _Annotations, images: _Images) -> None:
    """Check that boxes are finite, have a size and stay inside their images."""
    boxes = annotations.boxes
    index = {key: i for i, key in enumerate(images.ids)}
    sizes = images.sizes[[index[key] for key in annotations.image_ids]].reshape(-1, 2)

    def refuse(wrong: np.ndarray, fault: str) -> None:
        if wrong.any():
            first = int(wrong.argmax())
            width, height = sizes[first].astype(int)
            raise DatasetError(
                f"{where}: {wrong.sum()} of {len(boxes)} boxes {fault}, the first: annotation "
                f"{annotations.ids[first]} has [{', '.join(f'{v:g}' for v in boxes[first])}] in "
                f"image {annotations.image_ids[first]!r} of {width}x{height}; wanted [x, y, width, "
                "height] in pixels"
            )

    refuse(~np.isfinite(boxes).all(axis=1), "are not finite")
    refuse(boxes[:, 2:].min(axis=1, initial=0) < 0, "have a negative size")
    outside = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - sizes).max(axis=1, initial=0)
    refuse(outside > MAX_OUTSIDE_PIXELS, f"leave their image by over {MAX_OUTSIDE_PIXELS:g} pixel")
    if num_empty := int((boxes[:, 2:] == 0).any(axis=1).sum()):
        # COCO's train2017 has such boxes itself; the loader drops them.
        logger.warning("%s: %d of %d boxes have no size", where, num_empty, len(boxes))


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
        raise DatasetError(
            f"{where}: {len(missing)} of {len(names)} images are missing in {image_root}: "
            f"{_shorten(missing)}; file_name must be relative to that folder"
        )


def _list_files(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return set()


# ---- All data sets together


def _check_same_classes(classes: dict[str, list[str]]) -> None:
    """Check that all sets mean the same by class 0, 1, ..."""
    (first, wanted), *others = classes.items() or [("", [])]
    for name, got in others:
        if got != wanted:
            raise DatasetError(
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
        only.append(_shorten([name for name in these if name not in those]) or "none")
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
            raise DatasetError(
                f"{key}: wanted {len(names)}, the number of categories of data set {name!r}, got "
                f"{given}; set {key} {len(names)}"
            )
