"""Pictures side by side, with their objects."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import picture_suffixes
from nasnet_det.runs.files import write_content

NUM_COLUMNS, NUM_ROWS = 6, 4
TILE, GAP, LABEL = 260, 6, 14  # pixels
TINT = 0.4  # of a mask's colour


@dataclass(frozen=True)
class DrawnObject:
    """An object of a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the picture.
        label: number of its class, which chooses the colour.
        name: of its class.
        mask: (H, W) bool of the picture; None for none.
        line_width: of the box, in pixels of the tile.
    """

    box: tuple[float, float, float, float]
    label: int
    name: str
    mask: np.ndarray | None = None
    line_width: int = 2


def find_format(path: str) -> str:
    """Pillow's name of the format that a picture's name asks for.

    Raises:
        DataError: it asks for none.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in picture_suffixes():
        raise DataError(f"{path}: wanted a name that ends as a picture's, such as .jpg or .png")
    return Image.registered_extensions()[suffix]


def draw_tile(picture: Image.Image, objects: Sequence[DrawnObject], text: str) -> Image.Image:
    """A picture with its objects and a line of text below, in the size of a tile."""
    factor = min(TILE / picture.width, TILE / picture.height)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    tile = Image.new("RGB", (TILE, TILE + LABEL), "white")
    tile.paste(_tint(picture, objects).resize(size, Image.Resampling.BILINEAR))
    draw = ImageDraw.Draw(tile)
    for drawn in objects:
        x0, y0, x1, y1 = (value * factor for value in drawn.box)
        colour = choose_colour(drawn.label)
        corners = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        draw.rectangle(corners, outline=colour, width=drawn.line_width)
        _write(draw, (x0 + 2, y0 + 1), drawn.name[:18], colour)
    _write(draw, (0, TILE), text[:44], (0, 0, 0))
    return tile


def write_sheet(path: str, tiles: Sequence[Image.Image], picture_format: str) -> None:
    """Write tiles in rows into one picture.

    Args:
        path: of the picture; what lies there is replaced.
        tiles: of :func:`draw_tile`.
        picture_format: of :func:`find_format`.

    Raises:
        DataError: Pillow can't write this format.
        FileError: the file can't be written.
    """
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


def _tint(picture: Image.Image, objects: Sequence[DrawnObject]) -> Image.Image:
    masked = [(drawn.mask, drawn.label) for drawn in objects if drawn.mask is not None]
    if not masked:
        return picture
    pixels = np.array(picture.convert("RGB"), float)
    for mask, label in masked:
        pixels[mask] += TINT * (np.array(choose_colour(label)) - pixels[mask])
    return Image.fromarray(pixels.astype(np.uint8))


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
