"""Models by the path of their config, as Detectron2's zoo gives them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import CfgNode

import nasnet_det
from nasnet_det.config import ConfigError
from nasnet_det.detection import model_zoo

SMALL = "quick_schedules/faster_rcnn_nasnet_a_small_FPN.yaml"


def test_model_comes_with_the_weights_that_its_config_names() -> None:
    cfg = model_zoo.get_config(SMALL)
    assert isinstance(cfg, CfgNode)
    model = model_zoo.get(SMALL, device="cpu")
    assert model.training
    trunk = nasnet_det.create_model("nasnet_a_small", pretrained=True).trunk.state_dict()
    found = model.backbone.bottom_up.trunk.state_dict()
    assert all(torch.equal(value, trunk[name]) for name, value in found.items())


def test_lazy_model_comes_too() -> None:
    assert "mask_head" not in model_zoo.get_config("common/models/faster_rcnn_nasnet_fpn.py").model
    model = model_zoo.get("common/models/retinanet_nasnet_fpn.py", device="cpu")
    assert list(model.backbone.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]


def test_trained_detectors_are_those_that_somebody_has_published() -> None:
    cfg = model_zoo.get_config(
        "COCO-Detection/faster_rcnn_nasnet_a_large_C4_1200_tf.yaml", trained=True
    )
    assert cfg.MODEL.WEIGHTS == "nasnet://nasnet_a_large.tf_detection"
    with pytest.raises(ConfigError, match=r"nobody has published .* only of .*_1200_tf.yaml"):
        model_zoo.get(SMALL, trained=True)
    with pytest.raises(ConfigError, match=r"did you mean 'COCO-Detection/retinanet_nasnet"):
        model_zoo.get("COCO-Detection/retinanet_nasnet_mobile_FPN_1x.yaml")
