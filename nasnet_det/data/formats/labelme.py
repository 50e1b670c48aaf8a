"""labelme: a JSON beside each picture, with shapes.

Rectangles and polygons become boxes and masks; shapes of one label and one ``group_id`` are one
object; a mask that was painted becomes an RLE, a circle a polygon. Points and lines are left out.
A picture that is no file may lie in its JSON, from which a conversion writes it.
"""

from __future__ import annotations

import base64
import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import (
    AnnotatedSet,
    Record,
    SetBuilder,
    group_objects,
    tidy_number,
)
from nasnet_det.data.formats.files import (
    find_split_folders,
    get_base,
    index_pictures,
    is_split_name,
    list_annotation_files,
)
from nasnet_det.data.formats.losses import Faults
from nasnet_det.data.json_file import read_json
from nasnet_det.data.pictures import read_picture, read_pixels
from nasnet_det.runs.files import write_json

CIRCLE_POINTS = 64
_KEYS = ("label", "points", "shape_type", "group_id", "mask")

logger = logging.getLogger(__name__)


def is_labelme(path: str) -> bool:
    """Whether a path is a folder with JSONs that have shapes."""
    return os.path.isdir(path) and bool(_list_files(path)[0])


def list_labelme_splits(path: str) -> list[str]:
    """The folders in a folder, where all JSONs are in such that are called as splits are."""
    return find_split_folders(_list_files(path)[0])


def _list_files(path: str) -> tuple[list[str], list[str]]:
    """The JSONs below a folder with shapes in them, and the others."""
    found: tuple[list[str], list[str]] = ([], [])
    for name in list_annotation_files(path, ".json"):
        content = Path(path, name).read_bytes().replace(b"\0", b"")  # may be UTF-16
        found[b'"shapes"' not in content].append(name)
    return found


def read_labelme(
    path: str, split: str = "", *, images: str = "", classes: Sequence[str] | None = None
) -> AnnotatedSet:
    """Read a folder, or one split of it.

    Args:
        path: of the folder.
        split: the name of a folder in it; all if empty.
        images: the folder of pictures, where they are not beside the JSONs.
        classes: their names in order; by default all that occur in the folder, sorted.

    Raises:
        DataError: a JSON can't be read; all faults are counted, and the first are named.
    """
    faults = Faults(path)
    contents = {}
    names, others = _list_files(path)
    for name in names:
        content = _read_content(os.path.join(path, name), name, faults)
        if content is not None:
            contents[name[: -len(".json")]] = content
    faults.raise_any(len(contents) + len(faults.texts), "JSONs of labelme")
    if classes is None:  # of the whole folder, so that all its splits have the same
        classes = sorted({s["label"] for content in contents.values() for s in content["shapes"]})
    builder = SetBuilder(f"{path}#{split}" if split else path, images or path, classes)
    builder.losses.add("JSONs without shapes", others[0] if others else "", count=len(others))
    pictures = index_pictures(images or path)
    for key, content in contents.items():
        if not split or key.startswith(f"{split}/"):
            _add_picture(builder, key, content, pictures, faults)
            _note_embedded(builder, os.path.join(path, f"{key}.json"), content)
    if builder.embedded:
        logger.warning(
            "%s: %d pictures are no files, but lie in their JSONs; nasnet-det convert-data "
            "--to labelme (or voc, yolo) writes them out",
            *(path, len(builder.embedded)),
        )
    faults.raise_any(len(contents), "JSONs of labelme")
    return builder.build()


def _read_content(path: str, name: str, faults: Faults) -> Record | None:
    """What a JSON holds, its shapes checked; None where it is at fault, or another program's."""
    try:
        content, _ = read_json(path)
    except DataError as error:
        faults.texts.append(str(error).removeprefix(os.path.dirname(path) + os.sep))
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        faults.texts.append(f"{name}: wanted labelme's shapes, got {type(content).__name__}")
        return None
    for number, shape in enumerate(content["shapes"], start=1):
        if not (
            isinstance(shape, dict)
            and isinstance(shape.get("label"), str)
            and shape["label"].strip()
            and isinstance(shape.get("points"), list)
            and all(map(_is_point, shape["points"]))
        ):
            faults.texts.append(f"{name}, shape {number}: wanted a label and points of two numbers")
            return None
    return content


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(v) in (int, float) and abs(v) < 1e9 for v in value)
    )


def _add_picture(
    builder: SetBuilder, key: str, content: Record, pictures: Mapping[str, str], faults: Faults
) -> None:
    base = get_base(str(content.get("imagePath") or "")) or f"{os.path.basename(key)}.jpg"
    folder = f"{os.path.dirname(key)}/" if "/" in key else ""
    name = pictures.get(folder + os.path.splitext(base)[0]) or pictures.get(key) or folder + base
    width, height = content.get("imageWidth"), content.get("imageHeight")
    size = None
    if type(width) is int and type(height) is int and min(width, height) > 0:
        size = (width, height)
    image = builder.add_image(name, size)
    if any((content.get("flags") or {}).values() if isinstance(content.get("flags"), dict) else ()):
        builder.losses.add("flags of pictures", key)
    groups: dict[Any, list[Record]] = {}
    for number, shape in enumerate(content["shapes"]):
        group = shape.get("group_id")
        groups.setdefault((number,) if group is None else (shape["label"], str(group)), []).append(
            shape
        )
        for field, value in shape.items():
            if field not in _KEYS and value not in (None, "", {}, [], False):
                builder.losses.add(f"{field:.40} of shapes", key)
    for shapes in groups.values():
        _add_object(builder, image, shapes, key, faults)


def _note_embedded(builder: SetBuilder, path: str, content: Record) -> None:
    """Keep in mind where the last image lies, if that is in its JSON alone."""
    name = builder.images[-1]["file_name"]
    is_file = os.path.isfile(os.path.join(builder.image_root, name))
    if isinstance(content.get("imageData"), str) and not is_file:
        builder.embedded[name] = path


def extract_picture(path: str) -> bytes:
    """The file of a picture that lies in a JSON.

    Raises:
        DataError: there is none.
    """
    content, _ = read_json(path)
    try:
        picture = base64.b64decode(content["imageData"], validate=True)
        read_picture(io.BytesIO(picture), name=f"imageData of {path}")
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: imageData: wanted a picture, got none ({error})") from None
    return picture


def _add_object(
    builder: SetBuilder, image: Record, shapes: Sequence[Record], key: str, faults: Faults
) -> None:
    """One object of one or several shapes."""
    polygons: list[list[float]] = []
    corners: list[Sequence[float]] = []
    more: dict[str, Any] = {}
    for shape in shapes:
        kind, points = shape.get("shape_type") or "polygon", shape["points"]
        if kind == "rectangle" and len(points) in (2, 4):
            corners += points
        elif kind == "mask" and len(points) == 2:
            try:
                more["segmentation"] = _encode_mask(shape, image)
            except (DataError, ValueError, KeyError, TypeError) as error:
                faults.texts.append(f"{key}.json: a mask can't be read: {error!s:.100}")
                return
            corners += [points[0], [points[1][0] + 1, points[1][1] + 1]]
        elif kind == "circle" and len(points) == 2:
            builder.losses.add(f"circles, which become polygons of {CIRCLE_POINTS} points", key)
            points = _draw_circle(*points)
            polygons.append([v for point in points for v in point])
            corners += points
        elif kind == "polygon" and len(points) >= 3:
            polygons.append([tidy_number(v) for point in points for v in point])
            corners += points
        else:
            builder.losses.add(f"shapes of the kind {kind!s:.30}, which have no area", key)
    if not corners:
        return
    if polygons and "segmentation" not in more:
        more["segmentation"] = polygons
        more["area"] = tidy_number(sum(map(_measure_area, polygons)))
    xs, ys = zip(*corners, strict=True)
    builder.add_object(image, shapes[0]["label"], (min(xs), min(ys), max(xs), max(ys)), **more)


def _draw_circle(centre: Sequence[float], edge: Sequence[float]) -> list[list[float]]:
    radius = math.dist(centre, edge)
    angles = np.linspace(0, 2 * math.pi, CIRCLE_POINTS, endpoint=False)
    return [
        [tidy_number(centre[0] + radius * x), tidy_number(centre[1] + radius * y)]
        for x, y in zip(np.cos(angles).tolist(), np.sin(angles).tolist(), strict=True)
    ]


def _measure_area(polygon: Sequence[float]) -> float:
    x, y = np.array(polygon[::2]), np.array(polygon[1::2])
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _encode_mask(shape: Record, image: Record) -> dict[str, Any]:
    """A painted mask, a PNG of its box, as an RLE of the picture."""
    pixels = read_pixels(io.BytesIO(base64.b64decode(shape["mask"], validate=True)), name="mask")
    left, top = (int(v) for v in shape["points"][0])
    if image["height"] * image["width"] > 2 * (Image.MAX_IMAGE_PIXELS or 2**62):
        raise ValueError("its picture is larger than pictures that are read")
    whole = np.zeros((image["height"], image["width"]), np.uint8, order="F")
    height, width = pixels.shape[:2]
    if not (0 <= top <= len(whole) - height and 0 <= left <= whole.shape[1] - width):
        raise ValueError("it leaves the picture")
    whole[top : top + height, left : left + width] = pixels[..., 0] > 0
    rle = mask_util.encode(whole)
    return {"size": [int(v) for v in rle["size"]], "counts": rle["counts"].decode()}


def name_labelme_folder(name: str) -> str:
    """A split's name for a folder, which is to be known again."""
    return name if is_split_name(name) else "train"


def write_labelme(found: AnnotatedSet, names: Sequence[str], folder: str, split: str) -> None:
    """Write a JSON beside where each picture belongs; pictures are the caller's.

    Args:
        found: every image has its size.
        names: of the pictures in the folder of the split, one an image.
        folder: of the data set.
        split: its name.
    """
    objects = group_objects(found.content)
    labels = {record["id"]: record["name"] for record in found.content["categories"]}
    for image, name in zip(found.content["images"], names, strict=True):
        shapes = []
        for group, record in enumerate(objects.get(image["id"], ()), start=1):
            shapes += _draw_shapes(record, labels[record["category_id"]], group)
        path = os.path.join(folder, split, os.path.splitext(name)[0] + ".json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        size = {"imageHeight": image["height"], "imageWidth": image["width"]}
        head = {"version": "5.5.0", "flags": {}, "shapes": shapes}
        write_json(path, {**head, "imagePath": os.path.basename(name), "imageData": None, **size})


def _draw_shapes(record: Record, label: str, group: int) -> list[Record]:
    left, top, width, height = record["bbox"]
    mask = record.get("segmentation")
    polygons = mask if isinstance(mask, list) else []
    common: Record = {"label": label, "group_id": group if len(polygons) > 1 else None, "flags": {}}
    if not polygons:
        points = [[left, top], [left + width, top + height]]
        return [{**common, "points": points, "shape_type": "rectangle"}]
    return [
        {
            **common,
            "points": [[p[i], p[i + 1]] for i in range(0, len(p), 2)],
            "shape_type": "polygon",
        }
        for p in polygons
    ]
