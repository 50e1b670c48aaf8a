"""Whole detectors: the paper's box head, and every meta-architecture that Detectron2 builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from torch import nn

from nasnet_det.classification.config import get_classification_config
from nasnet_det.complexity import count_multiply_adds, count_parameters
from nasnet_det.detection import (
    NASNetBackbone,
    NASNetBoxHead,
    NASNetC4Backbone,
    add_nasnet_config,
    get_config,
    list_configs,
    roi_heads,
)
from nasnet_det.network import create_model
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.packing import pack

RCNN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
FPN_CONFIG = "COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml"
C4_CONFIG = "COCO-Detection/faster_rcnn_nasnet_a_mobile_C4_1x.yaml"
MASK_CONFIG = "COCO-InstanceSegmentation/mask_rcnn_nasnet_a_mobile_FPN_1x.yaml"
CASCADE_CONFIG = "COCO-Detection/cascade_rcnn_nasnet_a_mobile_FPN_1x.yaml"
RETINANET_CONFIG = "COCO-Detection/retinanet_nasnet_a_mobile_FPN_1x.yaml"
KEYPOINT_CONFIG = "COCO-Keypoints/keypoint_rcnn_nasnet_a_mobile_FPN_1x.yaml"
PANOPTIC_CONFIG = "COCO-PanopticSegmentation/panoptic_fpn_nasnet_a_mobile_1x.yaml"
TINY = [
    "MODEL.DEVICE",
    "cpu",
    "MODEL.NASNET.CHANNELS",
    "8",
    "MODEL.NASNET.NUM_CELLS_PER_STAGE",
    "1",
]
# Narrow heads and few regions, for what wants no published size.
SMALL_HEADS = [
    "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
    "MODEL.ROI_MASK_HEAD.CONV_DIM", "16",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(8,)",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM", "64",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "50",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "32",
]  # fmt: skip
CASCADE_LOSSES = {f"loss_{kind}_stage{i}" for kind in ("cls", "box_reg") for i in range(3)}


def _example(
    height: int = 70, width: int = 100, num_boxes: int = 2, num_classes: int = 2
) -> dict[str, Any]:
    boxes = torch.tensor([[10.0, 10, 50, 60], [30, 5, 90, 40]])[:num_boxes]
    masks = torch.zeros(num_boxes, height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int(), strict=True):
        mask[y0:y1, x0:x1] = True
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(num_boxes) % num_classes
    instances.gt_masks = BitMasks(masks)
    points = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, torch.full((num_boxes, 1), 2.0)], dim=1)
    instances.gt_keypoints = Keypoints(points[:, None].repeat(1, 17, 1))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {
        "image": image,
        "height": height,
        "width": width,
        "instances": instances,
        "sem_seg": torch.zeros(height, width, dtype=torch.long),
    }


def _train_step(model: nn.Module, *examples: dict[str, Any]) -> dict[str, torch.Tensor]:
    with EventStorage():
        losses = model.train()(list(examples))
    sum(losses.values()).backward()
    return losses


@pytest.mark.parametrize(
    ("config", "opts", "losses"),
    [
        (FPN_CONFIG, [], RCNN_LOSSES),
        (C4_CONFIG, [], RCNN_LOSSES),
        (C4_CONFIG, ["MODEL.NASNET.VARIANT", "pnasnet_5_mobile", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2"], RCNN_LOSSES),
        (MASK_CONFIG, [], RCNN_LOSSES | {"loss_mask"}),
        (CASCADE_CONFIG, [], {"loss_rpn_cls", "loss_rpn_loc"} | CASCADE_LOSSES),
        (RETINANET_CONFIG, [], {"loss_cls", "loss_box_reg"}),
        (KEYPOINT_CONFIG, [], RCNN_LOSSES | {"loss_keypoint"}),
        (PANOPTIC_CONFIG, [], RCNN_LOSSES | {"loss_mask", "loss_sem_seg"}),
    ],
    ids=["fpn", "c4", "c4-pnasnet", "mask", "cascade", "retinanet", "keypoint", "panoptic"],
)  # fmt: skip
def test_detector_trains_and_predicts(config: str, opts: list[str], losses: set[str]) -> None:
    cfg = get_config(config, TINY + SMALL_HEADS + opts)
    model = build_model(cfg)
    some = {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}
    examples = [_example(**some), _example(65, 33, 1), _example(num_boxes=0)]
    got = _train_step(model, *examples)
    assert set(got) == losses
    assert all(loss.isfinite() for loss in got.values()), got
    with_gradient = [p.grad is not None for p in model.parameters() if p.requires_grad]
    assert all(with_gradient)
    with torch.no_grad():
        for size in ((70, 100), (33, 200), (1, 1)):
            (result,) = model.eval()(
                [{k: v for k, v in _example(*size, 0).items() if k in ("image", "height", "width")}]
            )
            assert result["instances"].image_size == size
            assert result["instances"].pred_boxes.tensor.isfinite().all()


OF_OTHER_STAGES = ("search/", "classification/", "pipelines/")


@pytest.mark.parametrize("name", [n for n in list_configs() if not n.startswith(OF_OTHER_STAGES)])
def test_every_config_reads_and_names_what_exists(name: str) -> None:
    cfg = get_config(name)
    assert cfg.MODEL.META_ARCHITECTURE in META_ARCH_REGISTRY
    if "nasnet_a_cifar" in name:  # the classifier's, which sees CIFAR-10
        data = get_classification_config("classification/cifar10_cpu.yaml").DATA
        assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == (data.PIXEL_MEAN, data.PIXEL_STD)
    elif "nasnet" in cfg.MODEL.BACKBONE.NAME:
        assert list(cfg.MODEL.PIXEL_MEAN) == list(cfg.MODEL.PIXEL_STD)
    assert max(cfg.SOLVER.STEPS, default=0) < cfg.SOLVER.MAX_ITER
    optimizer = build_optimizer(cfg, nn.Linear(2, 2))
    build_lr_scheduler(cfg, optimizer)
    assert optimizer.param_groups[0]["lr"] > 0


@pytest.mark.parametrize(
    ("variant", "giga"), [("nasnet_a_large", 5.79), ("nasnet_a_mobile", 0.295)]
)
def test_box_head_has_the_published_cost_per_region(variant: str, giga: float) -> None:
    """17x17 crops; figures: TensorFlow's rules, counted (the large network's head dominates)."""
    head = NASNetBoxHead(variant)
    regions = torch.zeros(1, sum(head.state_channels), 17, 17)
    assert count_multiply_adds(head, regions) / 1e9 == pytest.approx(giga, rel=2e-3)
    assert list(head.eval()(regions).shape) == [1, head.out_channels, 9, 9]


@pytest.mark.parametrize(
    ("variant", "trunk", "head"),
    [("nasnet_a_large", 20.1, 64.6), ("nasnet_a_mobile", 1.04, 3.19)],
)
def test_trunk_and_head_share_the_network(variant: str, trunk: float, head: float) -> None:
    """Together they are the classifier without its last layer."""
    parts = NASNetC4Backbone(variant), NASNetBoxHead(variant)
    counts = [count_parameters(part).trainable for part in parts]
    assert [count / 1e6 for count in counts] == pytest.approx([trunk, head], rel=5e-3)
    whole = count_parameters(create_model(variant).trunk).trainable
    assert sum(counts) == whole


def test_c4_halves_on_a_whole_image_equal_the_network() -> None:
    """One region that is the whole map gives the classifier's last feature."""
    arguments = {"channels": 8, "num_cells_per_stage": 2}
    backbone = NASNetC4Backbone(align_features=False, **arguments).eval()
    head = NASNetBoxHead(**arguments).eval()
    model = create_model("nasnet_a_mobile", **arguments).eval()
    state = model.trunk.state_dict()
    for part in (backbone.trunk, head.trunk):
        part.load_state_dict({name: state[name] for name in part.state_dict()})
    image = torch.randn(2, 3, 90, 77)
    torch.testing.assert_close(head(backbone(image)["c4"]), model.trunk(image)["c5"])


def test_box_head_takes_no_regions() -> None:
    head = NASNetBoxHead(channels=8, num_cells_per_stage=1)
    assert head(torch.zeros(0, sum(head.state_channels), 17, 17)).shape[0] == 0


def test_own_project_needs_one_import_and_the_keys() -> None:
    """The README's way: Detectron2's own get_cfg and merge_from_list."""
    cfg = get_cfg()
    add_nasnet_config(cfg)
    cfg.merge_from_list([
        "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", "build_nasnet_backbone",
        "MODEL.NASNET.CHANNELS", 8, "MODEL.NASNET.OUT_FEATURES", ["c4"],
        "MODEL.RPN.IN_FEATURES", ["c4"], "MODEL.ROI_HEADS.NAME", "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES", ["c4"], "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC", 1,
    ])  # fmt: skip
    assert all(loss.isfinite() for loss in _train_step(build_model(cfg), _example()).values())


def test_lazy_config_builds_the_backbone(tmp_path: Path) -> None:
    lazy = L(FPN)(
        bottom_up=L(NASNetBackbone)(
            variant="nasnet_a_mobile", channels=8, num_cells_per_stage=1
        ),
        in_features=["c2", "c3", "c4", "c5"],
        out_channels=16,
        top_block=L(LastLevelMaxPool)(),
    )  # fmt: skip
    LazyConfig.save(_omega({"backbone": lazy}), str(tmp_path / "lazy.yaml"))
    loaded = LazyConfig.load(str(tmp_path / "lazy.yaml"))
    LazyConfig.apply_overrides(loaded, ["backbone.bottom_up.norm=GN"])
    backbone = instantiate(loaded.backbone)
    assert any(isinstance(m, nn.GroupNorm) for m in backbone.bottom_up.modules())
    assert list(backbone(torch.zeros(1, 3, 64, 64))) == ["p2", "p3", "p4", "p5", "p6"]


def _omega(data: dict[str, Any]) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(data, flags={"allow_objects": True})


def test_config_of_a_run_can_be_read_again(tmp_path: Path) -> None:
    """Detectron2 leaves config.yaml behind; it must be a config."""
    cfg = get_config(C4_CONFIG, TINY)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = get_config(str(tmp_path / "config.yaml"))
    assert json.dumps(again, sort_keys=True) == json.dumps(cfg, sort_keys=True)


def test_c4_s_head_sees_a_bounded_number_of_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """In inference; what comes out does not depend on it."""
    monkeypatch.setattr(roi_heads, "REGIONS_AT_ONCE", 3)
    model: Any = build_model(
        get_config(C4_CONFIG, [*TINY, "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2"])
    )
    heads = model.eval().roi_heads
    features = [torch.randn(3, model.backbone.output_shape()["c4"].channels, 10, 12)]
    boxes = [Boxes(torch.rand(n, 4) * 80 + torch.tensor([0, 0, 80, 80])) for n in (7, 0, 3)]
    wanted = heads.res5(heads.pooler(features, boxes))
    numbers = []
    heads.res5.register_forward_pre_hook(lambda _, inputs: numbers.append(len(inputs[0])))
    with torch.no_grad():
        found = heads._shared_roi_transform(features, boxes)
    assert numbers == [3, 3, 1, 0, 3]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("config", [FPN_CONFIG, C4_CONFIG])
def test_fused_detectors_compute_the_same(config: str) -> None:
    """Maps, proposals' scores and regions' features; boxes follow from them."""
    opts = [*TINY, "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2", "MODEL.WEIGHTS", ""]
    model: Any = build_model(get_config(config, [*opts, "MODEL.FPN.NORM", "BN"])).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.normal_(m.bias)
    fused: Any = fuse(model)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    outs = []
    for detector in (model, fused, pack(fuse(model))):
        torch.manual_seed(0)
        with torch.no_grad():
            maps = list(detector.backbone(torch.randn(1, 3, 96, 128)).values())
            scores, _ = detector.proposal_generator.rpn_head(maps)
            if config == C4_CONFIG:
                maps.append(detector.roi_heads.res5(torch.randn(2, maps[0].shape[1], 17, 17)))
            assert len(detector([{"image": torch.zeros(3, 96, 128)}])) == 1
        outs.append([*maps, *scores])
    for wanted, *others in zip(*outs, strict=True):
        for found in others:
            tolerance = 1e-3 * float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=tolerance)
