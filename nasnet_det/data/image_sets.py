"""The images of a small data set as one array, from the forms in which people have them."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from nasnet_det.data.broken_pictures import BrokenPictures, describe_broken
from nasnet_det.data.class_folders import check_several_classes, find_splits, read_class_folders
from nasnet_det.data.encoded_pictures import is_encoded, load_encoded
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import PictureError, read_picture

logger = logging.getLogger(__name__)

CIFAR10_FOLDER = "cifar-10-batches-py"
"""What the archive of CIFAR-10 unpacks to."""


class ImageSet(NamedTuple):
    """Images and their classes.

    Attributes:
        images: (N, 3, H, W) uint8, RGB.
        labels: (N,) int64, from 0.
    """

    images: torch.Tensor
    labels: torch.Tensor


def load_images(path: str, image_size: int, *, broken_images: str = "skip") -> ImageSet:
    """The training images of a data set.

    Args:
        path: see :class:`~nasnet_det.search.data.DataSource`.
        image_size: to which pictures of any size are resized; arrays keep theirs.
        broken_images: what is done about files that can't be read; see ``broken_pictures.py``.

    Raises:
        DataError: there are none, or they are not what the place's form promises.
    """
    place = Path(path).expanduser()
    if path and place.is_file() and is_encoded(place):
        pictures, _, _ = load_encoded(place)
        numbers = range(len(pictures))
        sources = ((partial(pictures.read_picture, i), pictures.name(i)) for i in numbers)
        return _stack(place, sources, pictures.labels, image_size, broken_images)
    if path and place.is_file():
        return load_npz(place)
    if path and (place / CIFAR10_FOLDER).is_dir():
        return load_cifar10(place)
    if path and place.is_dir():
        return _load_folder(place, image_size, broken_images)
    raise DataError(
        f"SEARCH.DATA.PATH: wanted a folder with {CIFAR10_FOLDER} in it, an .npz file or a "
        f"folder of classes, got {path!r}, which is {'not there' if path else 'empty'}"
    )


def load_cifar10(place: Path, split: str = "train") -> ImageSet:
    """The ``train`` or ``test`` images of the folder that torchvision's CIFAR10 wants.

    Raises:
        DataError: the files are damaged or not complete.
    """
    from torchvision.datasets import CIFAR10  # takes as long to import as all the rest of a search

    try:
        data = CIFAR10(str(place), train=split == "train")  # compares checksums before it reads
    except (RuntimeError, OSError) as error:
        raise DataError(f"{place / CIFAR10_FOLDER} is damaged or not complete: {error}") from None
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


def _load_folder(place: Path, image_size: int, broken_images: str) -> ImageSet:
    folder = read_class_folders(find_splits(place).train or place)
    check_several_classes(folder)
    paths = map(os.fsdecode, folder.paths)
    sources = ((partial(read_picture, path), path) for path in paths)
    return _stack(place, sources, folder.labels, image_size, broken_images)


def _stack(
    place: Path,
    sources: Iterable[tuple[Callable[[], Image.Image], str]],
    labels: np.ndarray,
    image_size: int,
    broken_images: str,
) -> ImageSet:
    """Pictures of one size, without those that can't be read; a source is a reader and a name."""
    broken = BrokenPictures(broken_images)
    images, kept = [], []
    for (read, name), label in zip(sources, labels, strict=True):
        try:
            picture = read()
        except PictureError as error:
            broken.add(describe_broken(name, error))
            continue
        resized = picture.resize((image_size, image_size), resample=Image.Resampling.BILINEAR)
        images.append(np.asarray(resized))
        kept.append(label)
    if broken.names:
        logger.warning("%s: %d images can't be read", place, len(broken.names))
    if not images:
        raise DataError(f"{place}: none of its {len(broken.names)} images can be read")
    return _to_image_set(np.stack(images), np.array(kept), str(place))


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
    used = np.unique(labels)
    if len(used) < 2 or labels.min() < 0:
        raise DataError(
            f"{place}: wanted labels of at least 2 classes from 0 on, got "
            f"{len(used)} from {labels.min(initial=0)} on"
        )
    if (num_classes := int(labels.max()) + 1) > len(used):
        if num_classes > len(labels):
            raise DataError(
                f"{place}: wanted labels below {len(labels)}, the number of images, got "
                f"{labels.max()}"
            )
        logger.warning(
            "%s: %d of %d labels have no image", place, num_classes - len(used), num_classes
        )
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ImageSet(tensor, torch.from_numpy(labels))
