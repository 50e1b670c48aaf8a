"""TorchScript and torch.fx, as for Detectron2's ResNets: equal outputs at other sizes too."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from detectron2.export import scripting_with_instances
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from random_genotypes import sample_genotype
from torch import nn

from nasnet_det.detection import NASNetBackbone, NASNetBoxHead, NASNetC4Backbone, get_config

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")

TINY = {"channels": 8, "num_cells_per_stage": 2}
SIZES = [(64, 96), (75, 33)]
BACKBONES: dict[str, dict[str, Any]] = {
    "plain": {},
    "channels last": {"channels_last": True},
    "frozen": {"freeze_at": 3},
    "keras": {"pool_padding": "keras", "align_features": False},
    "cifar": {"stem": "cifar", "norm": "GN", "out_features": ("c1", "c2")},
    "dropped": {"drop_path_prob": 0.5, "norm": "FrozenBN", "activation_checkpointing": True},
    "pnasnet": {"variant": "pnasnet_5_mobile", "channels": 9},
    **{f"random {seed}": {"genotype": sample_genotype(seed)} for seed in range(2)},
}


def _script(module: nn.Module) -> nn.Module:
    """Scripted, written and read again."""
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(module), content)
    content.seek(0)
    return torch.jit.load(content)


@pytest.mark.parametrize("convert", [_script, torch.fx.symbolic_trace])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_compute_the_same(name: str, convert: Any) -> None:
    backbone = NASNetBackbone(**{**TINY, "num_cells_per_stage": 1, **BACKBONES[name]}).eval()
    converted = convert(backbone)
    with torch.jit.optimized_execution(name == "plain"):  # it takes seconds a backbone
        for size in SIZES:
            image = torch.randn(2, 3, *size)
            wanted, found = backbone(image), converted(image)
            assert list(found) == list(wanted)
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("convert", [_script, torch.fx.symbolic_trace])
def test_c4_s_halves_compute_the_same(convert: Any) -> None:
    backbone, head = NASNetC4Backbone(**TINY).eval(), NASNetBoxHead(**TINY).eval()
    converted = convert(backbone), convert(head)
    with torch.jit.optimized_execution(False):
        for size in SIZES:
            image = torch.randn(1, 3, *size)
            pair = backbone(image)["c4"]
            assert torch.equal(converted[0](image)["c4"], pair)
            assert torch.equal(converted[1](pair), head(pair))


def test_traced_by_fx_in_training_has_gradients_everywhere() -> None:
    backbone = NASNetBackbone(**TINY).train()
    traced = torch.fx.symbolic_trace(backbone)
    sum(f.square().sum() for f in traced(torch.randn(2, 3, 64, 64)).values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_scripted_drop_path_refuses_to_train() -> None:
    backbone = NASNetBackbone(channels=8, num_cells_per_stage=1, drop_path_prob=0.5)
    scripted = _script(backbone.train())
    with pytest.raises(torch.jit.Error, match="can't drop paths"):
        scripted(torch.randn(1, 3, 64, 64))


INSTANCES = {
    "proposal_boxes": Boxes,
    "objectness_logits": torch.Tensor,
    "pred_boxes": Boxes,
    "scores": torch.Tensor,
    "pred_classes": torch.Tensor,
    "pred_masks": torch.Tensor,
}
MODELS = [
    "COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_nasnet_a_mobile_FPN_1x.yaml",
    "COCO-Detection/faster_rcnn_nasnet_a_mobile_C4_1x.yaml",
]


@pytest.mark.parametrize("name", MODELS)
def test_detectors_are_scripted_as_detectron2_s_are(name: str) -> None:
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", "2"]
    opts += ["MODEL.NASNET.CHANNELS", "8", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2"]
    # Detectron2's C4 heads can be scripted with masks only, and torch's SyncBatchNorm not at all.
    opts += ["MODEL.MASK_ON", str("faster_rcnn" not in name or "C4" in name)]
    opts += ["MODEL.NASNET.NORM", "BN", "MODEL.FPN.OUT_CHANNELS", "16"]
    opts += ["MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16"]
    opts += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "5"]
    torch.manual_seed(0)
    model: Any = build_model(get_config(name, opts)).eval()
    fields = {k: v for k, v in INSTANCES.items() if k != "pred_masks" or model.roi_heads.mask_on}
    scripted = scripting_with_instances(model, fields)
    inputs = [{"image": (torch.rand(3, 96, 128) * 255).to(torch.uint8)}]
    with torch.no_grad():
        (wanted,) = model.inference(inputs, do_postprocess=False)
        (found,) = scripted.inference(inputs, do_postprocess=False)
    assert len(wanted) > 1, "something to compare"
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)
