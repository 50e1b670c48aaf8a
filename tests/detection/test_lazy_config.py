"""Lazy models of Detectron2's zoo with a NASNet, and the checks of a lazy config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from safetensors.torch import save_file

from nasnet_det.config import ConfigError
from nasnet_det.detection import NASNetBackbone, check_lazy_config, get_lazy_config

MODELS = (
    "faster_rcnn_nasnet_fpn",
    "mask_rcnn_nasnet_fpn",
    "cascade_rcnn_nasnet_fpn",
    "retinanet_nasnet_fpn",
    "keypoint_rcnn_nasnet_fpn",
    "panoptic_fpn_nasnet",
)
SMALL = {"channels": 8, "num_cells_per_stage": 1, "norm": "BN"}


def _load(name: str) -> Any:
    model = get_lazy_config(f"common/models/{name}.py").model
    model.backbone.bottom_up.update(SMALL)
    if "keypoint" in name:
        model.roi_heads.keypoint_head.conv_dims = [8]
    return model


def _example() -> dict[str, Any]:
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 50.0, 60.0]]))
    instances.gt_classes = torch.tensor([0])
    instances.gt_masks = BitMasks(torch.ones(1, 64, 96, dtype=torch.bool))
    instances.gt_keypoints = Keypoints(torch.tensor([[[30.0, 30.0, 2.0]]]).repeat(1, 17, 1))
    sem_seg = torch.zeros(64, 96, dtype=torch.long)
    return {"image": torch.randint(0, 256, (3, 64, 96)), "instances": instances, "sem_seg": sem_seg}


@pytest.mark.parametrize("name", MODELS)
def test_model_takes_a_step_and_detects(name: str, tmp_path: Path) -> None:
    lazy = _load(name)
    LazyConfig.save(
        type(lazy)({"model": lazy}, flags={"allow_objects": True}), str(tmp_path / "c.yaml")
    )
    model = instantiate(LazyConfig.load(str(tmp_path / "c.yaml")).model)
    assert isinstance(model.backbone.bottom_up, NASNetBackbone)
    assert next(iter(model.backbone.output_shape())) == ("p3" if "retinanet" in name else "p2")
    with EventStorage():
        losses = model([_example()])
    assert ("loss_mask" in losses) == ("mask" in name or "panoptic" in name)
    assert ("loss_keypoint" in losses) == ("keypoint" in name)
    assert ("loss_sem_seg" in losses) == ("panoptic" in name)
    sum(losses.values()).backward()
    with torch.no_grad():
        if "keypoint" in name:  # Detectron2's inference wants heat maps without noise of 1e2
            model.roi_heads.keypoint_head.score_lowres.weight.mul_(0.01)
        (found,) = model.eval()([_example()])
    assert found["instances"].has("pred_boxes")


def _config(**changes: Any) -> Any:
    cfg = model_zoo.get_config("common/data/coco.py")
    cfg.model = _load("faster_rcnn_nasnet_fpn")
    cfg.dataloader.train.mapper.image_format = "RGB"
    cfg.train = {"init_checkpoint": ""}
    for key, value in changes.items():
        cfg.model[key] = value
    return cfg


def test_data_in_another_order_of_channels_are_refused() -> None:
    cfg = _config()
    check_lazy_config(cfg)
    cfg.dataloader.train.mapper.image_format = "BGR"
    with pytest.raises(ConfigError, match=r"train.mapper.image_format: wanted RGB.* got BGR"):
        check_lazy_config(cfg)


def test_weights_bring_their_pools_and_their_input_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "timms.safetensors"
    about = (
        '{"pool_padding": "timm", "preprocessing": '
        '{"channels": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}'
    )
    save_file({"w": torch.zeros(1)}, path, {"nasnet_det": about})
    cfg = _config()
    cfg.train.init_checkpoint = str(path)
    check_lazy_config(cfg)
    assert cfg.model.backbone.bottom_up.pool_padding == "timm"

    cfg = _config(pixel_mean=[103.5, 116.3, 123.7])
    cfg.train.init_checkpoint = str(path)
    with pytest.raises(ConfigError, match=r"PIXEL_MEAN: wanted \[127.5, 127.5, 127.5\]"):
        check_lazy_config(cfg)


def test_model_without_a_nasnet_is_named() -> None:
    cfg = _config(backbone=model_zoo.get_config("common/models/retinanet.py").model.backbone)
    with pytest.raises(ConfigError, match=r"model.backbone: wanted a NASNetBackbone"):
        check_lazy_config(cfg)
