"""The first rung of a search for detectors: a child is a classifier of crops of the objects.

It has the candidate's cells, N and F. The crops are made as large as the candidate's pictures are
beside the largest ones, since objects are smaller in smaller pictures.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from statistics import fmean

from nasnet_det.data.image_sets import ImageSet
from nasnet_det.search.child import ChildRecipe, ChildTrainer, train_child
from nasnet_det.search.data import ChildData, load_child_data
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.space import Choices, SearchSpace

MULTIPLE = 4  # of a crop's side: maps are halved twice
NUM_PROBES = 3  # of the smallest size, and of the largest
PROBE_STEPS = 4
STEP_COST = 3  # of training with a crop, in evaluations of it: forward once, backward twice


@dataclass
class CropTrainer(ChildTrainer):
    """Trains classifiers of crops whose N, F and size are decisions of the space's extras."""

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        """See :class:`~nasnet_det.search.child.ChildTrainer`."""
        recipe, data = self._choose(job.choices, device)
        return train_child(job, recipe, self.space, data, device=device)

    def start(self, device: str) -> None:
        """See :class:`~nasnet_det.search.child.ChildTrainer`."""
        super().start(device)
        for size in _list_sizes(self.space):
            self._load_size(size, device)

    def _choose(self, choices: Choices, device: str) -> tuple[ChildRecipe, ChildData]:
        extras = self.space.get_extras(choices)
        recipe = replace(
            self.recipe,
            num_cells_per_stage=int(extras["num_cells_per_stage"]),
            channels=int(extras["channels"]),
        )
        return recipe, self._load_size(int(extras["min_size"]), device)

    def _load_size(self, min_size: int, device: str) -> ChildData:
        """The crops for pictures of this size, on a device."""
        share = min_size / max(_list_sizes(self.space))
        size = max(2 * MULTIPLE, round(share * self.source.image_size / MULTIPLE) * MULTIPLE)
        if size == self.source.image_size:
            return self.load(device)
        key = f"{device} {size}"
        if key not in self._data:
            beyond = self.source.upsampled_size / self.source.image_size
            source = replace(self.source, image_size=size, upsampled_size=round(beyond * size))
            self._data[key] = load_child_data(source).to(device)
        return self._data[key]

    def estimate_seconds(self, device: str) -> float:
        """About how long a child takes: the mean of random cells in the smallest and largest ones.

        Random cells, as those of the first children: others cost a multiple.
        """
        rng, extras = random.Random(0), self.space.extras
        probes = [
            (
                *self.space.sample(rng)[: len(self.space.num_choices) - len(extras)],
                *(extra.values.index(choose(extra.values)) for extra in extras),
            )
            for choose in (min, max)
            for _ in range(NUM_PROBES)
        ]
        return fmean(self._estimate(choices, device) for choices in probes)

    def _estimate(self, choices: Choices, device: str) -> float:
        """From a few steps."""
        recipe, data = self._choose(choices, device)
        number = min(len(data.train.labels), PROBE_STEPS * recipe.batch_size)
        short = replace(
            data,
            train=ImageSet(*(part[:number] for part in data.train)),
            held_out=ImageSet(*(part[:number] for part in data.held_out)),
        )
        job = ChildJob(0, choices, 0)
        one = replace(recipe, epochs=1)
        train_child(job, one, self.space, short, device=device)  # what is slow once only
        seconds = train_child(job, one, self.space, short, device=device).seconds
        return seconds * _count_work(data, recipe.epochs) / _count_work(short, 1)


def _count_work(data: ChildData, epochs: int) -> int:
    """What a child takes, in evaluations of a picture."""
    return STEP_COST * epochs * len(data.train.labels) + len(data.held_out.labels)


def _list_sizes(space: SearchSpace) -> tuple[int, ...]:
    (sizes,) = (extra.values for extra in space.extras if extra.name == "min_size")
    return tuple(int(size) for size in sizes)
