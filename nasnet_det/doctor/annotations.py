"""The annotations of a data set: all of their faults, where a training stops at the first.

The reader of :mod:`nasnet_det.data.coco` alone decides what is a fault. Its errors name the entries
that are at fault; those are taken out, and the rest is read again.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nasnet_det.data import coco as reader
from nasnet_det.data.coco import CocoFile, parse_coco
from nasnet_det.data.columns import Record
from nasnet_det.data.error import DataError
from nasnet_det.data.formats import recognition
from nasnet_det.data.picture_sizes import fill_sizes
from nasnet_det.doctor.findings import Finding, Level
from nasnet_det.doctor.listening import listen

LISTS = ("images", "annotations", "categories")
_REFERENCES = {"images": "image_id", "categories": "category_id"}
_NOTES = ("missing_area", "back_slashes", "no_box")  # what is said and takes nothing away


@dataclass(frozen=True)
class Annotations:
    """A JSON as it is trained.

    Attributes:
        coco: without the entries at fault.
        entries: of its objects, as the file has them.
        refused: annotations at fault, or of an image or a category at fault.
    """

    coco: CocoFile
    entries: Sequence[Record]
    refused: Sequence[Record]

    def find_ids(self, chosen: np.ndarray) -> list[Any]:
        """The ids in the file of the objects that are chosen, by indices or truth values."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return [self.entries[place]["id"] for place in places.tolist()]


def read_annotations(
    path: str | os.PathLike[str], *, images: str = "", with_shapes: bool = False
) -> tuple[Annotations | None, list[Finding]]:
    """Read a data set with all of its faults.

    Args:
        path: of the JSON, or the address of a set in another format.
        images: the folder of pictures, whose headers say the sizes that the file does not say.
        with_shapes: masks or keypoints are trained.

    Returns:
        None where nothing can be read, or most of a list is at fault; and what was found.
    """
    where = os.path.abspath(path)
    findings: list[Finding] = []
    refused: list[Record] = []
    try:
        found = recognition.read_annotations(where, images=images)
    except DataError as error:
        return None, [_describe_fault(where, error)]
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        return None, [Finding(Level.ERROR, "unreadable", where, f"can't be read: {reason}")]
    data = found.content
    findings += [
        Finding(Level.WARNING, "left_out", where, f"left out: {line}")
        for line in found.losses.describe()
    ]
    settle = partial(fill_sizes, where, image_root=images) if os.path.isdir(images) else None
    while True:
        with listen(str(reader.__package__), logging.WARNING) as told:
            try:
                coco = parse_coco(
                    where, data, found.sha256, with_shapes=with_shapes, settle_sizes=settle
                )
                break
            except DataError as error:
                findings.append(_describe_fault(where, error))
                if not _take_out(data, error.records, refused):
                    return None, findings
    unsized = [r for r in data["images"] if None in (r.get("width"), r.get("height"))]
    if unsized:
        text = f"{len(unsized)} of {len(coco.image_ids)} images have no width and height, and get "
        text += "those of their pictures"
        ids = [_find_id(record) for record in unsized]
        findings.append(Finding(Level.NOTE, "missing_size", where, text, "images", ids))
    kept = [r for r in data.get("annotations", ()) if r.get("bbox") != []]
    known = {finding.kind for finding in findings}  # here with ids
    remarks = (_describe_remark(where, record) for record in told)
    findings += [remark for remark in remarks if remark.kind not in known]
    return Annotations(coco, kept, refused), findings


def _describe_fault(where: str, error: DataError) -> Finding:
    of = error.where.partition(".")[0]
    return Finding(
        level=Level.ERROR,
        kind=error.where or "unreadable",
        file=where,
        text=str(error).removeprefix(f"{where}: "),
        of=of if of in LISTS else "",
        ids=[_find_id(record) for record in error.records],
    )


def _describe_remark(where: str, record: logging.LogRecord) -> Finding:
    kind, entries = getattr(record, "kind", "remark"), getattr(record, "records", ())
    of = {"same_names": "categories", "back_slashes": "images"}.get(kind, "annotations")
    return Finding(
        level=Level.NOTE if kind in _NOTES else Level.WARNING,
        kind=kind,
        file=where,
        text=record.getMessage().removeprefix(f"{where}: "),
        of=of if entries else "",
        ids=[_find_id(entry) for entry in entries],
    )


def _find_id(record: Any) -> Any:
    return record.get("id") if isinstance(record, dict) else None


def _take_out(data: Any, faulty: Sequence[Any], refused: list[Record]) -> bool:
    """Take entries out of their list, with the annotations of images and categories among them.

    Returns:
        False where that leaves less than half of the list.
    """
    places = {id(record) for record in faulty}
    for key in LISTS if isinstance(data, dict) else ():
        records = data.get(key)
        if not isinstance(records, list) or not any(id(record) in places for record in records):
            continue
        rest = [record for record in records if id(record) not in places]
        if len(rest) < len(records) / 2:
            return False
        data[key] = rest
        if key == "annotations":
            refused += [record for record in faulty if isinstance(record, dict)]
        else:
            gone = {_find_key(record, "id") for record in faulty}
            gone -= {None, *(_find_key(record, "id") for record in rest)}
            _take_out_references(data, key, gone, refused)
        return True
    return False


def _take_out_references(data: Record, key: str, gone: set[Any], refused: list[Record]) -> None:
    """Take out the annotations of images or categories that are gone."""
    annotations = data.get("annotations")
    if not isinstance(annotations, list):
        return
    field = _REFERENCES[key]
    is_gone = [_find_key(record, field) in gone for record in annotations]
    refused += itertools.compress(annotations, is_gone)
    data["annotations"] = [r for r, out in zip(annotations, is_gone, strict=True) if not out]


def _find_key(record: Any, field: str) -> Any:
    """A value that can be an id; None of all others."""
    value = record.get(field) if isinstance(record, dict) else None
    return value if isinstance(value, int | float | str) else None
