"""Finding pictures, and reading the images of a small data set from the forms that people have."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.datasets import CIFAR10, ImageFolder

from nasnet_det.data.error import DataError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class ImageSet(NamedTuple):
    """Images and their classes.

    Attributes:
        images: (N, 3, H, W) uint8, RGB.
        labels: (N,) int64, from 0.
    """

    images: torch.Tensor
    labels: torch.Tensor


def load_images(path: str, image_size: int) -> ImageSet:
    """The training images of a data set.

    Args:
        path: see :class:`~nasnet_det.search.data.DataSource`.
        image_size: to which files of any size are resized; arrays keep theirs.

    Raises:
        DataError: there are none, or they are not what the place's form promises.
    """
    place = Path(path)
    if path and place.is_file():
        return load_npz(place)
    if path and (place / CIFAR10.base_folder).is_dir():
        return load_cifar10(place)
    if path and place.is_dir():
        return _load_folder(place, image_size)
    raise DataError(
        f"SEARCH.DATA.PATH: wanted a folder with {CIFAR10.base_folder} in it, an .npz file or a "
        f"folder of classes, got {path!r}, which is {'not there' if path else 'empty'}"
    )


def load_cifar10(place: Path, split: str = "train") -> ImageSet:
    """The ``train`` or ``test`` images of the folder that torchvision's CIFAR10 wants.

    Raises:
        DataError: the files are damaged or not complete.
    """
    try:
        data = CIFAR10(str(place), train=split == "train")  # compares checksums before it reads
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{place / CIFAR10.base_folder} is damaged or not complete: {error}"
        ) from None
    return _to_image_set(data.data, np.asarray(data.targets), str(place))


def load_npz(place: Path, split: str = "train") -> ImageSet:
    """The ``train`` or ``test`` images of an ``.npz`` file as Keras has them.

    Raises:
        DataError: it is no such file.
    """
    images, labels = f"x_{split}", f"y_{split}"
    try:
        with np.load(place, allow_pickle=False) as arrays:
            if images not in arrays or labels not in arrays:
                raise DataError(
                    f"{place}: wanted arrays {images} and {labels}, got {', '.join(arrays.files)}"
                )
            return _to_image_set(arrays[images], arrays[labels], str(place))
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{place} is not a readable .npz file: {reason}") from None


def _load_folder(place: Path, image_size: int) -> ImageSet:
    try:
        folder = ImageFolder(str(place))
        images = [
            np.asarray(image.resize((image_size, image_size), resample=2)) for image, _ in folder
        ]
    except (OSError, ValueError) as error:  # FileNotFoundError: no classes, or an empty one
        reason = " ".join(str(error).split())
        raise DataError(f"{place} is not a folder of one sub-folder a class: {reason}") from None
    return _to_image_set(np.stack(images), np.asarray(folder.targets), str(place))


def _to_image_set(images: np.ndarray, labels: np.ndarray, place: str) -> ImageSet:
    """Arrays as Keras and torchvision have them, checked."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise DataError(
            f"{place}: wanted images of shape (N, height, width, 3) and type uint8, "
            f"got {images.shape} and {images.dtype}"
        )
    if labels.shape not in ((len(images),), (len(images), 1)) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{place}: wanted one whole number as label for each of {len(images)} images, "
            f"got shape {labels.shape} and type {labels.dtype}"
        )
    labels = labels.reshape(-1).astype(np.int64)
    if len(np.unique(labels)) < 2 or labels.min() < 0:
        raise DataError(
            f"{place}: wanted labels of at least 2 classes from 0 on, got "
            f"{len(np.unique(labels))} from {labels.min()} on"
        )
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ImageSet(tensor, torch.from_numpy(labels))


def find_images(paths: Iterable[str]) -> list[Path]:
    """The pictures among files and, recursively, in folders.

    Raises:
        ValueError: a path does not exist, or there is no picture.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"no such picture or folder: {path}")
    if not found:
        raise ValueError(
            f"no pictures found: wanted files or folders with {', '.join(IMAGE_SUFFIXES)}"
        )
    return found
