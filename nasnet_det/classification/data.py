"""Images for classification: the forms in which people have them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, ImageFolder
from yacs.config import CfgNode

from nasnet_det.classification.distributed import get_world_size
from nasnet_det.classification.shards import Shards, load_shards
from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import ImageSet, load_cifar10, load_npz

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


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
        with Image.open(self.name(index)) as image:
            return image.convert("RGB"), int(self.labels[index])

    def name(self, index: int) -> str:
        """The path."""
        return os.fsdecode(self.paths[index])

    def take(self, chosen: np.ndarray) -> FolderImages:
        """Some of them."""
        return FolderImages(self.paths[chosen], self.labels[chosen])


@dataclass(frozen=True)
class ClassificationData:
    """A data set.

    Attributes:
        train, test: its images; labels are places in ``classes``.
        classes: names.
    """

    train: Images | Shards
    test: Images | Shards
    classes: tuple[str, ...]


def load_data(cfg: CfgNode) -> ClassificationData:
    """The data set of ``DATA.PATH``.

    Raises:
        DataError: it is not there, or not what the place's form promises.
        ConfigError: it has fewer images than a step needs.
    """
    path = cfg.DATA.PATH
    place = Path(path)
    if place.suffix == ".json":
        data = ClassificationData(*load_shards(place))
        _check_shards(cfg, data.train)
    elif path and place.is_file():
        data = _from_arrays(path, *(load_npz(place, split) for split in ("train", "test")))
    elif path and (place / CIFAR10.base_folder).is_dir():
        data = _from_arrays(path, *(load_cifar10(place, split) for split in ("train", "test")))
    elif path and (place / "train").is_dir() and (place / "val").is_dir():
        data = _from_folders(place / "train", place / "val")
    else:
        raise DataError(
            f"DATA.PATH: wanted a folder with {CIFAR10.base_folder} in it, an .npz file, a folder "
            f"with train and val in it or a .json file of shards, got {path!r}, which is "
            + ("none of these" if place.exists() and path else "not there" if path else "empty")
        )
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
    return data


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


def _from_folders(train: Path, val: Path) -> ClassificationData:
    train_images, classes = _list_folder(train)
    val_images, val_classes = _list_folder(val)
    if classes != val_classes:
        only = [
            f"only in {place}: {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"
            for place, names in (
                (train, sorted(set(classes) - set(val_classes))),
                (val, sorted(set(val_classes) - set(classes))),
            )
            if names
        ]
        raise DataError(f"wanted the same classes in both folders, but {'; '.join(only)}")
    return ClassificationData(train_images, val_images, classes)


def _list_folder(place: Path) -> tuple[FolderImages, tuple[str, ...]]:
    try:
        folder = ImageFolder(str(place))
    except (OSError, ValueError) as error:  # FileNotFoundError: no classes, or an empty one
        reason = " ".join(str(error).split()).partition(" Supported extensions")[0]
        raise DataError(f"{place} is not a folder of one sub-folder a class: {reason}") from None
    paths = np.array([os.fsencode(path) for path, _ in folder.samples])
    return FolderImages(paths, np.array(folder.targets, dtype=np.int64)), tuple(folder.classes)
