"""Every loader works where workers are started anew, as on macOS and Windows, and not forked."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_classification import make_config, save_folders
from tiny_detection import write_tiny_config, write_tiny_dataset
from tiny_search import write_images

from nasnet_det.classification.data import load_data
from nasnet_det.classification.loader import build_test_loader, build_train_loader
from nasnet_det.search.data import DataSource, load_child_data


@pytest.fixture
def spawned() -> Iterator[None]:
    """Workers are spawned in this test."""
    was = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(was, force=True)


@pytest.mark.usefixtures("spawned")
def test_classifier_loaders_are_the_same_with_spawned_workers(tmp_path: Path) -> None:
    root = save_folders(tmp_path / "folders")
    batches = {}
    for number in ("0", "1"):
        pairs = ["DATA.PATH", str(root), "DATA.NUM_WORKERS", number, "SOLVER.BATCH_SIZE", "4"]
        pairs += ["DATA.NUM_TRAIN", "0"]
        cfg = make_config(tmp_path, *pairs)
        data = load_data(cfg)
        loaders = build_train_loader(cfg, data, start=0, stop=2), build_test_loader(cfg, data.test)
        batches[number] = [batch for loader in loaders for batch in loader]
    for alone, spawned in zip(*batches.values(), strict=True):
        torch.testing.assert_close(spawned.images, alone.images, rtol=0, atol=0)
        assert spawned.labels.tolist() == alone.labels.tolist()


@pytest.mark.slow  # two workers that import Detectron2
@pytest.mark.usefixtures("spawned")
def test_detector_loaders_are_the_same_with_spawned_workers(tmp_path: Path) -> None:
    pytest.importorskip("detectron2")
    from nasnet_det.detection import get_config
    from nasnet_det.detection.datasets import register_config_datasets
    from nasnet_det.detection.loader import build_train_loader
    from nasnet_det.detection.trainer import Trainer

    pairs = write_tiny_dataset(tmp_path / "data")
    pictures = {}
    for number in ("0", "1"):
        config = write_tiny_config(tmp_path)
        cfg = get_config(config, [*pairs, "DATALOADER.NUM_WORKERS", number])
        register_config_datasets(cfg)
        train = itertools.islice(build_train_loader(cfg), 2)
        test = Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
        pictures[number] = [p["image"] for loader in (train, test) for b in loader for p in b]
    for alone, spawned in zip(*pictures.values(), strict=True):
        torch.testing.assert_close(spawned, alone, rtol=0, atol=0)


def test_search_reads_its_images_in_a_spawned_process(tmp_path: Path) -> None:
    source = DataSource(str(write_images(tmp_path / "images.npz")), num_held_out=8)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(load_child_data, (source,)).checksum()
    assert there == load_child_data(source).checksum()
