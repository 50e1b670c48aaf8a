"""The cost of a detector: its parts counted in another way, and the measurement of a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_detection import write_tiny_config, write_tiny_dataset
from torch import nn

from nasnet_det.complexity import count_multiply_adds
from nasnet_det.detection.config import get_config
from nasnet_det.detection.cost import find_parts, find_weights, measure_run
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.detector_files import read_cost, write_cost


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with an untrained tiny detector."""
    data = write_tiny_dataset(tmp_path / "data")
    cfg = get_config(write_tiny_config(tmp_path), data)
    register_config_datasets(cfg)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, folder / "model_final.pth")
    return folder


def test_parts_are_counted_at_the_evaluated_size(run: Path) -> None:
    cost = measure_run(run)
    assert cost.size == [64, 96], "the size of an evaluation"
    assert (cost.images, cost.is_noise, cost.weights) == (6, False, "model_final.pth")
    cfg = get_config(str(run / "config.yaml"))
    register_config_datasets(cfg)
    model = Trainer.build_model(cfg)
    image = torch.zeros(1, 3, 64, 96)
    wanted = count_multiply_adds(model.backbone.bottom_up, image)
    assert cost.multiply_adds["trunk"] == wanted > 0
    features = model.backbone.eval()(image)
    maps = [features[name] for name in model.proposal_generator.in_features]
    assert cost.multiply_adds["proposals"] == count_multiply_adds(
        model.proposal_generator.rpn_head, maps
    )
    # A region: 3x3 positions of 8 channels to 16, then 3 class scores and boxes of 2 classes.
    assert cost.multiply_adds["region head"] == 3 * 3 * 8 * 16 + 16 * 3 + 16 * 4 * 2
    assert 0 < cost.regions <= 20
    assert cost.total_multiply_adds == pytest.approx(
        sum(cost.multiply_adds[part] for part in ("trunk", "neck", "proposals"))
        + cost.regions * cost.multiply_adds["region head"]
    )
    parameters = dict(cost.parameters)
    assert parameters.pop("all") == sum(p.numel() for p in model.parameters())
    assert sum(parameters.values()) == sum(p.numel() for p in model.parameters())
    assert 0 < cost.ms_per_image["low"] <= cost.ms_per_image["median"]
    assert cost.peak_memory_mb > 50
    assert cost.device
    write_cost(run, cost)
    assert read_cost(run) == cost


def test_noise_takes_the_place_of_images_that_are_gone(run: Path) -> None:
    for path in (run.parent / "data").iterdir():
        path.unlink()
    cost = measure_run(run)
    assert (cost.images, cost.is_noise) == (1, True)
    assert cost.multiply_adds["trunk"] > 0


def test_run_without_weights_is_one_sentence(run: Path) -> None:
    (run / "last_checkpoint").write_text("model_0000003.pth")
    (run / "model_final.pth").rename(run / "model_0000003.pth")
    assert find_weights(run) == run / "model_0000003.pth"
    (run / "model_0000003.pth").unlink()
    with pytest.raises(
        ValueError, match="has no checkpoint .model_final.pth or what last_checkpoi"
    ):
        measure_run(run)


def test_parts_of_a_detector_of_one_stage() -> None:
    model = nn.Module()
    model.backbone = nn.Conv2d(3, 4, 1)
    model.head = nn.Linear(4, 2)
    parts = find_parts(model)
    assert parts == {
        "trunk": [model.backbone], "neck": [], "proposals": [model.head], "region head": [],
    }  # fmt: skip
