"""Training pictures: which make which batch, and that their random numbers are their own."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import CfgNode
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from exact_training import find_differences, write_data_of_two_shapes
from tiny_detection import write_tiny_config, write_tiny_dataset
from torch.utils.data import Sampler

from nasnet_det.data.error import DataError
from nasnet_det.detection import get_config
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.failed_batch import to_plain_picture
from nasnet_det.detection.loader import MappedPictures, build_train_loader, start_from
from nasnet_det.detection.sampler import BatchSampler, group_by_shape

SAMPLERS: dict[str, Callable[[], Sampler[int]]] = {
    "all": lambda: TrainingSampler(101, seed=3),
    "repeated": lambda: RepeatFactorTrainingSampler(torch.linspace(1, 3, 101), seed=3),
    "subset": lambda: RandomSubsetTrainingSampler(101, 0.3, seed_shuffle=3, seed_subset=4),
}
GROUPING = "DATALOADER__ASPECT_RATIO_GROUPING"
FILTER = "DATALOADER.FILTER_EMPTY_ANNOTATIONS"
PORTRAIT_RATIOS = (0.0, 0.1, 0.5)


def _of_process(sampler: Any, rank: int, world_size: int) -> Sampler[int]:
    sampler._rank, sampler._world_size = rank, world_size
    return sampler


def _make_sizes(portrait_ratio: float) -> list[tuple[int, int]]:
    upright = np.random.default_rng(0).random(101) < portrait_ratio
    return [(3, 4) if is_upright else (4, 3) for is_upright in upright]


@pytest.mark.parametrize("portrait_ratio", PORTRAIT_RATIOS)
@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 3)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_batches_are_those_of_detectron2_from_any_iteration_on(
    name: str, rank: int, world_size: int, portrait_ratio: float
) -> None:
    sampler = _of_process(SAMPLERS[name](), rank, world_size)
    sizes = _make_sizes(portrait_ratio)
    records = ({"width": sizes[i][0], "height": sizes[i][1], "index": i} for i in sampler)
    grouped = AspectRatioGroupedDataset(records, 4)
    wanted = [[record["index"] for record in batch] for batch in itertools.islice(grouped, 90)]
    stream = list(itertools.islice(iter(sampler), 500))
    batches = BatchSampler(sampler, group_by_shape(sizes), batch_size=4)
    straight = list(itertools.islice(iter(batches), 90))
    assert [[index for _, index in batch] for batch in straight] == wanted
    assert all(stream[position] == index for batch in straight for position, index in batch)
    for start in (1, 2, 3, 17, 60):
        batches.start = start
        assert list(itertools.islice(iter(batches), 90 - start)) == straight[start:]


def test_batch_of_a_late_iteration_is_that_of_a_stream_that_was_never_left() -> None:
    groups = group_by_shape(_make_sizes(0.3))
    batches = BatchSampler(TrainingSampler(101, seed=1), groups, batch_size=8)
    wanted = list(itertools.islice(iter(batches), 20_000, 20_003))
    batches.start = 20_000
    assert list(itertools.islice(iter(batches), 3)) == wanted


def _draw(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "drawn": (random.random(), np.random.rand(), torch.rand(()).item())}


def test_picture_is_mapped_under_numbers_of_its_position_and_leaves_the_others() -> None:
    pictures = MappedPictures([{"a": 1}, {"a": 2}], _draw, seeds=(7, 2, 0))
    first = pictures[5, 1]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    others = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    again = pictures[5, 1]
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == others
    assert again == first
    assert pictures[6, 1]["drawn"] != first["drawn"]
    assert pictures[5, 0]["drawn"] == first["drawn"]
    of_another = MappedPictures([{"a": 1}, {"a": 2}], _draw, seeds=(7, 2, 1))
    assert of_another[5, 1]["drawn"] != first["drawn"]


def test_picture_that_the_mapper_refuses_has_the_same_substitute_each_time() -> None:
    pictures = MappedPictures(range(9), lambda i: i if i > 4 else None, seeds=(1,))
    found = [pictures[position, 0] for position in range(20)]
    assert found == [pictures[position, 0] for position in range(20)]
    assert {5, 6, 7, 8} == set(found)
    with pytest.raises(DataError, match="refused 100 pictures in a row"):
        MappedPictures(range(9), lambda _: None, seeds=(1,))[0, 0]


def _config(tmp_path: Path, **options: Any) -> CfgNode:
    keys = {
        GROUPING: True,
        "INPUT__MIN_SIZE_TRAIN": (48, 64, 80),
        "INPUT__MAX_SIZE_TRAIN": 160,
    }
    words = write_data_of_two_shapes(tmp_path / "data")
    for key, value in {**keys, **options}.items():
        words += [key.replace("__", "."), str(value)]
    cfg = get_config(write_tiny_config(tmp_path), words)
    register_config_datasets(cfg)
    return cfg


def test_keys_of_the_data_reach_the_loader(tmp_path: Path) -> None:
    repeated = {"DATALOADER__SAMPLER_TRAIN": "RepeatFactorTrainingSampler"}
    for threshold in (0.0, 0.9):
        cfg = _config(tmp_path, **repeated, DATALOADER__REPEAT_THRESHOLD=threshold)
        sampler = build_train_loader(cfg).batch_sampler.indices
        assert isinstance(sampler, RepeatFactorTrainingSampler)
        assert bool(sampler._frac_part.any()) == (threshold > 0), "of seven, three have one class"
    for grouped in (True, False):
        groups = build_train_loader(_config(tmp_path, **{GROUPING: grouped})).batch_sampler.groups
        assert set(groups.tolist()) == ({0, 1} if grouped else {0})
    for left_out in (True, False):
        files = write_tiny_dataset(tmp_path / "tiny")  # the first of six has no box
        cfg = get_config(write_tiny_config(tmp_path), [*files, FILTER, str(left_out)])
        register_config_datasets(cfg)
        assert len(build_train_loader(cfg).dataset.records) == 6 - left_out
    assert build_train_loader(_config(tmp_path, DATALOADER__NUM_WORKERS=2)).num_workers == 2


def _load(cfg: CfgNode, *, start: int, count: int) -> list[Any]:
    loader = build_train_loader(cfg)
    assert start_from(loader, start)
    batches = list(itertools.islice(iter(loader), count))
    return [[to_plain_picture(picture) for picture in batch] for batch in batches]


def test_number_of_workers_and_the_start_change_no_bit(tmp_path: Path) -> None:
    wanted = _load(_config(tmp_path), start=0, count=8)
    shapes = {tuple(picture["image"].shape) for batch in wanted for picture in batch}
    assert len(shapes) > 4, "sizes are drawn"
    for num_workers in (1, 2, 3):
        torch.manual_seed(num_workers)
        cfg = _config(tmp_path, DATALOADER__NUM_WORKERS=num_workers)
        assert not find_differences(wanted[3:], _load(cfg, start=3, count=5))
    assert find_differences(wanted, _load(_config(tmp_path, SEED=2), start=0, count=8))


def test_loading_leaves_the_random_numbers_of_the_training(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    _load(_config(tmp_path, DATALOADER__NUM_WORKERS=1), start=0, count=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_grouping_without_sizes_in_the_records_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detectron2.data import DatasetCatalog

    cfg = _config(tmp_path)
    records = [{"file_name": "a.png", "annotations": [{}]}]
    monkeypatch.setattr(DatasetCatalog, "get", lambda _: records)
    monkeypatch.setattr("detectron2.data.build.print_instances_class_histogram", lambda *_: None)
    with pytest.raises(DataError, match="ASPECT_RATIO_GROUPING: wanted width and height"):
        build_train_loader(cfg)
