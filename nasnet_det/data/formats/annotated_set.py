"""Pictures and their objects as a COCO JSON has them, whatever format they came from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasnet_det.data.columns import shorten
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.files import find_size
from nasnet_det.data.formats.losses import Losses

Record = dict[str, Any]
Box = tuple[float, float, float, float]

TRAIN_SPLITS = ("train", "training", "trainval")
TEST_SPLITS = ("val", "valid", "validation", "test", "testing")
PRECISION = 2  # decimals of a pixel, as in COCO's own files


@dataclass(frozen=True)
class AnnotatedSet:
    """A data set.

    Attributes:
        where: the path that it was read from.
        image_root: the folder that file names start from; "" where it is not known.
        content: as in a COCO JSON: ``images``, ``annotations``, ``categories``.
        losses: what the source has and ``content`` has not.
        sha256: of the file, or of the content where there are many files.
        embedded: names of pictures that are no files -> the JSONs of labelme that hold them.
    """

    where: str
    image_root: str
    content: dict[str, Any]
    losses: Losses = field(default_factory=Losses)
    sha256: str = ""
    embedded: Mapping[str, str] = field(default_factory=dict)


class SetBuilder:
    """Collects images and objects; ids are numbered from 1.

    Args:
        where: the source, for messages.
        image_root: the folder that file names start from.
        classes: all names in the order of their ids; others are refused.
    """

    def __init__(self, where: str, image_root: str, classes: Iterable[str]) -> None:
        self.where, self.image_root = where, image_root
        self.classes = {name: number for number, name in enumerate(classes, start=1)}
        self.images: list[Record] = []
        self.annotations: list[Record] = []
        self.losses = Losses()
        self.embedded: dict[str, str] = {}
        self._unknown: list[str] = []

    def add_image(self, name: str, size: tuple[int, int] | None, **more: Any) -> Record:
        """One more image.

        Args:
            name: relative to the folder of images.
            size: width and height; None: from the picture, if it can be read.
            **more: other keys of the record.
        """
        if size is None:
            size = find_size(os.path.join(self.image_root, name))
        sides = dict(zip(("width", "height"), size, strict=True)) if size else {}
        image = {"id": len(self.images) + 1, "file_name": name, **sides, **more}
        self.images.append(image)
        return image

    def add_object(self, image: Record, label: str, corners: Box, **more: Any) -> None:
        """One more object.

        Args:
            image: of :meth:`add_image`.
            label: the name of its class.
            corners: left, top, right, bottom in pixels, edges counted from 0.
            **more: other keys of the record, such as ``segmentation``.
        """
        if label not in self.classes:
            self._unknown.append(label)
            return
        left, top, right, bottom = corners
        box = [tidy_number(value) for value in (left, top, right - left, bottom - top)]
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image["id"],
                "category_id": self.classes[label],
                "bbox": box,
                "area": tidy_number(box[2] * box[3]),
                "iscrowd": 0,
                **more,
            }
        )

    def build(self) -> AnnotatedSet:
        """The set.

        Raises:
            DataError: there is no image, no class, or an object of an unknown class.
        """
        if self._unknown:
            names = sorted(set(self._unknown))
            raise DataError(
                f"{self.where}: wanted objects of the classes {shorten(list(self.classes))}, got "
                f"{len(self._unknown)} of {shorten(names)}"
            )
        if not self.images:
            raise DataError(f"{self.where}: wanted at least one image, got none")
        if not self.classes:
            raise DataError(f"{self.where}: none of its {len(self.images)} images has an object")
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for name, number in self.classes.items()
        ]
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return AnnotatedSet(
            self.where, self.image_root, content, self.losses, digest, self.embedded
        )


def tidy_number(value: float) -> float:
    """A number of pixels to a hundredth, as an int where it is whole."""
    rounded = round(value, PRECISION)
    return int(rounded) if math.isfinite(rounded) and rounded == int(rounded) else rounded


def group_objects(content: dict[str, Any]) -> dict[Any, list[Record]]:
    """The annotations of each image by its id, in their order."""
    groups: dict[Any, list[Record]] = {}
    for record in content.get("annotations", ()):
        groups.setdefault(record["image_id"], []).append(record)
    return groups


def choose_split(splits: Sequence[str], *, is_train: bool) -> str | None:
    """The name of the split that is meant for a training, or for an evaluation; None without."""
    names = {name.lower(): name for name in splits}
    wanted = TRAIN_SPLITS if is_train else TEST_SPLITS
    return next((names[name] for name in wanted if name in names), None)
