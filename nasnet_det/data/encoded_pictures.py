"""Labelled pictures in one ``.npz`` file, encoded as JPEG, PNG, WebP and the like.

Hundreds of thousands of small pictures are then one file of a few megabytes instead of a folder
each class. For ``train`` and for one of ``val``, ``valid``, ``validation`` and ``test`` it has

- ``<split>_bytes``: uint8, the pictures' files end to end;
- ``<split>_offsets``: N + 1 whole numbers; picture i is ``bytes[offsets[i]:offsets[i + 1]]``;
- ``<split>_labels``: N whole numbers from 0.

``classes`` (or ``wnids``, ImageNet's) may name the classes. ``numpy.savez`` writes such a file.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasnet_det.data.class_folders import TEST_NAMES
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import read_picture

_CLASS_NAMES = ("classes", "wnids")


@dataclass(frozen=True)
class EncodedPictures:
    """The pictures of a split; the bytes are one array, which workers share.

    Attributes:
        place: file and split, for messages.
        content: (number of bytes,) uint8.
        starts, stops: (N,) int64, where each picture's bytes begin and end.
        labels: (N,) int64.
    """

    place: str
    content: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """RGB, and the label.

        Raises:
            PictureError: the bytes are no picture.
        """
        return self.read_picture(index), int(self.labels[index])

    def read_picture(self, index: int) -> Image.Image:
        """RGB alone."""
        data = self.content[self.starts[index] : self.stops[index]].tobytes()
        return read_picture(io.BytesIO(data), name=self.name(index))

    def name(self, index: int) -> str:
        """The place and the number."""
        return f"{self.place}, image {index}"

    def take(self, chosen: np.ndarray) -> EncodedPictures:
        """Some of them; the bytes are not copied."""
        place = f"{self.place} (of {len(chosen)} chosen)"
        parts = (part[chosen] for part in (self.starts, self.stops, self.labels))
        return EncodedPictures(place, self.content, *parts)


def is_encoded(place: Path) -> bool:
    """Whether a file is an ``.npz`` of encoded pictures."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            return "train_bytes" in arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError):
        return False  # who reads it says so


def load_encoded(place: Path) -> tuple[EncodedPictures, EncodedPictures, tuple[str, ...]]:
    """The training and the test pictures of a file, and the names of the classes.

    Raises:
        DataError: an array is missing, or is not what the module says.
    """
    try:
        with np.load(place, allow_pickle=False) as arrays:
            test = next((name for name in TEST_NAMES if f"{name}_bytes" in arrays), TEST_NAMES[0])
            train = _read_split(place, arrays, "train")
            held_out = _read_split(place, arrays, test)
            key = next((key for key in _CLASS_NAMES if key in arrays), "")
            names = tuple(map(str, arrays[key])) if key else ()
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{place} is not a readable .npz file: {reason}") from None
    num_classes = 1 + int(max(train.labels.max(), held_out.labels.max()))
    if names and len(names) < num_classes:
        raise DataError(f"{place}: wanted {key} for {num_classes} labels, got {len(names)}")
    if len(set(names)) < len(names):
        raise DataError(f"{place}: wanted each of {key} once, got {len(set(names))} different ones")
    if max(num_classes, len(names)) < 2:
        raise DataError(f"{place}: wanted at least 2 classes, got one")
    return train, held_out, names or tuple(map(str, range(num_classes)))


def _read_split(place: Path, arrays: Any, split: str) -> EncodedPictures:
    keys = [f"{split}_{name}" for name in ("bytes", "offsets", "labels")]
    if missing := [key for key in keys if key not in arrays]:
        raise DataError(
            f"{place}: wanted arrays {', '.join(keys)}, but {missing[0]} is missing; there are "
            f"{', '.join(arrays.files)}"
        )
    content, offsets, labels = (arrays[key] for key in keys)
    if content.dtype != np.uint8 or content.ndim != 1:
        raise DataError(
            f"{place}: {keys[0]}: wanted bytes in one row, got {content.dtype} {content.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise DataError(
            f"{place}: {keys[2]}: wanted whole numbers from 0, one for each picture, got "
            f"{labels.dtype} {labels.shape}"
        )
    if offsets.dtype.kind not in "iu" or offsets.shape != (len(labels) + 1,):
        raise DataError(
            f"{place}: {keys[1]}: wanted {len(labels) + 1} whole numbers, one more than labels, "
            f"got {offsets.dtype} {offsets.shape}"
        )
    offsets = offsets.astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(content) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"{place}: {keys[1]}: wanted them to rise from 0 to at most {len(content)}, the length "
            f"of {keys[0]}"
        )
    where = f"{place}, {split}"
    return EncodedPictures(where, content, offsets[:-1], offsets[1:], labels.astype(np.int64))
