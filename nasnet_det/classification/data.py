"""Images for classification: the forms in which people have them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import CIFAR10
from yacs.config import CfgNode

from nasnet_det.classification.distributed import get_world_size
from nasnet_det.classification.shards import Shards, load_shards
from nasnet_det.config import ConfigError
from nasnet_det.data.class_folders import (
    TEST_NAMES,
    Splits,
    check_several_classes,
    find_splits,
    read_class_folders,
)
from nasnet_det.data.encoded_pictures import is_encoded, load_encoded
from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import ImageSet, load_cifar10, load_npz
from nasnet_det.data.picture_files import list_pictures
from nasnet_det.data.pictures import read_picture

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


NO_LABEL = -1
"""The label of an image that has none."""


class Images(Protocol):
    """Images that are read one at a time."""

    def __len__(self) -> int:
        """How many."""

    def read(self, index: int) -> tuple[Any, int]:
        """A PIL image or a tensor (3, H, W) of bytes, and its place in the list of classes."""

    def name(self, index: int) -> str:
        """What to call the image in a message."""

    def take(self, chosen: np.ndarray) -> Images:
        """Some of them, by their indices."""


@dataclass(frozen=True)
class ArrayImages:
    """Images of one tensor (N, 3, H, W)."""

    place: str
    images: torch.Tensor
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        """(3, H, W) uint8, and the label."""
        return self.images[index], int(self.labels[index])

    def name(self, index: int) -> str:
        """The place and the number."""
        return f"{self.place}, image {index}"

    def take(self, chosen: np.ndarray) -> ArrayImages:
        """A copy of some."""
        place = f"{self.place} (of {len(chosen)} chosen)"
        return ArrayImages(place, self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class FolderImages:
    """Images of files. The names are one array of bytes, which workers share."""

    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """RGB, and the label."""
        return read_picture(self.name(index)), int(self.labels[index])

    def name(self, index: int) -> str:
        """The path."""
        return os.fsdecode(self.paths[index])

    def take(self, chosen: np.ndarray) -> FolderImages:
        """Some of them."""
        return FolderImages(self.paths[chosen], self.labels[chosen])


@dataclass(frozen=True)
class JoinedImages:
    """Images of several places, one after another.

    Attributes:
        parts: of each place.
        places: (N, 2) int64: which part, and which of its images.
    """

    parts: tuple[Images, ...]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> tuple[Any, int]:
        """The image, and the label that its part gives it."""
        part, place = self.places[index]
        return self.parts[part].read(int(place))

    def name(self, index: int) -> str:
        """What its part calls it."""
        part, place = self.places[index]
        return self.parts[part].name(int(place))

    def take(self, chosen: np.ndarray) -> JoinedImages:
        """Some of them."""
        return JoinedImages(self.parts, self.places[chosen])


def join_images(*parts: Images) -> JoinedImages:
    """All images of some parts."""
    places = [(number, i) for number, part in enumerate(parts) for i in range(len(part))]
    return JoinedImages(parts, np.array(places, dtype=np.int64).reshape(-1, 2))


@dataclass(frozen=True)
class ClassificationData:
    """A data set.

    Attributes:
        train, test: its images; labels are places in ``classes``, :data:`NO_LABEL` where there
            is none.
        classes: names.
    """

    train: Images | Shards
    test: Images | Shards
    classes: tuple[str, ...]


def load_data(cfg: CfgNode, *, eval_only: bool = False) -> ClassificationData:
    """The data set of ``DATA.PATH``.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        eval_only: folders may do without training images, and be one folder of classes.

    Raises:
        DataError: it is not there, or not what the place's form promises.
        ConfigError: it has fewer images than a step needs.
    """
    data = _load(cfg, eval_only)
    if not eval_only:
        data = _add_unlabelled(cfg, data)
        _check_number(cfg, data)
    return data


def _add_unlabelled(cfg: CfgNode, data: ClassificationData) -> ClassificationData:
    """With the pictures of ``DISTILL.IMAGES`` among those of the training."""
    folder, train = cfg.DISTILL.IMAGES, data.train
    if isinstance(train, Shards) and (folder or cfg.DISTILL.CACHE):
        key = "IMAGES" if folder else "CACHE"
        raise ConfigError(f"DISTILL.{key}: not with shards, whose images have no numbers")
    if not folder or isinstance(train, Shards):
        return data
    paths = list_pictures(Path(folder).expanduser())
    if not paths:
        raise DataError(f"DISTILL.IMAGES: wanted a folder with pictures in it, got {folder!r}")
    labels = np.full(len(paths), NO_LABEL, dtype=np.int64)
    unlabelled = FolderImages(np.array([os.fsencode(path) for path in paths]), labels)
    return replace(data, train=join_images(train, unlabelled))


def _load(cfg: CfgNode, eval_only: bool) -> ClassificationData:
    path = cfg.DATA.PATH
    place = Path(path).expanduser()
    if place.suffix == ".json":
        data = ClassificationData(*load_shards(place))
        _check_shards(cfg, data.train)
        return data
    if path and place.is_file() and is_encoded(place):
        return ClassificationData(*load_encoded(place))
    if path and place.is_file():
        return _from_arrays(path, *(load_npz(place, split) for split in ("train", "test")))
    if path and (place / CIFAR10.base_folder).is_dir():
        return _from_arrays(path, *(load_cifar10(place, split) for split in ("train", "test")))
    splits = find_splits(place) if path and place.is_dir() else Splits(None, None)
    if eval_only and path and place.is_dir() and splits == Splits(None, None):
        splits = Splits(None, place)
    if splits.test is None or (splits.train is None and not eval_only):
        raise DataError(
            f"DATA.PATH: wanted a folder with {CIFAR10.base_folder} in it, an .npz file, a folder "
            f"with train and one of {', '.join(TEST_NAMES)} in it or a .json file of shards, got "
            f"{path!r}, which is "
            + ("none of these" if place.exists() and path else "not there" if path else "empty")
        )
    return _from_folders(splits, eval_only=eval_only)


def _check_number(cfg: CfgNode, data: ClassificationData) -> None:
    """See that there are as many training images as a step needs."""
    path = cfg.DATA.PATH
    num_images = cfg.DATA.NUM_TRAIN or len(data.train)
    if num_images > len(data.train):
        raise ConfigError(
            f"DATA.NUM_TRAIN: wanted at most {len(data.train)}, the images of {path}, got "
            f"{num_images}"
        )
    if num_images < cfg.SOLVER.BATCH_SIZE:
        raise ConfigError(
            f"SOLVER.BATCH_SIZE: wanted at most {num_images}, the images to train on, got "
            f"{cfg.SOLVER.BATCH_SIZE}"
        )


def _check_shards(cfg: CfgNode, shards: Images | Shards) -> None:
    """See that each worker of each process has a shard."""
    if cfg.DATA.NUM_TRAIN:
        raise ConfigError(
            f"DATA.NUM_TRAIN: wanted 0 (all images) for shards, got {cfg.DATA.NUM_TRAIN}"
        )
    assert isinstance(shards, Shards)
    num_workers = max(1, cfg.DATA.NUM_WORKERS)
    if len(shards.urls) < num_workers * get_world_size():
        raise ConfigError(
            f"DATA.NUM_WORKERS: wanted at most as many as there are shards for each process, got "
            f"{cfg.DATA.NUM_WORKERS} for {get_world_size()} processes and {len(shards.urls)} shards"
        )


def _from_arrays(path: str, train: ImageSet, test: ImageSet) -> ClassificationData:
    num_classes = int(train.labels.max()) + 1
    if int(test.labels.max()) >= num_classes:
        raise DataError(
            f"{path}: wanted test labels below {num_classes}, the classes of the training images, "
            f"got {int(test.labels.max())}"
        )
    numbers = tuple(map(str, range(num_classes)))
    is_cifar10 = os.path.isdir(path) and num_classes == len(CIFAR10_CLASSES)
    return ClassificationData(
        ArrayImages(f"{path}, training", train.images, train.labels.numpy()),
        ArrayImages(f"{path}, test", test.images, test.labels.numpy()),
        CIFAR10_CLASSES if is_cifar10 else numbers,
    )


def _from_folders(splits: Splits, *, eval_only: bool) -> ClassificationData:
    """Training and test images; for an evaluation alone the training's may be missing."""
    assert splits.test is not None
    if splits.train is None:
        test = read_class_folders(splits.test)
        nothing = FolderImages(test.paths[:0], test.labels[:0])
        return ClassificationData(nothing, FolderImages(test.paths, test.labels), test.classes)
    train = read_class_folders(splits.train)
    if not eval_only:
        check_several_classes(train)
    test = read_class_folders(splits.test, train.classes)
    train_images, test_images = (FolderImages(part.paths, part.labels) for part in (train, test))
    return ClassificationData(train_images, test_images, train.classes)
