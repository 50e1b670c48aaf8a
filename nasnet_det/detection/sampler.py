"""Which pictures make which batch, as a function of the batch's number.

A batch consists of (position, index): where in the endless stream of its process a picture stands,
and which picture of the data set it is. From the position come the random numbers of its
augmentation (``loader.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


class BatchSampler(Sampler[list[Key]]):
    """Endless batches of pictures of one shape, from any batch on.

    The batches are those of Detectron2's ``AspectRatioGroupedDataset``: a picture waits until there
    are enough of its group. Who waits at the start is found by counting the pictures before it.

    Args:
        indices: endless and the same whenever it is iterated, as Detectron2's samplers are; the
            part of this process.
        groups: the group of each picture of the data set, 0 or more.
        batch_size: pictures in a batch.

    Attributes:
        start: number of the first batch, counted from 0.
    """

    def __init__(
        self, indices: Iterable[int], groups: Sequence[int] | np.ndarray, *, batch_size: int
    ) -> None:
        self.indices, self.batch_size = indices, batch_size
        self.groups = np.asarray(groups)
        self.start = 0

    def __iter__(self) -> Iterator[list[Key]]:
        indices = iter(self.indices)
        num_counted = self.start * self.batch_size
        counted = np.fromiter(itertools.islice(indices, num_counted), np.int64, num_counted)
        waiting, num_batches = self._count(counted)
        for position, index in enumerate(indices, num_counted):
            batch = waiting[self.groups[index]]
            batch.append((position, index))
            if len(batch) == self.batch_size:
                waiting[self.groups[index]] = []
                num_batches += 1
                if num_batches > self.start:  # those who waited made batches of the past late
                    yield batch

    def _count(self, indices: np.ndarray) -> tuple[dict[int, list[Key]], int]:
        """Who waits in each group after the first pictures, and how many batches there were."""
        groups = self.groups[indices]
        waiting: dict[int, list[Key]] = {}
        num_batches = 0
        for group in np.unique(self.groups).tolist():
            positions = np.flatnonzero(groups == group)
            num_full, num_waiting = divmod(len(positions), self.batch_size)
            rest = positions[len(positions) - num_waiting :]
            waiting[group] = list(zip(rest.tolist(), indices[rest].tolist(), strict=True))
            num_batches += num_full
        return waiting, num_batches


def group_by_shape(sizes: Iterable[tuple[int, int]]) -> np.ndarray:
    """Detectron2's two groups: 0 for pictures that are wider than high, else 1.

    Args:
        sizes: width and height of each picture in pixels.
    """
    return np.array([0 if width > height else 1 for width, height in sizes])
