"""A Pascal VOC data set of small pictures, all 60x40."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (60, 40)


def make_xml(
    objects: Sequence[tuple[Any, ...]],
    *,
    filename: str = "a.jpg",
    size: tuple[int, int] = SIZE,
    extra: str = "",
) -> str:
    """An annotation; objects are (class, xmin, ymin, xmax, ymax), and ``extra`` is in each."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    parts = []
    for name, *box in objects:
        corners = "".join(f"<{s}>{v}</{s}>" for s, v in zip(sides, box, strict=True))
        parts.append(
            f"<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>"
            f"<difficult>0</difficult><bndbox>{corners}</bndbox>{extra}</object>"
        )
    return (
        f"<annotation><folder>x</folder><filename>{filename}</filename><size><width>{size[0]}"
        f"</width><height>{size[1]}</height><depth>3</depth></size><segmented>0</segmented>"
        f"{''.join(parts)}</annotation>"
    )


def write_picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def write_voc_folder(
    place: Path, objects: Mapping[str, Sequence[tuple[Any, ...]]], **splits: str
) -> Path:
    """The folder ``place/voc``.

    Args:
        place: where.
        objects: picture -> its objects.
        **splits: name -> pictures of one letter each.
    """
    folder = place / "voc"
    for name, boxes in objects.items():
        write_picture(folder / "JPEGImages" / f"{name}.jpg")
        (folder / "Annotations").mkdir(exist_ok=True)
        xml = make_xml(boxes, filename=f"{name}.jpg")
        (folder / "Annotations" / f"{name}.xml").write_text(xml)
    for split, letters in splits.items():
        (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(letters))
    return folder
