"""Losses on the pictures of the tests, which leave the training as it was."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.utils.events import EventStorage
from tiny_training import make_config, read_metrics, start, train

from nasnet_det.detection.validation_loss import measure_validation_loss

LOSSES = {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}


def test_losses_are_measured_with_each_evaluation_and_change_nothing(tmp_path: Path) -> None:
    options = {"TEST__EVAL_PERIOD": 2, "MODEL__NASNET__DROP_PATH_PROB": 0.3}
    plain = train(make_config(tmp_path, "plain", **options))
    cfg = make_config(tmp_path, "measured", TEST__VALIDATION_LOSS=True, **options)
    measured = train(cfg)
    for one, other in zip(
        plain.model.state_dict().values(), measured.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    found = {
        line["iteration"]: line for line in read_metrics(cfg) if "validation/total_loss" in line
    }
    assert list(found) == [1, 4], "with the evaluations, the last of which follows the training"
    for line in found.values():
        losses = {name: line[f"validation/{name}"] for name in LOSSES}
        assert line["validation/total_loss"] == pytest.approx(sum(losses.values()))
        assert 0 < line["validation/total_loss"] < 10
    again = measure_validation_loss(measured.model, cfg, 3)["validation"]
    assert again["total_loss"] == found[4]["validation/total_loss"], "a function of the weights"


def test_losses_are_those_of_the_network_that_is_tested(tmp_path: Path) -> None:
    """Of all pictures alike, with running statistics, resized as in tests."""
    cfg = make_config(tmp_path, INPUT__MIN_SIZE_TEST=32, INPUT__MAX_SIZE_TEST=48)
    trainer = start(cfg)
    seen: list[tuple[bool, torch.Size]] = []
    trainer.model.backbone.bottom_up.register_forward_hook(
        lambda module, images, _: seen.append((module.trunk.training, images[0].shape))
    )
    norm = next(m for m in trainer.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.running_mean.fill_(math.pi)
    losses = measure_validation_loss(trainer.model, cfg, 0)["validation"]
    assert losses.keys() == {"total_loss", *LOSSES}
    assert len(seen) == 6
    assert all(shape[2] == 32 for _, shape in seen)
    norm.running_mean.fill_(0.0)
    assert measure_validation_loss(trainer.model, cfg, 0)["validation"] != losses
    assert trainer.model.training


def test_several_sets_have_their_names_and_broken_pictures_do_not_count(tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    other = make_config(tmp_path / "other")
    cfg.DATASETS.TEST = (*cfg.DATASETS.TEST, *other.DATASETS.TEST)
    for picture in (tmp_path / "other" / "data").glob("*.png"):
        picture.write_bytes(b"no picture")
    with EventStorage():
        found = measure_validation_loss(start(cfg).model, cfg, 0)
    assert list(found) == list(cfg.DATASETS.TEST)
    first, second = (part["validation"]["total_loss"] for part in found.values())
    assert first > 0
    assert math.isnan(second)
