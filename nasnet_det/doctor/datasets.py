"""Data sets: what is trained of them, and everything that speaks against it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nasnet_det.data.columns import shorten
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import find_address, find_images, is_coco
from nasnet_det.data.picture_files import list_pictures
from nasnet_det.doctor.annotations import Annotations, read_annotations
from nasnet_det.doctor.boxes import check_boxes, check_classes, count_boxes
from nasnet_det.doctor.duplicates import PictureSet, check_duplicates
from nasnet_det.doctor.findings import Examination, Finding, Level, sort_findings
from nasnet_det.doctor.pictures import Look, check_pictures, look_at_pictures
from nasnet_det.doctor.scales import Scale, check_scale

SMALL, LARGE = 32**2, 96**2  # COCO's limits of APs, APm and APl, in pixels


@dataclass(frozen=True)
class DataFiles:
    """Where a data set lies.

    Attributes:
        json: its annotations, or the address of a set in another format.
        images: the folder that its file names start from; "" for the format's own.
        is_train: whether it is trained on, or evaluated on.
    """

    json: str
    images: str = ""
    is_train: bool = True


@dataclass(frozen=True)
class _Read:
    """A set that was read, and the looks at its pictures."""

    files: DataFiles
    annotations: Annotations
    paths: Sequence[str]
    looks: Sequence[Look]


def examine_datasets(
    sets: Sequence[DataFiles],
    *,
    decode: bool = True,
    with_shapes: bool = False,
    scale: Scale | None = None,
) -> list[Examination]:
    """Examine data sets, and compare them with each other.

    Args:
        sets: those that are trained on first.
        decode: decode all pictures, which alone finds those that are cut off or look alike; else
            headers only, some thousand a second.
        with_shapes: masks or keypoints are trained.
        scale: the anchors and the input size of a config, with which objects are compared.

    Returns:
        one examination a set.

    Raises:
        DataError: a JSON came without its folder of pictures, or a folder is no data set.
    """
    findings: list[list[Finding]] = []
    read: dict[int, _Read] = {}
    sets = [complete_files(files) for files in sets]
    for number, files in enumerate(sets):
        annotations, found = read_annotations(
            files.json, images=files.images, with_shapes=with_shapes
        )
        findings.append(found)
        if annotations is not None:
            coco = annotations.coco
            paths = [os.path.join(files.images, name) for name in coco.file_names]
            looks = look_at_pictures(paths, decode=decode)
            read[number] = _Read(files, annotations, paths, looks)
            found += check_pictures(coco, paths, looks)
            found += check_boxes(annotations, is_test=not files.is_train)
            found += check_classes(annotations, is_train=files.is_train)
            found += _check_images_without_boxes(annotations)
            if scale is not None and files.is_train:
                found += check_scale(annotations, scale)
    listed = {os.path.realpath(path) for one in read.values() for path in one.paths}
    for number, one in read.items():
        findings[number] += _check_unlisted(one, listed)
    _compare(read, findings)
    return [
        Examination(
            title=f"{'training' if files.is_train else 'test'} set {os.path.abspath(files.json)}",
            facts=_list_facts(read[number]) if number in read else {},
            findings=sort_findings(findings[number]),
        )
        for number, files in enumerate(sets)
    ]


def complete_files(files: DataFiles) -> DataFiles:
    """The split of a folder that is meant, and the folder of the pictures.

    Raises:
        DataError: there are splits, and none is for this; or a JSON came without its pictures.
    """
    if is_coco(files.json):
        if not files.images:
            raise DataError(
                f"{files.json}: wanted the folder of its pictures too, from which its file_name "
                "entries start"
            )
        return files
    address = find_address(os.path.abspath(files.json), is_train=files.is_train)
    return replace(files, json=address, images=files.images or find_images(address))


def _compare(read: dict[int, _Read], findings: list[list[Finding]]) -> None:
    """Add what only a comparison of the sets shows."""
    numbers = list(read)
    pictures = [
        PictureSet(one.annotations.coco, one.files.is_train, one.paths, one.looks)
        for one in read.values()
    ]
    for number, found in zip(numbers, check_duplicates(pictures), strict=True):
        findings[number] += found
    for number in numbers[1:]:
        first, other = read[numbers[0]].annotations.coco, read[number].annotations.coco
        if other.category_names != first.category_names:
            findings[number].append(
                Finding(
                    level=Level.ERROR,
                    kind="other_classes",
                    file=other.path,
                    text=f"its classes are {shorten(other.category_names)} by their ids, those of "
                    f"{os.path.basename(first.path)} are {shorten(first.category_names)}: "
                    + _describe_difference(first.category_names, other.category_names),
                    of="categories",
                    ids=other.category_ids,
                    advice="give both files the same categories",
                )
            )


def _describe_difference(first: Sequence[str], other: Sequence[str]) -> str:
    if sorted(first) == sorted(other):
        return "the same names in another order"
    only = [sorted(set(these) - set(those)) for these, those in ((first, other), (other, first))]
    lists = [
        f"only the {which} has {shorten(names)}"
        for which, names in zip(("first", "second"), (only[1], only[0]), strict=True)
        if names
    ]
    return " and ".join(lists) or "some names come more than once"


def _check_images_without_boxes(annotations: Annotations) -> list[Finding]:
    coco = annotations.coco
    if not coco.has_annotations:
        text = "it has no annotations, so detections are written and not scored"
        return [Finding(Level.NOTE, "no_annotations", coco.path, text)]
    if not coco.objects.is_usable.any():
        text = "none of its pictures has a box to train on or to score"
        return [Finding(Level.ERROR, "no_boxes", coco.path, text)]
    refused = {repr(entry.get("image_id")) for entry in annotations.refused}
    counts = np.bincount(coco.objects.image, minlength=len(coco.image_ids))
    ids = [
        key
        for key, n in zip(coco.image_ids, counts.tolist(), strict=True)
        if not n and repr(key) not in refused
    ]
    if not ids:
        return []
    text = f"{len(ids)} of {len(counts)} pictures have no box"
    advice = "DATALOADER.FILTER_EMPTY_ANNOTATIONS False trains on them too"
    return [Finding(Level.NOTE, "no_objects", coco.path, text, "images", ids, (), advice)]


def _check_unlisted(one: _Read, listed: set[str]) -> list[Finding]:
    """Pictures of the folder that no JSON names."""
    try:
        found = list_pictures(one.files.images)
    except DataError:  # then all pictures are missing, which is said already
        return []
    left = [path for path in found if os.path.realpath(path) not in listed]
    if not left:
        return []
    text = f"{len(left)} of {len(found)} pictures in {one.files.images} are in none of the JSONs"
    coco = one.annotations.coco
    return [Finding(Level.NOTE, "unlisted_picture", coco.path, text, pictures=left)]


def _list_facts(one: _Read) -> dict[str, Any]:
    """What is trained or evaluated."""
    coco = one.annotations.coco
    objects = coco.objects
    usable = objects.is_usable
    areas = objects.areas[usable]
    sides = np.sqrt(objects.boxes[usable, 2:].prod(axis=1))
    sizes = sorted({(look.header.width, look.header.height) for look in one.looks if look.header})
    counts = dict(zip(coco.category_names, count_boxes(one.annotations), strict=True))
    small, large = int((areas < SMALL).sum()), int((areas >= LARGE).sum())
    facts: dict[str, Any] = {
        "pictures": len(coco.image_ids),
        "pictures that can be read": sum(not look.fault for look in one.looks),
        "annotations": len(objects) + len(one.annotations.refused),
        "boxes that count": len(areas),
        "crowds": int(objects.is_crowd.sum()),
        "classes": len(counts),
        "boxes of each class": dict(sorted(counts.items(), key=lambda item: -item[1])),
        "small, medium and large boxes": [small, len(areas) - small - large, large],
    }
    if len(sides):
        facts["size of a box in pixels, least, median, largest"] = [
            round(float(value), 1) for value in (sides.min(), np.median(sides), sides.max())
        ]
    if sizes:
        facts["sizes of pictures"] = (
            [f"{w}x{h}" for w, h in sizes]
            if len(sizes) < 4
            else f"{len(sizes)}, from {sizes[0][0]}x{sizes[0][1]} to {sizes[-1][0]}x{sizes[-1][1]}"
        )
    return facts
