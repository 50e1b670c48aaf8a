"""Several processes: one state, one end."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.detection import get_config
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.failed_batch import name_failed_batch, replay_failed_batch
from nasnet_det.detection.loader import build_train_loader
from nasnet_det.detection.mapper import PictureMapper
from nasnet_det.detection.step import NonFiniteLossError
from nasnet_det.detection.trainer import Trainer

# The box head exchanges statistics after the proposals. torch's SyncBN needs a GPU.
SYNCHRONIZED_HEAD = {
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 8,
    "MODEL.ROI_BOX_HEAD.NORM": "naiveSyncBN",
}
# p5 has weights that no head uses.
UNUSED_FEATURE = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4"],
}


def _config(folder: Path, options: dict[str, Any]) -> CfgNode:
    words = [*write_tiny_dataset(folder / f"data{comm.get_rank()}"), "OUTPUT_DIR", str(folder)]
    words += [word for key, value in options.items() for word in (key, str(value))]
    cfg = get_config(write_tiny_config(folder), words)
    register_config_datasets(cfg)
    return cfg


def _on_two_processes(function: Callable[..., None], folder: Path) -> None:
    launch(function, 2, dist_url="auto", args=(folder,), timeout=timedelta(seconds=60))


def _leave() -> None:
    """A process that leaves while gloo's threads still run is aborted now and then."""
    comm.synchronize()
    torch.distributed.destroy_process_group()


class _PoisonedMapper(PictureMapper):
    """The fifth picture of the last process is no number."""

    num_pictures = 0
    poison = "image"

    def __call__(self, dataset_dict: dict[str, Any]) -> Any:
        picture = super().__call__(dataset_dict)
        self.num_pictures += 1
        if comm.get_rank() == comm.get_world_size() - 1 and self.num_pictures == 5:
            if self.poison == "image":
                picture["image"] = picture["image"] * math.nan
            else:
                picture["instances"].gt_boxes.tensor *= math.nan
        return picture


class _PoisonedBoxes(_PoisonedMapper):
    poison = "boxes"


def _train_poisoned(cfg: CfgNode, mapper: type[_PoisonedMapper]) -> str:
    class Poisoned(Trainer):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode) -> Any:
            return build_train_loader(cfg, mapper=mapper(cfg, is_train=True))

    with pytest.raises(NonFiniteLossError) as info:
        Poisoned(cfg).train()
    return str(info.value)


def _train_with_poisoned_images(folder: Path) -> None:
    message = _train_poisoned(
        _config(folder, {**SYNCHRONIZED_HEAD, "SOLVER.IMS_PER_BATCH": 4}), _PoisonedMapper
    )
    (folder / f"message{comm.get_rank()}").write_text(message)
    _leave()


def test_proposals_of_one_process_that_are_no_numbers_stop_both_in_the_same_step(
    tmp_path: Path,
) -> None:
    _on_two_processes(_train_with_poisoned_images, tmp_path)
    messages = [(tmp_path / f"message{rank}").read_text() for rank in range(2)]
    assert messages[0] == messages[1]
    assert messages[0].startswith("the loss is not a finite number at iteration 2, ")
    assert "images: " + str(tmp_path / "data1") in messages[0]
    dump = name_failed_batch(str(tmp_path), 1)
    assert f"the batch is in {dump}" in messages[0]
    assert not os.path.exists(name_failed_batch(str(tmp_path), 0))
    model = Trainer.build_model(_config(tmp_path, SYNCHRONIZED_HEAD))
    losses = replay_failed_batch(model, dump)
    assert list(losses) == ["proposals"]
    assert math.isnan(losses["proposals"])


def test_kept_batch_has_the_losses_that_it_had_in_the_training(tmp_path: Path) -> None:
    cfg = _config(tmp_path, {"MODEL.NASNET.DROP_PATH_PROB": 0.5})
    message = _train_poisoned(cfg, _PoisonedBoxes)
    torch.manual_seed(7)
    losses = replay_failed_batch(Trainer.build_model(cfg), name_failed_batch(str(tmp_path), 0))
    assert math.isnan(losses["loss_rpn_loc"])
    assert math.isfinite(losses["loss_rpn_cls"])
    assert ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items()) in message


def _train_with_unused_feature(folder: Path) -> None:
    options = {**UNUSED_FEATURE, "SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": 3}
    trainer = Trainer(_config(folder, options))
    trainer.train()
    layers = [layer for layer in get_bn_modules(trainer.model) if layer.track_running_stats]
    means = torch.cat([layer.running_mean for layer in layers])
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    torch.save({"means": means, "weights": weights}, folder / f"state{comm.get_rank()}")
    _leave()


def test_running_statistics_are_those_of_all_processes_and_unused_weights_no_end(
    tmp_path: Path,
) -> None:
    _on_two_processes(_train_with_unused_feature, tmp_path)
    states = [torch.load(tmp_path / f"state{rank}", weights_only=True) for rank in range(2)]
    assert torch.equal(states[0]["weights"], states[1]["weights"])
    assert torch.equal(states[0]["means"], states[1]["means"])
    assert states[0]["means"].abs().sum() > 0
