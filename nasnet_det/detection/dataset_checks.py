"""What would fail hours later or silently spoil a result: one sentence before any work starts."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from nasnet_det.data.broken_pictures import BrokenPictures
from nasnet_det.data.coco import CocoFile
from nasnet_det.data.coco_objects import Objects
from nasnet_det.data.columns import shorten
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import parse_address
from nasnet_det.data.picture_sizes import check_sizes, compare_sizes

# Which key counts the classes; an architecture that is not listed may have a key of its own.
NUM_CLASSES_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
}

logger = logging.getLogger(__name__)


def check_files_exist(name: str) -> None:
    """See that the files of a set are there.

    Raises:
        DataError: one is not.
    """
    metadata = MetadataCatalog.get(name)
    json_file, image_root = str(metadata.json_file), metadata.get("image_root")
    if not PathManager.exists(parse_address(json_file)[0]):
        raise DataError(f"data set {name!r}: no file {json_file}{_builtin_hint(name)}")
    # An evaluator writes a JSON for a set that came from Python; that has no images folder.
    if image_root and not PathManager.isdir(str(image_root)):
        raise DataError(f"data set {name!r}: no images folder {image_root}{_builtin_hint(name)}")


def _builtin_hint(name: str) -> str:
    """How Detectron2 looks for the sets that it knows by name, COCO's among them."""
    if not re.match(r"(keypoints_)?coco_20\d\d_|lvis_v", name):
        return ""
    value = os.environ.get("DETECTRON2_DATASETS")
    state = f"now {value!r}" if value else f"not set, so {os.path.abspath('datasets')!r}"
    return (
        f"; it is looked for in the folder DETECTRON2_DATASETS ({state}), which must contain "
        f"{'lvis' if name.startswith('lvis') else 'coco/annotations'} and coco/<images> and be set "
        "before Python starts; for a set of your "
        "own, give DATASETS.TRAIN_JSON, TRAIN_IMAGES, TEST_JSON and TEST_IMAGES"
    )


def check_dataset(cfg: CfgNode, name: str, coco: CocoFile, *, is_train: bool) -> None:
    """Check one set, and log what it holds.

    Raises:
        DataError: the first fault that would end or spoil a training or an evaluation.
    """
    metadata = MetadataCatalog.get(name)
    json_file, image_root = metadata.get("json_file"), str(metadata.get("image_root") or "")
    where = f"data set {name!r}" + (f" ({json_file})" if json_file else "")
    if json_file:
        _check_metadata(where, coco, metadata.as_dict())
    objects = coco.objects
    broken: dict[int, str] = {}
    # Listing a remote store is the user's bill.
    if (image_root or not json_file) and "://" not in image_root + coco.file_names[0]:
        _check_image_files(where, coco.file_names, image_root)
        broken = _check_pictures(where, coco, image_root, cfg.DATASETS.BROKEN_IMAGES)
    if is_train:
        _check_sizes(where, coco, broken)
        if not objects.is_usable.any():
            raise DataError(
                f"{where}: none of its {len(coco.image_ids)} images has a box to train on; wanted "
                f"at least one annotation that is neither a crowd nor empty, got {len(objects)} "
                "others"
            )
    elif not objects.is_usable.any():
        logger.warning("%s: no image has a box, so detections are written but not scored", where)
    if cfg.MODEL.MASK_ON and len(objects):
        _check_masks(where, objects, cfg.INPUT.MASK_FORMAT, is_train=is_train)
        _check_mask_sizes(where, coco)
    if cfg.MODEL.KEYPOINT_ON and len(objects):
        _check_keypoints(where, objects, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS)
        if is_train:
            _check_keypoint_names(where, metadata.as_dict(), cfg.INPUT.RANDOM_FLIP)
    logger.info(
        "data set %s: %d images, %d boxes, %d classes, %d crowd boxes, %d images without boxes",
        *(name, len(coco.image_ids), len(objects), len(coco.category_ids)),
        *(objects.is_crowd.sum(), len(coco.image_ids) - len(np.unique(objects.image))),
    )


def _check_sizes(where: str, coco: CocoFile, broken: Collection[int]) -> None:
    """See that each image has a size; broken pictures are not trained on."""
    known = np.isfinite(coco.sizes).all(axis=1)
    unknown = [i for i in np.flatnonzero(~known).tolist() if i not in broken]
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


def _check_mask_sizes(where: str, coco: CocoFile) -> None:
    """See that each RLE is one of its image."""
    objects = coco.objects
    sizes = coco.sizes[objects.image].reshape(-1, 2)[:, ::-1].tolist()
    pairs = zip(objects.masks, sizes, strict=True)
    wrong = [i for i, (m, size) in enumerate(pairs) if isinstance(m, dict) and m["size"] != size]
    if wrong:
        raise DataError(
            f"{where}: annotations.segmentation: wanted masks of the size of their image, but "
            f"{len(wrong)} of {len(sizes)} have another one, the first: annotation "
            f"{objects.ids[wrong[0]]} has {objects.masks[wrong[0]]['size']} (height, width)"
        )


def _check_keypoints(where: str, objects: Objects, num_keypoints: int) -> None:
    """See that there are keypoints, as many as the head has, which COCO's evaluation asserts."""
    numbers = {len(points) // 3 for points in objects.keypoints if points is not None}
    if not numbers:
        raise DataError(
            f"{where}: annotations.keypoints: wanted keypoints, since MODEL.KEYPOINT_ON is True, "
            f"but none of {len(objects)} objects has any"
        )
    if numbers != {num_keypoints}:
        raise DataError(
            f"{where}: MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS: wanted the number of every object's "
            f"keypoints, {', '.join(map(str, sorted(numbers)))}, got {num_keypoints}"
        )


def _check_keypoint_names(where: str, metadata: dict[str, Any], flip: str) -> None:
    """See that it is known which keypoints of a mirrored picture are exchanged."""
    missing = [key for key in ("keypoint_names", "keypoint_flip_map") if key not in metadata]
    if missing:
        raise DataError(
            f"{where}: MODEL.KEYPOINT_ON: wanted {' and '.join(missing)}, by which a mirrored "
            "picture's keypoints are exchanged, got none; name the keypoints in the category of "
            'DATASETS.TRAIN_JSON ("keypoints": ["left_eye", "right_eye", ...]), or set both in the '
            "metadata of a registered set"
        )
    if flip != "none" and not metadata["keypoint_flip_map"]:
        logger.warning(
            "%s: no keypoint is called left or right, so none are exchanged in mirrored pictures; "
            "INPUT.RANDOM_FLIP none leaves pictures as they are",
            where,
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
            f"{where}: {len(missing)} of {len(names)} images are missing"
            + (f" in {image_root}" if image_root else "")
            + f": {shorten(missing)}"
            + ("; file_name must be relative to that folder" if image_root else "")
            + _find_similar(os.path.join(image_root, missing[0]), listed)
        )


def _find_similar(path: str, listed: Mapping[str, Collection[str]]) -> str:
    """A picture that may be meant, as the end of a sentence."""
    folder, base = os.path.split(path)
    found = [name for name in listed[folder] if name.casefold() == base.casefold()]
    if found:
        return f", and capitals count: {found[0]} is there"
    above = os.path.join(os.path.dirname(folder), base)
    return f", and {above} is there" if os.path.isfile(above) else ""


def _check_pictures(
    where: str, coco: CocoFile, image_root: str, broken_images: str
) -> dict[int, str]:
    """Read the headers of all images: broken ones are the policy's, other sizes are refused.

    Returns:
        index -> name and reason of each broken one.
    """
    paths = [os.path.join(image_root, name) for name in coco.file_names]
    found = compare_sizes(paths, coco.sizes)
    broken = BrokenPictures(broken_images)
    for text in found.broken.values():
        broken.add(text)
    if len(found.broken) == len(paths):
        raise DataError(
            f"{where}: none of its {len(paths)} images can be read, the first: {found.broken[0]}"
        )
    if found.broken:
        logger.warning(
            "%s: %d of %d images can't be read and are skipped",
            *(where, len(found.broken), len(paths)),
        )
    check_sizes(where, coco.file_names, coco.sizes, found.other)
    return found.broken


def _list_files(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return set()


def check_same_classes(classes: dict[str, tuple[str, ...]]) -> None:
    """Check that all sets mean the same by class 0, 1, ...

    Raises:
        DataError: two do not.
    """
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


def check_num_classes(cfg: CfgNode, classes: dict[str, tuple[str, ...]]) -> None:
    """Check that the head has a score for each class, and for no other.

    Raises:
        DataError: it has more or fewer.
    """
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
