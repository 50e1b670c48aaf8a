"""Data sets that someone registered with Detectron2: read by our reader, or checked as a JSON is.

A set of ``register_coco_instances``, COCO's own among them, keeps its name, files and metadata, and
its records come from :func:`~nasnet_det.data.coco.read_coco`: what is checked is what is trained,
and a JSON with a mark or a gzipped one can be read. A set that a function of the user's gives, or
Detectron2's loader of Pascal VOC, stays as it is; its records are taken apart for the checks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from nasnet_det.data.coco import CocoFile, parse_coco
from nasnet_det.data.error import DataError
from nasnet_det.detection.records import load_records

_COCO_LOADER = "detectron2.data.datasets.coco"
_BOX_KEYS = ("bbox", "bbox_mode", "category_id")


def adopt_registered_sets(
    names: Sequence[str], *, with_shapes: bool, needs_masks: bool, size_mismatch: str
) -> None:
    """Let sets that Detectron2 would load from a COCO JSON be loaded by our reader.

    Args:
        names: registered ones; others than these sets stay as they are.
        with_shapes: keep masks and keypoints.
        needs_masks: leave out objects without a usable mask.
        size_mismatch: ``DATASETS.SIZE_MISMATCH``.
    """
    for name in names:
        load = DatasetCatalog.data[name] if name in DatasetCatalog else None
        is_ours = isinstance(load, partial) and load.func is _load_named
        if not is_ours and getattr(load, "__module__", "") != _COCO_LOADER:
            continue
        options = {"with_shapes": with_shapes, "needs_masks": needs_masks}
        DatasetCatalog.remove(name)
        DatasetCatalog.register(name, partial(_load_named, name, **options))
        # Detectron2 lets nobody set a value anew.
        vars(MetadataCatalog.get(name))["size_mismatch"] = size_mismatch


def _load_named(name: str, *, with_shapes: bool, needs_masks: bool) -> list[dict[str, Any]]:
    """What Detectron2's loader gives, which also says the classes in the metadata."""
    metadata = MetadataCatalog.get(name)
    coco, records = load_records(
        str(metadata.json_file),
        str(metadata.image_root),
        with_shapes=with_shapes,
        needs_masks=needs_masks,
        size_mismatch=str(metadata.get("size_mismatch", "stop")),
    )
    if metadata.get("thing_classes") is None:
        ids = {key: label for label, key in enumerate(coco.category_ids)}
        metadata.set(thing_classes=list(coco.category_names), thing_dataset_id_to_contiguous_id=ids)
    return records


def read_registered(name: str, *, with_shapes: bool) -> CocoFile | None:
    """The records of a set from Python as a COCO file would hold them, for the checks.

    Returns:
        None where they can't be: an iterable data set, rotated boxes, panoptic segmentation.

    Raises:
        DataError: a record is not what Detectron2 wants, or a file is missing.
    """
    where = f"data set {name!r}"
    try:
        records = DatasetCatalog.get(name)
    except (OSError, ModuleNotFoundError) as error:
        raise DataError(f"{where} can't be loaded: {error}") from error
    if not isinstance(records, list | tuple):
        return None
    if not records:
        raise DataError(f"{where} has no record")
    metadata = MetadataCatalog.get(name).as_dict()
    images, annotations = [], []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping) or not isinstance(record.get("file_name"), str):
            raise DataError(f"{where}: record {number}: wanted a dict with a file_name")
        keys = ("width", "height")
        sides = {key: record[key] for key in keys if record.get(key) is not None}
        images.append({"id": number, "file_name": record["file_name"], **sides})
        place = f"{os.path.basename(record['file_name'])}, object"
        for index, value in enumerate(record.get("annotations") or (), start=1):
            if not isinstance(value, Mapping) or any(key not in value for key in _BOX_KEYS):
                raise DataError(f"{where}: {place} {index}: wanted {', '.join(_BOX_KEYS)}")
            if value["bbox_mode"] == BoxMode.XYWHA_ABS:
                return None
            annotation = _build_annotation(value, f"{place} {index} of record {number}")
            annotations.append({**annotation, "image_id": number})
    categories = _list_categories(metadata, annotations)
    content: dict[str, Any] = {"images": images, "categories": categories}
    if any("annotations" in record for record in records):
        content["annotations"] = annotations
    return parse_coco(where, content, with_shapes=with_shapes)


def _build_annotation(value: Mapping[str, Any], place: str) -> dict[str, Any]:
    annotation = {
        "id": place,
        "category_id": value["category_id"],
        "bbox": _read_box(value, place),
        "area": 0,
        "iscrowd": int(value.get("iscrowd") or 0),
    }
    if value.get("keypoints") is not None:
        annotation["keypoints"] = np.asarray(value["keypoints"]).reshape(-1).tolist()
    mask = value.get("segmentation")
    if isinstance(mask, list):
        annotation["segmentation"] = [np.asarray(polygon).reshape(-1).tolist() for polygon in mask]
    elif isinstance(mask, dict):
        counts = mask.get("counts")
        text = counts.decode() if isinstance(counts, bytes) else counts
        annotation["segmentation"] = {"size": list(mask.get("size", ())), "counts": text}
    return annotation


def _read_box(value: Mapping[str, Any], place: str) -> list[float]:
    """x, y, width, height.

    Raises:
        DataError: it is no box, or one that Detectron2 can't convert.
    """
    try:
        left, top, *ends = (float(number) for number in value["bbox"])
        return list(BoxMode.convert([left, top, *ends], value["bbox_mode"], BoxMode.XYWH_ABS))
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        got = f"{value['bbox']!r:.60} with the mode {value['bbox_mode']!r:.40}"
        raise DataError(
            f"{place}: wanted a box of four numbers and a BoxMode, got {got}"
        ) from error


def _list_categories(
    metadata: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The classes of the metadata; without, as many as the objects have."""
    names = metadata.get("thing_classes")
    if names is None:
        labels = [a["category_id"] for a in annotations if isinstance(a["category_id"], int)]
        names = [f"class {number}" for number in range(max(labels, default=0) + 1)]
    return [{"id": number, "name": str(name)} for number, name in enumerate(names)]
