"""Every object of a data set as a picture in the folder of its class.

Own cells are searched on these pictures, and a trunk is pre-trained on them. A crop is the square
around the box with its margin, moved into the picture at its edges: networks make squares of all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nasnet_det.data.broken_pictures import BrokenPictures, describe_broken
from nasnet_det.data.class_folders import TEST_NAMES
from nasnet_det.data.coco import CocoFile, parse_coco
from nasnet_det.data.conversion import get_split_name, pair_folders
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.losses import Losses
from nasnet_det.data.formats.recognition import list_addresses, read_annotations
from nasnet_det.data.pictures import PictureError, read_picture
from nasnet_det.runs.files import new_folder, shorten_name

MIN_SIZE = 16
MARGIN = 0.1
BACKGROUND = "background"
MOST_COVERED = 0.1  # of a square of the background, by one object
NUM_TRIES = 20  # to find room for it


@dataclass
class Crops:
    """What came of a split of a data set.

    Attributes:
        counts: class -> pictures.
        losses: objects without a picture.
    """

    counts: Counter[str] = field(default_factory=Counter)
    losses: Losses = field(default_factory=Losses)


def crop_objects(
    sources: Sequence[str],
    out: str | os.PathLike[str],
    *,
    images: str | Sequence[str] = "",
    margin: float = MARGIN,
    min_size: int = MIN_SIZE,
    with_background: bool = False,
    broken_images: str = "skip",
) -> dict[str, Crops]:
    """Write the pictures to ``out/<split>/<class>/``, as ``search`` and ``train-classifier`` want.

    Args:
        sources: COCO JSONs or addresses of other formats, for the splits ``train`` and ``val``.
        out: a folder that is not there yet, or empty.
        images: the folder of the pictures, or one a source.
        margin: around the box, as a share of its longer side.
        min_size: pixels of the longer side below which an object is left out.
        with_background: add a class of squares without an object, about as many as of a class.
        broken_images: what is done about pictures that can't be read; see ``broken_pictures.py``.

    Returns:
        split -> what was written.

    Raises:
        DataError: a source can't be read, or no object is left.
    """
    if margin < 0 or min_size < 1:
        raise DataError(f"wanted a margin from 0 and a size from 1, got {margin} and {min_size}")
    broken = BrokenPictures(broken_images)
    made: dict[str, Crops] = {}
    with new_folder(out) as folder:
        for source, images_folder in pair_folders(sources, images):
            for split, address in list_addresses(os.path.expanduser(source)).items():
                found = read_annotations(address, images=images_folder)
                if not os.path.isdir(found.image_root):
                    raise DataError(f"{address}: no folder of its pictures; name it by --images")
                name = _name_part(split or get_split_name(address))
                if name in made:
                    raise DataError(f"{source}: there is another set of the name {name!r}")
                coco = parse_coco(found.where, found.content)
                place = Path(folder, name)
                made[name] = _crop_set(coco, found.image_root, place, margin, min_size, broken)
                if with_background:
                    made[name].counts[BACKGROUND] += _crop_background(coco, found.image_root, place)
        if not sum((crops.counts for crops in made.values()), Counter()):
            raise DataError(f"no object of {', '.join(sources)} is as large as {min_size} pixels")
    return made


def _name_part(split: str) -> str:
    """The folder of a split, by a name that stages know."""
    known = [name for name in ("train", *TEST_NAMES) if name in split.lower()]
    return known[0] if known else "train"


def _crop_set(
    coco: CocoFile,
    image_root: str,
    place: Path,
    margin: float,
    min_size: int,
    broken: BrokenPictures,
) -> Crops:
    made, objects = Crops(), coco.objects
    folders = _name_folders(coco.category_names)
    small = objects.boxes[:, 2:].max(axis=1, initial=0) < min_size
    made.losses.add("crowds", count=int(objects.is_crowd.sum()))
    made.losses.add(
        f"objects below {min_size} pixels", count=int((small & ~objects.is_crowd).sum())
    )
    kept = np.flatnonzero(objects.is_usable & ~small)
    for image in np.unique(objects.image[kept]).tolist():
        name = coco.file_names[image]
        mine = kept[objects.image[kept] == image].tolist()
        try:
            picture = read_picture(os.path.join(image_root, name))
        except PictureError as error:
            broken.add(describe_broken(name, error))
            made.losses.add("objects of pictures that can't be read", name, count=len(mine))
            continue
        for number in mine:
            box = place_square(objects.boxes[number].tolist(), picture.size, margin=margin)
            if box is None:
                made.losses.add("objects outside of their picture", name)
                continue
            label = int(objects.category[number])
            stem = "".join(c if c.isalnum() else "_" for c in os.path.splitext(name)[0])
            path = place / folders[label] / f"{shorten_name(stem[-80:])}_{objects.ids[number]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.crop(box).save(path, compress_level=1)  # six times as fast
            made.counts[coco.category_names[label]] += 1
    return made


def _crop_background(coco: CocoFile, image_root: str, place: Path) -> int:
    """Write squares without an object, as large as objects are; returns how many."""
    objects = coco.objects
    usable = np.flatnonzero(objects.is_usable)
    sides = objects.boxes[usable, 2:].max(axis=1)
    folder = place / _name_folders([*coco.category_names, BACKGROUND])[-1]
    wanted = len(usable) / max(1, len(set(objects.category[usable].tolist())))
    each = max(1, round(wanted / max(1, len(coco.file_names))))
    number = 0
    for image, name in enumerate(coco.file_names):
        try:
            picture = read_picture(os.path.join(image_root, name))
        except PictureError:
            continue  # which was said before
        boxes = objects.boxes[objects.image == image]
        rng = np.random.default_rng(image)
        for square in _find_room(boxes, picture.size, sides, rng, each):
            path = folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.crop(square).save(path, compress_level=1)
            number += 1
    return number


def _find_room(
    boxes: np.ndarray,
    size: tuple[int, int],
    sides: np.ndarray,
    rng: np.random.Generator,
    number: int,
) -> list[tuple[int, int, int, int]]:
    """Up to so many squares that no box covers much of."""
    found: list[tuple[int, int, int, int]] = []
    for _ in range(NUM_TRIES * number):
        side = max(1, min(round(float(rng.choice(sides))), *size))
        left, top = (int(rng.integers(whole - side + 1)) for whole in size)
        ends = np.minimum(boxes[:, :2] + boxes[:, 2:], (left + side, top + side))
        common = (ends - np.maximum(boxes[:, :2], (left, top))).clip(min=0).prod(axis=1)
        if common.max(initial=0) <= MOST_COVERED * side**2:
            found.append((left, top, left + side, top + side))
        if len(found) == number:
            break
    return found


def _name_folders(names: Sequence[str]) -> list[str]:
    """A folder's name for each class: none outside, hidden, or the same as another's."""
    folders: list[str] = []
    for name in names:
        safe = "".join(c if c.isalnum() or c in " -_." else "_" for c in name).strip(" .")
        safe = free = shorten_name(safe) or "class"
        number = 1
        while free.lower() in {folder.lower() for folder in folders}:
            number += 1
            free = f"{safe}_{number}"
        folders.append(free)
    return folders


def place_square(
    box: Sequence[float], size: tuple[int, int], *, margin: float
) -> tuple[int, int, int, int] | None:
    """The square around a box, inside its picture as far as that is large enough.

    Args:
        box: x, y, width, height.
        size: width and height of the picture.
        margin: on each side, as a share of the box's longer side.

    Returns:
        left, top, right, bottom in whole pixels; None where the box is outside of the picture.
    """
    x, y, width, height = box
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        return None
    side = max(width, height) * (1 + 2 * margin)
    edges = []
    for centre, whole in zip((x + width / 2, y + height / 2), size, strict=True):
        length = max(1, min(round(side), whole))
        edges.append((min(max(round(centre - side / 2), 0), whole - length), length))
    (left, wide), (top, high) = edges
    return left, top, left + wide, top + high
