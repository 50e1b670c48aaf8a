"""Training pictures that depend on ``SEED``, process and iteration, and on nothing else.

The order is Detectron2's, by any of its samplers. Each picture is mapped under random numbers of
its own, so neither the number of data workers nor what they load ahead can matter.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, Dataset

from nasnet_det.data.error import DataError
from nasnet_det.detection.augmentation_checks import check_boxes_are_left
from nasnet_det.detection.datasets import adopt_sets
from nasnet_det.detection.mapper import MAX_TRIES, PictureMapper
from nasnet_det.detection.sampler import BatchSampler, Key, group_by_shape
from nasnet_det.detection.seeds import Purpose
from nasnet_det.runs.seeds import derive_seed, seeded
from nasnet_det.runs.signals import leave_signals

logger = logging.getLogger(__name__)


class MappedPictures(Dataset[Any]):
    """Records of a data set, each mapped under random numbers from its position in the stream.

    Python's, numpy's and torch's generators are as they were afterwards. Where the mapper returns
    None, as Detectron2 allows, another record takes the place. A :class:`PictureMapper` draws the
    other pictures of a mosaic under the same random numbers.

    Args:
        records: the data set.
        mapper: as in Detectron2.
        seeds: whole numbers, with which the position is mixed.
    """

    def __init__(
        self, records: Sequence[Any], mapper: Callable[[Any], Any], *, seeds: Sequence[int]
    ) -> None:
        self.records, self.seeds = records, tuple(seeds)
        self.mapper = PicklableWrapper(mapper)  # for workers that are not forked
        self._mixes = getattr(mapper, "mixing", None) is not None

    def __getitem__(self, key: Key) -> Any:
        position, index = key
        with seeded(derive_seed(*self.seeds, position)):
            for _ in range(MAX_TRIES):
                more = (self._draw,) if self._mixes else ()
                picture = self.mapper(self.records[index], *more)
                if picture is not None:
                    return picture
                index = random.randrange(len(self.records))
        raise DataError(f"the mapper of the data set refused {MAX_TRIES} pictures in a row")

    def _draw(self) -> Any:
        return self.records[random.randrange(len(self.records))]


def build_train_loader(cfg: CfgNode, *, mapper: Callable[[Any], Any] | None = None) -> Any:
    """As Detectron2's ``build_detection_train_loader``, and batch k is a function of k.

    Args:
        cfg: with a ``SEED``; else one is chosen, the same for all processes.
        mapper: instead of :class:`PictureMapper`; None for a record takes another one.

    Returns:
        an endless DataLoader; its ``batch_sampler.start`` is the number of the first batch. For an
        iterable data set, Detectron2's own loader, which always starts from the beginning.

    Raises:
        DataError: pictures are to be grouped by their shape, and have none.
    """
    adopt_sets(cfg)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    mapper = PictureMapper(cfg, is_train=True) if mapper is None else mapper
    # Detectron2's samplers draw their seeds from numpy.
    with seeded(derive_seed(seed, Purpose.ORDER)):
        parts = build_detection_train_loader.from_config(cfg, mapper=mapper)
    records = parts["dataset"]
    check_boxes_are_left(mapper, records, seed=seed)
    if parts["sampler"] is None:
        return build_detection_train_loader(cfg, mapper=mapper)
    if parts["aspect_ratio_grouping"]:
        groups = group_by_shape(map(_get_size, records))
    else:
        groups = np.zeros(len(records), np.int64)
    if isinstance(records, list):
        records = DatasetFromList(records, copy=False)
    batch_size = parts["total_batch_size"] // comm.get_world_size()
    logger.info("Batches of %d pictures in each process", batch_size)
    return DataLoader(
        MappedPictures(
            records, parts["mapper"], seeds=(seed, Purpose.AUGMENTATION, comm.get_rank())
        ),
        batch_sampler=BatchSampler(parts["sampler"], groups, batch_size=batch_size),
        num_workers=parts["num_workers"],
        collate_fn=trivial_batch_collator,
        worker_init_fn=leave_signals,
        generator=torch.Generator(),  # or it would draw from the one that a training uses
    )


def start_from(loader: Any, batch: int) -> bool:
    """Let a loader's next pass start from a batch; False where it is not one of ours."""
    sampler = getattr(loader, "batch_sampler", None)
    if not isinstance(sampler, BatchSampler):
        return False
    sampler.start = batch
    return True


def _get_size(record: Any) -> tuple[int, int]:
    try:
        return record["width"], record["height"]
    except KeyError:
        raise DataError(
            f"DATALOADER.ASPECT_RATIO_GROUPING: wanted width and height in the record of every "
            f"picture, got {sorted(record)!s:.100}; add them, or set it to False"
        ) from None
