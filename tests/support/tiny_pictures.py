"""Pictures of one colour, and folders of classes with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

Color = tuple[int, int, int]


def write_picture(path: Path, color: Color = (0, 0, 0), size: tuple[int, int] = (48, 40)) -> Path:
    """One picture of a colour; size is width and height in pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def write_class(folder: Path, colors: Iterable[Color], size: tuple[int, int] = (48, 40)) -> Path:
    """``0.png``, ``1.png``, ... of the colours in a folder."""
    for number, color in enumerate(colors):
        write_picture(folder / f"{number}.png", color, size)
    return folder


def write_pictures_of(data: dict[str, Any], folder: Path, color: Color = (0, 0, 0)) -> Path:
    """The pictures that a COCO-format data set names, of the sizes that it says."""
    for image in data["images"]:
        write_picture(folder / image["file_name"], color, (image["width"], image["height"]))
    return folder
