"""Pictures of data sets side by side, with their boxes as they are trained."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from nasnet_det.data.coco import CocoFile
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import PictureError, read_picture
from nasnet_det.doctor.annotations import Annotations, read_annotations
from nasnet_det.doctor.datasets import DataFiles, complete_files
from nasnet_det.doctor.findings import Finding
from nasnet_det.doctor.writing import check_free
from nasnet_det.drawing.sheet import (
    NUM_COLUMNS,
    NUM_ROWS,
    DrawnObject,
    draw_tile,
    find_format,
    write_sheet,
)

NUM_OF_FINDING = 3  # pictures


def write_contact_sheet(path: str, files: DataFiles, findings: Sequence[Finding] = ()) -> int:
    """Draw pictures of a data set into one picture.

    Args:
        path: of the picture to write; its suffix says the format.
        files: the data set.
        findings: whose pictures come first, and fill up to half of the sheet; the others are
            spread evenly.

    Returns:
        how many pictures are on the sheet; those that can't be read are left out.

    Raises:
        DataError: the suffix is not a picture's, or the data set can't be read.
        FileError: the sheet can't be written, or something lies there.
    """
    picture_format = find_format(path)
    check_free(path)
    files = complete_files(files)
    annotations, faults = read_annotations(files.json, images=files.images)
    if annotations is None:
        raise DataError(f"{path}: nothing can be drawn of {files.json}: {faults[-1].text}")
    coco = annotations.coco
    first = [place for finding in findings for place in _find_images(annotations, finding)]
    places = choose_images(len(coco.image_ids), NUM_COLUMNS * NUM_ROWS, first)
    drawn = [_draw_tile(coco, files.images, place) for place in places]
    tiles = [tile for tile in drawn if tile is not None]
    write_sheet(path, tiles, picture_format)
    return len(tiles)


def _find_images(annotations: Annotations, finding: Finding) -> list[int]:
    """The first few images that a finding is about, by their places."""
    wanted = set(map(repr, finding.ids))
    if finding.of == "images":
        keys = map(repr, annotations.coco.image_ids)
        found = [place for place, key in enumerate(keys) if key in wanted]
    elif finding.of == "annotations":
        images = annotations.coco.objects.image.tolist()
        pairs = zip(images, annotations.entries, strict=True)
        found = [place for place, entry in pairs if repr(entry["id"]) in wanted]
    else:
        return []
    return list(dict.fromkeys(found))[:NUM_OF_FINDING]


def choose_images(number: int, wanted: int, first: Sequence[int] = ()) -> list[int]:
    """At most ``wanted`` of ``number`` images: at most half of them from ``first``."""
    chosen = list(dict.fromkeys(first))[: wanted // 2]
    free = min(wanted, number) - len(chosen)
    rest = np.setdiff1d(np.arange(number), chosen)
    if free > 0:
        chosen += rest[np.arange(free) * len(rest) // free].tolist()
    return chosen


def _draw_tile(coco: CocoFile, image_root: str, place: int) -> Image.Image | None:
    name = coco.file_names[place]
    try:
        picture = read_picture(os.path.join(image_root, name))
    except PictureError:
        return None
    objects = coco.objects
    drawn = []
    for number in np.flatnonzero(objects.image == place).tolist():
        x, y, width, height = (float(value) for value in objects.boxes[number])
        label = int(objects.category[number])
        line = 1 if objects.is_crowd[number] else 2
        box = (x, y, x + width, y + height)
        drawn.append(DrawnObject(box, label, coco.category_names[label], line_width=line))
    return draw_tile(picture, drawn, f"{coco.image_ids[place]}: {os.path.basename(name)}")
