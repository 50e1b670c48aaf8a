"""Data sets in tar files (WebDataset), for more images than one disk or one list can hold.

A JSON file says where they are:

    {"classes": ["cat", "dog"],
     "train": {"shards": "train-{000000..000146}.tar", "num_images": 1281167},
     "val": {"shards": "https://host/val-{000000..000006}.tar", "num_images": 50000}}

Names are relative to the file. Each image is a ``NAME.jpg`` (or jpeg, png, webp) with ``NAME.cls``
beside it, the number of its class as text. A tar file is read from its beginning to its end only.
Therefore each worker of each process has a stream of its own: every so many-th of the shuffled
shards, and images shuffled within a buffer. An epoch is as many images as ``num_images`` says; a
worker whose shards hold fewer than its share sees some of them twice.

A training that is resumed reads, without decoding it, what it had read of its epoch. So it goes on
bit for bit as if it had not been killed, as long as the numbers of workers and processes stay and
no image is broken.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info

from nasnet_det.data.broken_pictures import describe_broken
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import read_picture
from nasnet_det.runs.seeds import derive_seed, seeded

_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_BUFFER = 2000  # encoded images from which the next one is drawn
_MAX_BROKEN = 100  # one after another, and the disk is gone rather than a file broken


class Sample(NamedTuple):
    """An image for a batch.

    Attributes:
        image: (3, H, W) uint8; None where it can't be read.
        label: its class.
        broken: what could not be read on the way to it, each with the reason.
        number: its place among the images of its split; -1 where these have none.
    """

    image: torch.Tensor | None
    label: int
    broken: list[str]
    number: int = -1


@dataclass(frozen=True)
class Shards:
    """The shards of a split.

    Attributes:
        urls: of the tar files, local or not.
        num_images: images in all of them.
        num_classes: labels are below.
    """

    urls: tuple[str, ...]
    num_images: int
    num_classes: int

    def __len__(self) -> int:
        return self.num_images

    def read(self, urls: Sequence[str], broken: list[str]) -> Iterator[dict[str, Any]]:
        """The samples of some shards as they lie there, encoded.

        Args:
            urls: which.
            broken: gets what can't be read.
        """
        webdataset = import_webdataset()

        def skip(error: Exception) -> bool:
            where = error.args[-1] if len(error.args) > 1 else ", ".join(urls)
            reason = " ".join(str(error.args[0] if error.args else error).split())
            broken.append(f"the rest of {where} ({reason})")
            return True

        return iter(
            webdataset.WebDataset(
                list(urls),
                handler=skip,
                shardshuffle=False,
                nodesplitter=None,
                workersplitter=None,
                empty_check=False,
            )
        )

    def decode(self, sample: dict[str, Any]) -> tuple[Image.Image, int]:
        """The image in RGB and its label.

        Raises:
            Exception: decoders raise anything on broken bytes.
        """
        content = next((sample[name] for name in _EXTENSIONS if name in sample), None)
        if content is None or "cls" not in sample:
            names = ", ".join(name for name in sample if not name.startswith("__"))
            raise ValueError(f"wanted an image and a cls, got {names}")
        label = int(sample["cls"])
        if not 0 <= label < self.num_classes:
            raise ValueError(f"wanted a class from 0 to {self.num_classes - 1}, got {label}")
        return read_picture(io.BytesIO(content), name=str(sample.get("__key__"))), label


def import_webdataset() -> Any:
    """The library.

    Raises:
        DataError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise DataError(
            "DATA.PATH: shards need webdataset: run pip install 'nasnet-det[shards]'"
        ) from None
    return webdataset


def load_shards(path: Path) -> tuple[Shards, Shards, tuple[str, ...]]:
    """The training and the test shards that a JSON file names, and the classes.

    Raises:
        DataError: it says something else.
    """
    import_webdataset()
    try:
        content = json.loads(path.read_text())
        classes = tuple(str(name) for name in content["classes"])
        splits = [
            (str(content[name]["shards"]), int(content[name]["num_images"]))
            for name in ("train", "val")
        ]
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: wanted classes, and shards and num_images of train and of val "
            f"({type(error).__name__}: {error})"
        ) from None
    if len(classes) < 2:
        raise DataError(f"{path}: wanted at least 2 classes, got {len(classes)}")
    train, val = (Shards(_expand(shards, path), n, len(classes)) for shards, n in splits)
    return train, val, classes


def _expand(shards: str, path: Path) -> tuple[str, ...]:
    """Names of tar files out of one with braces; those of this machine are there."""
    from braceexpand import braceexpand  # webdataset needs it too

    urls = []
    for url in braceexpand(shards):
        if url.startswith("pipe:"):  # webdataset runs these
            raise DataError(f"{path}: a command is no name of a shard, got {url!r}")
        if "://" not in url:
            url = os.path.join(path.parent, url)
            if not os.path.isfile(url):
                raise DataError(f"{path}: there is no shard {url}")
        urls.append(url)
    return tuple(urls)


def _find_worker() -> tuple[int, int]:
    """The number of this worker and how many the loader has."""
    info = get_worker_info()
    return (info.id, info.num_workers) if info else (0, 1)


@dataclass(frozen=True)
class TrainStream(IterableDataset):
    """Augmented images of the steps ``start`` to ``stop``, of one process.

    The loader asks its workers in turn, so worker w has the batches start + w, start + w + K, ...

    Attributes:
        shards: where they come from.
        transform: of an image.
        part: images of this process in each step.
        steps_per_epoch, start, stop: steps.
        seed: of the orders and the augmentations.
        rank, num_processes: which part of the streams.
    """

    shards: Shards
    transform: Callable[[Any], Any]
    part: int
    steps_per_epoch: int
    start: int
    stop: int
    seed: int
    rank: int = 0
    num_processes: int = 1

    def __iter__(self) -> Iterator[Sample]:
        worker, num_workers = _find_worker()
        step = self.start + worker
        while step < self.stop:
            epoch, place = divmod(step, self.steps_per_epoch)
            stop = min(self.stop, (epoch + 1) * self.steps_per_epoch)
            num_batches = len(range(step, stop, num_workers))
            skipped, stream = divmod(place, num_workers)
            yield from self._read(
                epoch,
                stream * self.num_processes + self.rank,
                num_workers * self.num_processes,
                skipped * self.part,
                num_batches * self.part,
            )
            step += num_batches * num_workers

    def _read(
        self, epoch: int, stream: int, num_streams: int, start: int, number: int
    ) -> Iterator[Sample]:
        """``number`` images of a stream, from its ``start``-th on."""
        order = np.random.default_rng(derive_seed(self.seed, epoch)).permutation(
            len(self.shards.urls)
        )
        urls = [self.shards.urls[i] for i in order[stream::num_streams]]
        broken: list[str] = []
        rng = random.Random(derive_seed(self.seed, epoch, stream))
        samples = self._repeat(urls, rng, broken)
        for _ in range(start):
            next(samples)
        for i in range(start, start + number):
            while True:
                sample = next(samples)
                try:
                    image, label = self.shards.decode(sample)
                    break
                except Exception as error:  # decoders raise anything on broken bytes
                    broken.append(describe_sample(sample, error))
                    if len(broken) >= _MAX_BROKEN:
                        raise DataError(
                            f"{_MAX_BROKEN} images one after another can't be read, the last is "
                            f"{broken[-1]}"
                        ) from None
            with seeded(derive_seed(self.seed, epoch, stream, i)):
                augmented = self.transform(image)
            yield Sample(augmented, label, list(broken))
            broken.clear()

    def _repeat(
        self, urls: Sequence[str], rng: random.Random, broken: list[str]
    ) -> Iterator[dict[str, Any]]:
        """All samples of some shards, shuffled, again and again."""
        shuffle = import_webdataset().filters.shuffle(_BUFFER, initial=_BUFFER, rng=rng)
        while True:
            is_empty = True
            for sample in shuffle(self.shards.read(urls, broken)):
                is_empty = False
                yield sample
            if is_empty:
                reason = broken[-1] if broken else "they are empty"
                raise DataError(f"no image can be read from {', '.join(urls):.200}: {reason}")


@dataclass(frozen=True)
class EvalStream(IterableDataset):
    """All images of this process's and this worker's shards, each once.

    Attributes:
        shards: where they come from.
        transform: of an image.
        rank, num_processes: which part of the streams.
    """

    shards: Shards
    transform: Callable[[Any], Any]
    rank: int = 0
    num_processes: int = 1

    def __iter__(self) -> Iterator[Sample]:
        worker, num_workers = _find_worker()
        first = worker * self.num_processes + self.rank
        urls = self.shards.urls[first :: num_workers * self.num_processes]
        broken: list[str] = []
        for sample in self.shards.read(urls, broken) if urls else ():
            try:
                image, label = self.shards.decode(sample)
            except Exception as error:  # decoders raise anything on broken bytes
                yield Sample(None, -1, [describe_sample(sample, error)])
                continue
            yield Sample(self.transform(image), label, [])
        if broken:
            yield Sample(None, -1, broken)


def describe_sample(sample: dict[str, Any], error: Exception) -> str:
    """What to say of a sample that can't be read."""
    return describe_broken(f"{sample.get('__key__')} of {sample.get('__url__')}", error)
