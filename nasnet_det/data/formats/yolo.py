"""YOLO: a ``data.yaml`` with names and folders, and a text beside each picture's folder.

Lines are ``class x y width height`` of the box's centre and size, as shares of the upright picture;
a class with three points or more is a polygon; with ``kpt_shape`` in the YAML keypoints follow the
box. ``images`` in the path of a picture becomes ``labels`` in that of its text; where there is no
such part, the text lies beside the picture. A picture without a text has no objects. A sixth number
after a box is a score, which is left out.

Shares are written with ten digits. Pixels are read to a hundredth, which undoes the rounding of six
digits up to pictures of 6,600 pixels.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import (
    AnnotatedSet,
    Record,
    SetBuilder,
    group_objects,
    tidy_number,
)
from nasnet_det.data.formats.files import find_size
from nasnet_det.data.formats.losses import Faults
from nasnet_det.data.formats.yolo_file import SPLITS, YAML, YoloFile, is_yolo_folder
from nasnet_det.runs.files import write_content

MAX_SHARE = 1.01  # what is farther outside is no share
_DIGITS = 10


def is_yolo(path: str) -> bool:
    """Whether a path is a ``data.yaml``, or a folder with one, or with images and labels."""
    is_file = path.lower().endswith((".yaml", ".yml"))
    return is_file or os.path.isfile(os.path.join(path, YAML)) or is_yolo_folder(path)


def list_yolo_splits(path: str) -> list[str]:
    """The splits that the YAML names, and that are there."""
    data = YoloFile(path)
    return [split for split in SPLITS if data.content.get(split) and data.find(split)]


def find_yolo_images(path: str) -> str:
    """The folder from which file names start."""
    return YoloFile(path).root


def list_yolo_roots(path: str) -> list[str]:
    """The YAML, and the folder that texts and pictures are in."""
    data = YoloFile(path)
    return [data.path, data.root]


def read_yolo(
    path: str, split: str = "", *, images: str = "", classes: Sequence[str] | None = None
) -> AnnotatedSet:
    """Read a split.

    Args:
        path: of the ``data.yaml`` or its folder.
        split: a name of :data:`SPLITS`.
        images: not for YOLO, whose YAML says where they are.
        classes: names in place of the YAML's.

    Raises:
        DataError: the YAML or a line can't be read; all faults are counted, the first are named.
    """
    data = YoloFile(path)
    if images and os.path.abspath(images) != os.path.abspath(data.root):
        raise DataError(f"{data.path}: it says itself where the images are; leave {images} out")
    names = list(classes) if classes is not None else data.read_names()
    found = data.list_pictures(split)
    builder = SetBuilder(f"{path}#{split}", data.root, names)
    faults = Faults(f"{path}#{split}")
    reader = _LabelReader(builder, faults, names, data.content.get("kpt_shape"))
    for picture in found:
        reader.add(picture)
    faults.raise_any(len(found), "texts of pictures")
    return builder.build()


def find_text(picture: str) -> str:
    """The path of a picture's text."""
    head, mark, tail = picture.replace("\\", "/").rpartition("/images/")
    return os.path.splitext(f"{head}/labels/{tail}" if mark else picture)[0] + ".txt"


class _LabelReader:
    """Adds pictures with what their texts say."""

    def __init__(
        self, builder: SetBuilder, faults: Faults, names: Sequence[str], shape: Any
    ) -> None:
        self.builder, self.faults, self.names = builder, faults, names
        is_shape = isinstance(shape, list) and len(shape) == 2 and shape[1] in (2, 3)
        if shape is not None and not (is_shape and type(shape[0]) is int and shape[0] > 0):
            raise DataError(
                f"{builder.where}: kpt_shape: wanted the number of keypoints, then 2 or 3, got "
                f"{reprlib.repr(shape)}"
            )
        self.keypoints = (shape[0], shape[1]) if shape is not None else None

    def add(self, picture: str) -> None:
        """One picture.

        Args:
            picture: its path.
        """
        name = os.path.relpath(picture, self.builder.image_root).replace(os.sep, "/")
        size = find_size(picture)
        image = self.builder.add_image(name, size)
        path = Path(find_text(picture))
        if not path.is_file():
            return
        if size is None:
            self.builder.losses.add("pictures that can't be read, with their objects", name)
            return
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if words := line.split():
                self._add_line(image, words, size, f"{path.name}, line {number}")

    def _add_line(
        self, image: Record, words: Sequence[str], size: tuple[int, int], place: str
    ) -> None:
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if not all(map(math.isfinite, numbers)):
            numbers = []
        label, shares = (numbers[0], numbers[1:]) if numbers else (math.nan, [])
        more: dict[str, Any] = {}
        if self.keypoints and len(shares) == 4 + math.prod(self.keypoints):
            more = self._read_keypoints(shares[4:], size)
            shares = shares[:4]
        if len(shares) == 5:
            self.builder.losses.add("scores after boxes", place)
            shares = shares[:4]
        is_class = label.is_integer() and 0 <= label < len(self.names)
        is_shape = len(shares) == 4 or (len(shares) >= 6 and len(shares) % 2 == 0)
        if not (is_class and is_shape and all(abs(v) <= MAX_SHARE for v in shares)):
            self.faults.texts.append(
                f"{place}: wanted a class below {len(self.names)}, then x y width height or the "
                f"points of a polygon as shares of the picture, got {' '.join(words):.60}"
            )
            return
        if len(shares) == 4:
            x, y, width, height = (v * side for v, side in zip(shares, size * 2, strict=True))
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        else:
            points = [tidy_number(v * size[i % 2]) for i, v in enumerate(shares)]
            xs, ys = points[::2], points[1::2]
            corners = (min(xs), min(ys), max(xs), max(ys))
            more["segmentation"] = [points]
        self.builder.add_object(image, self.names[int(label)], corners, **more)

    def _read_keypoints(self, shares: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
        """COCO's x, y and visibility of each point."""
        assert self.keypoints
        step, values = self.keypoints[1], []
        for start in range(0, len(shares), step):
            x, y = shares[start] * size[0], shares[start + 1] * size[1]
            seen = int(shares[start + 2]) if step == 3 else 2
            values += [tidy_number(x), tidy_number(y), seen]
        return {"keypoints": values, "num_keypoints": sum(v > 0 for v in values[2::3])}


def write_yolo(found: AnnotatedSet, names: Sequence[str], folder: str, split: str) -> None:
    """Write the texts of a split, and its line in ``data.yaml``; pictures are the caller's.

    An object whose mask is one polygon is written as that if all objects of the set are.

    Args:
        found: every image has its size.
        names: of the pictures in ``images/<split>``, one an image.
        folder: of the data set.
        split: its name.
    """
    content = found.content
    classes = {c["id"]: i for i, c in enumerate(content["categories"])}
    objects = group_objects(content)
    as_polygons = bool(content.get("annotations")) and all(
        _has_polygon(record) for record in content["annotations"]
    )
    for image, name in zip(content["images"], names, strict=True):
        size = (image["width"], image["height"])
        lines = []
        for record in objects.get(image["id"], ()):
            left, top, width, height = record["bbox"]
            box = (left + width / 2, top + height / 2, width, height)
            pixels = record["segmentation"][0] if as_polygons else box
            shares = [f"{v / size[i % 2]:.{_DIGITS}g}" for i, v in enumerate(pixels)]
            lines.append(" ".join([str(classes[record["category_id"]]), *shares]) + "\n")
        path = os.path.join(folder, "labels", split, os.path.splitext(name)[0] + ".txt")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_content(path, "".join(lines))
    _write_yaml(os.path.join(folder, YAML), split, [c["name"] for c in content["categories"]])


def name_yolo_split(name: str) -> str:
    """The name of :data:`SPLITS` in a name such as ``val2017``; ``train`` where there is none."""
    return next((split for split in ("val", "test") if split in name.lower()), "train")


def _has_polygon(record: Record) -> bool:
    mask = record.get("segmentation")
    return isinstance(mask, list) and len(mask) == 1 and len(mask[0]) >= 6


def _write_yaml(path: str, split: str, names: Sequence[str]) -> None:
    data = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if os.path.isfile(path) else {}
    if data and data["names"] != list(names):
        raise DataError(
            f"{split}: wanted the same categories in all splits, got {', '.join(names):.80} and "
            f"{', '.join(data['names']):.80}; name all of them with --classes"
        )
    data = {**data, split: f"images/{split}", "names": list(names)}
    write_content(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
