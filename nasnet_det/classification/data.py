"""Images for classification: where they lie, and batches that depend on nothing but the seed.

What is random about an image, its place in the epoch and its augmentation, comes from the seed, the
epoch and the image's number. So it is the same for any number of workers, and a training that is
resumed in the middle of an epoch sees what it would have seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.datasets import CIFAR10, ImageFolder
from yacs.config import CfgNode

from nasnet_det.classification.augment import build_eval_transform, build_train_transform
from nasnet_det.config import ConfigError
from nasnet_det.image_files import DataError, ImageSet, load_cifar10, load_npz

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_MAX_BROKEN = 100  # one after another, and the disk is gone rather than a file broken


class Images(Protocol):
    """Images that are read one at a time."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) places in the list of classes."""

    def read(self, index: int) -> Any:
        """A PIL image or a tensor (3, H, W) of bytes."""

    def name(self, index: int) -> str:
        """What to call the image in a message."""


@dataclass(frozen=True)
class ArrayImages:
    """Images of one tensor."""

    place: str
    images: torch.Tensor
    labels: np.ndarray

    def read(self, index: int) -> torch.Tensor:
        """(3, H, W) uint8."""
        return self.images[index]

    def name(self, index: int) -> str:
        """The place and the number."""
        return f"{self.place}, image {index}"


@dataclass(frozen=True)
class FolderImages:
    """Images of files. The names are one array of bytes, which workers share."""

    paths: np.ndarray
    labels: np.ndarray

    def read(self, index: int) -> Image.Image:
        """RGB."""
        with Image.open(self.name(index)) as image:
            return image.convert("RGB")

    def name(self, index: int) -> str:
        """The path."""
        return os.fsdecode(self.paths[index])


@dataclass(frozen=True)
class ClassificationData:
    """A data set.

    Attributes:
        train, test: its images; labels are places in ``classes``.
        classes: names.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]


def load_data(cfg: CfgNode) -> ClassificationData:
    """The data set of ``DATA.PATH``.

    Raises:
        DataError: it is not there, or not what the place's form promises.
        ConfigError: it has fewer images than a step needs.
    """
    path = cfg.DATA.PATH
    place = Path(path)
    if path and place.is_file():
        data = _from_arrays(path, *(load_npz(place, split) for split in ("train", "test")))
    elif path and (place / CIFAR10.base_folder).is_dir():
        data = _from_arrays(path, *(load_cifar10(place, split) for split in ("train", "test")))
    elif path and (place / "train").is_dir() and (place / "val").is_dir():
        data = _from_folders(place / "train", place / "val")
    else:
        raise DataError(
            f"DATA.PATH: wanted a folder with {CIFAR10.base_folder} in it, an .npz file or a "
            f"folder with train and val in it, got {path!r}, which is "
            + ("neither" if place.exists() and path else "not there" if path else "empty")
        )
    num_images = cfg.DATA.NUM_TRAIN or len(data.train.labels)
    if num_images > len(data.train.labels):
        raise ConfigError(
            f"DATA.NUM_TRAIN: wanted at most {len(data.train.labels)}, the images of {path}, got "
            f"{num_images}"
        )
    if num_images < cfg.SOLVER.BATCH_SIZE:
        raise ConfigError(
            f"SOLVER.BATCH_SIZE: wanted at most {num_images}, the images to train on, got "
            f"{cfg.SOLVER.BATCH_SIZE}"
        )
    return data


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


class Batch(NamedTuple):
    """Some images.

    Attributes:
        images: (B, 3, H, W) uint8.
        labels: (B,) int64.
        broken: what could not be read, each with the reason.
    """

    images: torch.Tensor
    labels: torch.Tensor
    broken: list[str]


class _TrainImages(Dataset):
    """Augmented images, by (epoch, index). A broken one is replaced by the next."""

    def __init__(self, images: Images, transform: Callable[[Any], Any], seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int, list[str]]:
        epoch, index = key
        broken: list[str] = []
        for _ in range(_MAX_BROKEN):
            try:
                image = self.images.read(index)
            except Exception as error:  # decoders raise anything on broken bytes
                broken.append(describe_broken(self.images, index, error))
                index = (index + 1) % len(self.images.labels)
                continue
            saved = torch.get_rng_state()
            torch.default_generator.manual_seed(_derive_seed(self.seed, epoch, key[1]))
            try:
                return self.transform(image), int(self.images.labels[index]), broken
            finally:
                torch.set_rng_state(saved)
        raise DataError(
            f"{_MAX_BROKEN} images one after another can't be read, the last is {broken[-1]}"
        )


class _TestImages(Dataset):
    """Images by their index; a broken one has no tensor."""

    def __init__(self, images: Images, transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor | None, int, list[str]]:
        try:
            image = self.images.read(index)
        except Exception as error:  # decoders raise anything on broken bytes
            return None, -1, [describe_broken(self.images, index, error)]
        return self.transform(image), int(self.images.labels[index]), []


def describe_broken(images: Images, index: int, error: Exception) -> str:
    """What to say of an image that can't be read."""
    return f"{images.name(index)} ({' '.join(str(error).split()) or type(error).__name__})"


def _derive_seed(seed: int, *numbers: int) -> int:
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])


def collate(samples: Sequence[tuple[torch.Tensor | None, int, list[str]]]) -> Batch:
    """Put samples together, without those that have no image."""
    whole = [(image, label) for image, label, _ in samples if image is not None]
    broken = [text for _, _, texts in samples for text in texts]
    if not whole:
        return Batch(torch.empty(0, 3, 0, 0, dtype=torch.uint8), torch.empty(0).long(), broken)
    images, labels = zip(*whole, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), broken)


@dataclass(frozen=True)
class StepSampler(Sampler):
    """For each step of a training, from any one on, the (epoch, index) of its images.

    Attributes:
        num_images: images of an epoch.
        batch_size: images in each step, over all processes; the rest of an epoch is left out.
        start, stop: steps.
        seed: of the orders.
        rank, num_processes: which part of each batch.
    """

    num_images: int
    batch_size: int
    start: int
    stop: int
    seed: int
    rank: int = 0
    num_processes: int = 1

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order: list[int] = []
        steps_per_epoch = self.num_images // self.batch_size
        for step in range(self.start, self.stop):
            epoch, place = divmod(step, steps_per_epoch)
            if not order or place == 0:
                generator = torch.Generator().manual_seed(_derive_seed(self.seed, epoch))
                order = torch.randperm(self.num_images, generator=generator).tolist()
            batch = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(epoch, index) for index in batch[self.rank :: self.num_processes]]


def build_train_loader(
    cfg: CfgNode, data: ClassificationData, *, start: int, stop: int
) -> DataLoader:
    """The batches of the steps from ``start`` to ``stop``."""
    images = data.train
    num_images = cfg.DATA.NUM_TRAIN or len(images.labels)
    if num_images < len(images.labels):
        images = _take_first(images, num_images, cfg.SEED)
    return DataLoader(
        _TrainImages(images, build_train_transform(cfg), cfg.SEED),
        batch_sampler=StepSampler(num_images, cfg.SOLVER.BATCH_SIZE, start, stop, cfg.SEED),
        **_loader_options(cfg),
    )


def _take_first(images: Images, number: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(_derive_seed(seed))
    chosen = torch.randperm(len(images.labels), generator=generator)[:number].numpy()
    if isinstance(images, ArrayImages):
        place = f"{images.place} (of {number} chosen)"
        return ArrayImages(place, images.images[chosen], images.labels[chosen])
    assert isinstance(images, FolderImages)
    return FolderImages(images.paths[chosen], images.labels[chosen])


def build_test_loader(cfg: CfgNode, images: Images) -> DataLoader:
    """All images in order, each once."""
    return DataLoader(
        _TestImages(images, build_eval_transform(cfg)),
        batch_size=cfg.TEST.BATCH_SIZE,
        **_loader_options(cfg),
    )


def _loader_options(cfg: CfgNode) -> dict[str, Any]:
    return {
        "num_workers": cfg.DATA.NUM_WORKERS,
        "collate_fn": collate,
        "pin_memory": torch.cuda.is_available(),
        # Its own, as a loader draws a number when it starts, which a resume does once more.
        "generator": torch.Generator(),
    }


def find_broken(cfg: CfgNode, images: Images) -> list[str]:
    """Read every image once; those that can't be read, each with the reason."""
    loader = DataLoader(_ReadOnly(images), batch_size=64, **_loader_options(cfg))
    return [text for batch in loader for text in batch.broken]


class _ReadOnly(_TestImages):
    """Images that are read and forgotten."""

    def __init__(self, images: Images) -> None:
        super().__init__(images, lambda _: None)
