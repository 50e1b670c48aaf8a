"""CSV: a line an object, as people's scripts and several tools write it.

Written are the columns ``filename,width,height,class,xmin,ymin,xmax,ymax``. Read are these in any
order and under the names of :data:`COLUMNS` (capitals, spaces and ``_`` don't count); without
corners, ``x,y,width,height`` of the box; and without a header ``path,x1,y1,x2,y2,class``. Numbers
are edges in pixels from 0; where all are in [0, 1] and not all are whole, shares of the picture, as
Open Images has them. A line without a box is a picture without an object. Fields are parted by
commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import AnnotatedSet, Box, SetBuilder, group_objects
from nasnet_det.data.formats.files import get_base, index_pictures
from nasnet_det.data.formats.losses import Faults
from nasnet_det.runs.files import write_content

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("filename", "image", "imagename", "imagepath", "path", "file", "imageid"),
    "class": ("class", "classname", "label", "labelname", "category", "name"),
    "left": ("xmin", "x1", "left", "xtl"),
    "top": ("ymin", "y1", "top", "ytl"),
    "right": ("xmax", "x2", "right", "xbr"),
    "bottom": ("ymax", "y2", "bottom", "ybr"),
}
SIZED_BOX: Mapping[str, tuple[str, ...]] = {
    "left": ("x",),
    "top": ("y",),
    "box width": ("width", "w"),
    "box height": ("height", "h"),
}
IMAGE_SIZE = {"width": ("width", "imagewidth"), "height": ("height", "imageheight")}
HEAD = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
BARE = ("image", "left", "top", "right", "bottom", "class")
_CORNERS = ("left", "top", "right", "bottom")

Line = dict[str, str]


def is_table(path: str) -> bool:
    """Whether a path is a CSV by its name."""
    return path.lower().endswith(".csv")


def read_table(
    path: str,
    split: str = "",
    *,
    images: str = "",
    classes: Sequence[str] | None = None,
    first_pixel: int = 0,
) -> AnnotatedSet:
    """Read a CSV.

    Args:
        path: of the file.
        split: a CSV has none.
        images: the folder of pictures; that of the file by default.
        classes: their names in order; by default all that occur, sorted.
        first_pixel: 1 where pixels count from 1 and a box includes its last ones, as in VOC.

    Raises:
        DataError: it has no such columns, or a line can't be read; the first faults are named.
    """
    lines, left_out = _read_lines(path)
    faults = Faults(path)
    boxes = [_read_box(line, number, faults) for number, line in lines.items()]
    faults.raise_any(len(lines), "lines")
    numbers = [number for box in boxes if box for number in box]
    are_shares = all(0 <= v <= 1 for v in numbers) and not all(v.is_integer() for v in numbers)
    pairs = list(zip(lines.values(), boxes, strict=True))
    if classes is None:
        classes = sorted({line["class"] for line, box in pairs if box})
    builder = SetBuilder(path, images or os.path.dirname(path), classes)
    for head in left_out:
        builder.losses.add(f"values of the column {head:.40}", count=len(lines))
    pictures = index_pictures(builder.image_root)
    records = {}
    for line, box in pairs:
        name = line["image"]
        if name not in records:
            found = _find_picture(name, builder.image_root, pictures)
            records[name] = builder.add_image(found or name, _read_size(line))
        image = records[name]
        if box is None:
            continue
        sides = (image.get("width", math.nan), image.get("height", math.nan)) * 2
        if are_shares and sides[0] != sides[0]:
            raise DataError(
                f"{path}: boxes are shares of their pictures, and no size of {name} is known; "
                f"wanted columns width and height, or the picture in {builder.image_root}"
            )
        scale = sides if are_shares else (1, 1, 1, 1)
        corners = [v * s for v, s in zip(box, scale, strict=True)]
        left, top, right, bottom = corners
        shift = 0 if are_shares else first_pixel
        builder.add_object(image, line["class"], (left - shift, top - shift, right, bottom))
    return builder.build()


def _read_lines(path: str) -> tuple[dict[int, Line], list[str]]:
    """Number -> role -> text of each line, and the columns that are left out.

    Raises:
        DataError: it can't be read, or lacks a column.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: it can't be read as a CSV: {error}") from None
    head = rows[0] if rows else []
    roles = _find_roles(head)
    is_bare = len(head) == len(BARE) and all(map(_is_number_or_empty, head[1:5]))
    if is_bare:
        roles = dict(enumerate(BARE))
    needed = {"image", "class", "left", "top"} - set(roles.values())
    if needed or not {"right", "box width"} & set(roles.values()):
        raise DataError(
            f"{path}: wanted the columns {', '.join(HEAD)}, or path,x1,y1,x2,y2,class without a "
            f"header, got {', '.join(head)!r:.100}"
        )
    lines = {
        number: {role: row[i].strip() if i < len(row) else "" for i, role in roles.items()}
        for number, row in enumerate(rows, start=1)
        if (number > 1 or is_bare) and any(map(str.strip, row))
    }
    return lines, [name for i, name in enumerate(head) if i not in roles]


def _find_roles(head: Sequence[str]) -> dict[int, str]:
    """Column -> what it is, of those that are known."""
    names = ["".join(c for c in name.lower() if c.isalnum()) for name in head]
    found: dict[int, str] = {}

    def look(roles: Mapping[str, Sequence[str]]) -> None:
        for role, known in roles.items():
            places = [names.index(name) for name in known if name in names]
            if role not in found.values() and places and places[0] not in found:
                found[places[0]] = role

    look(COLUMNS)
    if "left" not in found.values():
        look(SIZED_BOX)
    look(IMAGE_SIZE)
    return found


def _is_number_or_empty(text: str) -> bool:
    return not text.strip() or not math.isnan(_read_number(text))


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_box(line: Line, number: int, faults: Faults) -> Box | None:
    """Left, top, right and bottom; None where the line has no box."""
    keys = _CORNERS if "right" in line else tuple(SIZED_BOX)
    texts = [line.get(key, "") for key in keys]
    if not line["image"]:
        faults.texts.append(f"line {number}: wanted the name of a picture, got none")
        return None
    if not any(texts):
        return None
    left, top, *ends = map(_read_number, texts)
    if not all(map(math.isfinite, (left, top, *ends))) or not line["class"]:
        got = ",".join([*texts, line["class"]])
        faults.texts.append(f"line {number}: wanted four numbers and a class, got {got:.80}")
        return None
    right, bottom = ends if "right" in line else (left + ends[0], top + ends[1])
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _read_size(line: Line) -> tuple[int, int] | None:
    sides = [_read_number(line.get(key, "")) for key in IMAGE_SIZE]
    return (int(sides[0]), int(sides[1])) if all(0 < v < 2**31 for v in sides) else None


def _find_picture(name: str, images: str, pictures: Mapping[str, str]) -> str | None:
    """The picture that is meant, from the folder of pictures; None if it is not there."""
    name = name.replace("\\", "/")
    if os.path.isfile(os.path.join(images, name)):
        return os.path.relpath(os.path.join(images, name), images).replace(os.sep, "/")
    stems = [name, os.path.splitext(name)[0], get_base(name), os.path.splitext(get_base(name))[0]]
    return next((pictures[stem] for stem in stems if stem in pictures), None)


def write_table(found: AnnotatedSet, names: Sequence[str], folder: str, split: str) -> None:
    """Write ``<split>.csv``; pictures stay where they are.

    Args:
        found: every image has its size.
        names: of the pictures, one an image.
        folder: of the file.
        split: its name.
    """
    objects = group_objects(found.content)
    labels = {record["id"]: record["name"] for record in found.content["categories"]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for image, name in zip(found.content["images"], names, strict=True):
        start = [name, image["width"], image["height"]]
        for record in objects.get(image["id"], ()):
            left, top, width, height = record["bbox"]
            corners = [left, top, left + width, top + height]
            writer.writerow(
                [*start, labels[record["category_id"]], *(f"{v:.10g}" for v in corners)]
            )
        if image["id"] not in objects:
            writer.writerow([*start, *[""] * 5])
    write_content(os.path.join(folder, f"{split}.csv"), text.getvalue())
