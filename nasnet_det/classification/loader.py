"""Batches of images that depend on nothing but the seed.

What is random about an image, its place in the epoch and its augmentation, comes from the seed, the
epoch and the image's number. So it is the same for any number of workers and of processes, and a
training that is resumed in the middle of an epoch sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from yacs.config import CfgNode

from nasnet_det.classification.augment import build_eval_transform, build_train_transform
from nasnet_det.classification.data import ClassificationData, Images
from nasnet_det.classification.distributed import get_rank, get_world_size
from nasnet_det.classification.shards import EvalStream, Sample, Shards, TrainStream
from nasnet_det.data.broken_pictures import describe_broken
from nasnet_det.data.error import DataError
from nasnet_det.runs.seeds import derive_seed, seeded
from nasnet_det.runs.signals import leave_signals

_MAX_BROKEN = 100  # one after another, and the disk is gone rather than a file broken


class Batch(NamedTuple):
    """Some images.

    Attributes:
        images: (B, 3, H, W) uint8.
        labels: (B,) int64.
        broken: what could not be read, each with the reason.
        indices: (B,) int64, places among the images of the split; -1 where these have none.
    """

    images: torch.Tensor
    labels: torch.Tensor
    broken: list[str]
    indices: torch.Tensor = torch.empty(0, dtype=torch.int64)


class _TrainImages(Dataset):
    """Augmented images, by (epoch, index). A broken one is replaced by the next."""

    def __init__(self, images: Images, transform: Callable[[Any], Any], seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        broken: list[str] = []
        for _ in range(_MAX_BROKEN):
            try:
                image, label = self.images.read(index)
            except Exception as error:  # decoders raise anything on broken bytes
                broken.append(describe_broken(self.images.name(index), error))
                index = (index + 1) % len(self.images)
                continue
            with seeded(derive_seed(self.seed, epoch, key[1])):
                return Sample(self.transform(image), label, broken, index)
        raise DataError(
            f"{_MAX_BROKEN} images one after another can't be read, the last is {broken[-1]}"
        )


class _TestImages(Dataset):
    """Images by their index; a broken one has no tensor."""

    def __init__(self, images: Images, transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        try:
            image, label = self.images.read(index)
        except Exception as error:  # decoders raise anything on broken bytes
            return Sample(None, -1, [describe_broken(self.images.name(index), error)], index)
        return Sample(self.transform(image), label, [], index)


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples together, without those that have no image."""
    whole = [sample for sample in samples if sample.image is not None]
    broken = [text for sample in samples for text in sample.broken]
    if not whole:
        return Batch(torch.empty(0, 3, 0, 0, dtype=torch.uint8), torch.empty(0).long(), broken)
    images = torch.stack([sample.image for sample in whole if sample.image is not None])
    labels, indices = ([getattr(s, key) for s in whole] for key in ("label", "number"))
    return Batch(images, torch.tensor(labels), broken, torch.tensor(indices))


@dataclass(frozen=True)
class StepSampler(Sampler):
    """For each step of a training, from any one on, the (epoch, index) of its images.

    Attributes:
        num_images: images of an epoch.
        batch_size: images in each step, over all processes; the rest of an epoch is left out.
        start, stop: steps.
        seed: of the orders.
        rank, num_processes: which part of each batch; the parts follow one another.
    """

    num_images: int
    batch_size: int
    start: int
    stop: int
    seed: int
    rank: int = 0
    num_processes: int = 1

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order: list[int] = []
        steps_per_epoch = self.num_images // self.batch_size
        part = self.batch_size // self.num_processes
        for step in range(self.start, self.stop):
            epoch, place = divmod(step, steps_per_epoch)
            if not order or place == 0:
                generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
                order = torch.randperm(self.num_images, generator=generator).tolist()
            first = place * self.batch_size + self.rank * part
            yield [(epoch, index) for index in order[first : first + part]]


def build_train_loader(
    cfg: CfgNode, data: ClassificationData, *, start: int, stop: int
) -> DataLoader:
    """This process's part of the batches of the steps from ``start`` to ``stop``."""
    images, transform = choose_train_images(cfg, data), build_train_transform(cfg)
    batch_size, rank, world_size = cfg.SOLVER.BATCH_SIZE, get_rank(), get_world_size()
    options = _loader_options(cfg)
    if isinstance(images, Shards):
        part, steps_per_epoch = batch_size // world_size, len(images) // batch_size
        stream = TrainStream(
            images, transform, part, steps_per_epoch, start, stop, cfg.SEED, rank, world_size
        )
        return DataLoader(stream, batch_size=part, **options)
    sampler = StepSampler(len(images), batch_size, start, stop, cfg.SEED, rank, world_size)
    dataset = _TrainImages(images, transform, cfg.SEED)
    return DataLoader(dataset, batch_sampler=sampler, **options)


def choose_train_images(cfg: CfgNode, data: ClassificationData) -> Images | Shards:
    """All training images, or ``DATA.NUM_TRAIN`` of them, the same ones each time."""
    images = data.train
    if isinstance(images, Shards) or not 0 < cfg.DATA.NUM_TRAIN < len(images):
        return images
    generator = torch.Generator().manual_seed(derive_seed(cfg.SEED))
    chosen = torch.randperm(len(images), generator=generator)[: cfg.DATA.NUM_TRAIN]
    return images.take(chosen.numpy())


def build_test_loader(cfg: CfgNode, images: Images | Shards) -> DataLoader:
    """This process's part of all images, each once and in order."""
    dataset = _build_test_images(images, build_eval_transform(cfg))
    return DataLoader(dataset, batch_size=cfg.TEST.BATCH_SIZE, **_loader_options(cfg))


def _build_test_images(images: Images | Shards, transform: Callable[[Any], Any]) -> Dataset:
    rank, world_size = get_rank(), get_world_size()
    if isinstance(images, Shards):
        return EvalStream(images, transform, rank, world_size)
    if world_size > 1:
        images = images.take(np.arange(rank, len(images), world_size))
    return _TestImages(images, transform)


def _loader_options(cfg: CfgNode) -> dict[str, Any]:
    return {
        "num_workers": cfg.DATA.NUM_WORKERS,
        "collate_fn": collate,
        "worker_init_fn": leave_signals,
        "pin_memory": torch.cuda.is_available(),
        # Its own, as a loader draws a number when it starts, which a resume does once more.
        "generator": torch.Generator(),
    }


def find_broken(cfg: CfgNode, images: Images | Shards) -> list[str]:
    """Read this process's part of all images; those that can't be read, each with the reason."""
    dataset = _build_test_images(images, _forget)
    loader = DataLoader(dataset, batch_size=64, **_loader_options(cfg))
    return [text for batch in loader for text in batch.broken]


def _forget(image: Any) -> None:
    """No lambda, so that workers may be spawned."""
