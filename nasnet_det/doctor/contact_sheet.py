"""Pictures of data sets side by side, with their boxes as they are trained."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nasnet_det.data.coco import CocoFile
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import PictureError, picture_suffixes, read_picture
from nasnet_det.doctor.annotations import Annotations, read_annotations
from nasnet_det.doctor.datasets import DataFiles, complete_files
from nasnet_det.doctor.findings import Finding
from nasnet_det.doctor.writing import check_free
from nasnet_det.runs.files import write_content

NUM_COLUMNS, NUM_ROWS = 6, 4
NUM_OF_FINDING = 3  # pictures
TILE, GAP, LABEL = 260, 6, 14  # pixels


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
    rows = max(1, -(-len(tiles) // NUM_COLUMNS))
    step = (TILE + GAP, TILE + LABEL + GAP)
    sheet = Image.new("RGB", (NUM_COLUMNS * step[0] + GAP, rows * step[1] + GAP), "white")
    for number, tile in enumerate(tiles):
        column, row = number % NUM_COLUMNS, number // NUM_COLUMNS
        sheet.paste(tile, (GAP + column * step[0], GAP + row * step[1]))
    content = io.BytesIO()
    try:
        sheet.save(content, format=picture_format)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: this format can't be written ({error})") from None
    write_content(path, content.getvalue())
    return len(tiles)


def find_format(path: str) -> str:
    """Pillow's name of the format that a picture's name asks for.

    Raises:
        DataError: it asks for none.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in picture_suffixes():
        raise DataError(f"{path}: wanted a name that ends as a picture's, such as .jpg or .png")
    return Image.registered_extensions()[suffix]


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
    factor = min(TILE / picture.width, TILE / picture.height)
    size = [max(1, round(side * factor)) for side in picture.size]
    tile = Image.new("RGB", (TILE, TILE + LABEL), "white")
    tile.paste(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR))
    draw = ImageDraw.Draw(tile)
    objects = coco.objects
    for number in np.flatnonzero(objects.image == place).tolist():
        x, y, width, height = (float(v) for v in objects.boxes[number] * factor)
        colour = choose_colour(int(objects.category[number]))
        line = 1 if objects.is_crowd[number] else 2
        draw.rectangle((x, y, x + max(width, 1), y + max(height, 1)), outline=colour, width=line)
        _write(draw, (x + 2, y + 1), coco.category_names[objects.category[number]][:18], colour)
    _write(draw, (0, TILE), f"{coco.image_ids[place]}: {os.path.basename(name)}"[:44], (0, 0, 0))
    return tile


def choose_colour(label: int) -> tuple[int, int, int]:
    """A colour of each class; neighbours are far apart."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.9, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: tuple[int, int, int]
) -> None:
    font = ImageFont.load_default()
    try:
        draw.text(place, text, fill=colour, font=font)
    except UnicodeError:  # the font of old Pillows knows Latin letters only
        draw.text(place, text.encode("ascii", "replace").decode(), fill=colour, font=font)
