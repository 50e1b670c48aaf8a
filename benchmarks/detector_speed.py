"""How fast our detectors are on a CPU beside Detectron2's ResNets with equal neck and heads.

    python benchmarks/detector_speed.py
    python benchmarks/detector_speed.py --cases "training, BCCD's schedule, R-18" --threads 1

Weights are random. COCO's cases have one picture of 800x1088 and, in training, 8 boxes; BCCD's are
the steps of configs/quick_schedules/faster_rcnn_*_FPN_bccd.yaml, four pictures of 240x320, or of
160x213 for the small networks, with 12 boxes each. In inference both are fused and packed. The peer
has the memory format that suits it better. The last case has no peer but itself: NASNet-A large's
C4 head on 300 regions beside the convolutions that it consists of, each alone.

detector_speed.json in benchmarks/results holds one row for each case and number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import detectron2
import torch
from convolutions import list_convolutions
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from pairs import time_pairs, write_row
from torch import nn

from nasnet_det.detection import get_config_file
from nasnet_det.detection.config import get_config
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.packing import pack

RESULTS = Path(__file__).resolve().parent / "results" / "detector_speed.json"
COCO = "COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml"
BCCD = "quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_bccd.yaml"
SMALL = "quick_schedules/faster_rcnn_nasnet_a_small_FPN_bccd.yaml"  # with the trunk in the box
NARROW = "quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml"  # 44 channels
BATCHES = {  # images, height and width, boxes of an image
    COCO: (1, (800, 1088), 8),
    BCCD: (4, (240, 320), 12),
    SMALL: (4, (160, 213), 12),
    NARROW: (4, (160, 213), 12),
}
NUM_REGIONS = 300


class Case(NamedTuple):
    """A question.

    Attributes:
        config: of ours; the peer's differs in the backbone.
        depth: of the peer's ResNet.
        trains: whether a training step is measured, optimizer included, instead of inference.
    """

    config: str
    depth: int
    trains: bool


CASES = {
    "inference, R-50": Case(COCO, 50, False),
    "inference, R-18": Case(COCO, 18, False),
    "training, R-50": Case(COCO, 50, True),
    "training, R-18": Case(COCO, 18, True),
    "training, BCCD's schedule, R-18": Case(BCCD, 18, True),
    "training, BCCD's schedule of the small one, R-18": Case(SMALL, 18, True),
    "training, BCCD's schedule of the narrow one, R-18": Case(NARROW, 18, True),
}
HEAD = "C4 head, 300 regions"


def main() -> int:
    """Measure and write."""
    names = [*CASES, HEAD]
    parser = argparse.ArgumentParser(description="Our detectors' speed on a CPU beside others'.")
    parser.add_argument("--cases", nargs="+", default=names, choices=names)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.cases:
        torch.manual_seed(0)
        steps = build_head_steps() if name == HEAD else build_steps(CASES[name])
        row = time_pairs(*steps, options.pairs).to_row()
        write_row(RESULTS, f"{name}, {options.threads} threads", row, torch, detectron2)
        print(f"{name}, {options.threads} threads: {row}", flush=True)
    return 0


def build_steps(case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """Ours, and the peer's in the memory format that suits it better."""
    ours, *peers = (
        build_step(case, None),
        build_step(case, case.depth),
        build_step(case, case.depth, torch.channels_last),
    )
    return ours, min(peers, key=lambda peer: statistics.median(time_pairs(ours, peer, 2).peer))


def build_step(
    case: Case, depth: int | None, memory_format: torch.memory_format = torch.contiguous_format
) -> Callable[[], object]:
    """A step of ours, or of a ResNet's detector of a depth."""
    cfg = get_config(get_config_file(case.config), ["MODEL.DEVICE", "cpu"])
    if depth:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM = depth, "BN"
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 256 if depth >= 50 else 64
        names = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = names
    model = build_model(cfg).to(memory_format=memory_format)
    batch = make_batch(cfg, case)
    if not case.trains:
        fused = pack(fuse(model))
        return lambda: infer(fused, batch)
    model.train()
    optimizer = build_optimizer(cfg, model)

    def step() -> None:
        with EventStorage():
            losses = sum(model(batch).values())
        optimizer.zero_grad()
        losses.backward()  # type: ignore[union-attr]
        optimizer.step()

    return step


def make_batch(cfg: Any, case: Case) -> list[dict[str, Any]]:
    """Noise with boxes."""
    num_images, size, num_boxes = BATCHES[case.config]
    batch = []
    for _ in range(num_images):
        corners = torch.rand(num_boxes, 2) * torch.tensor([size[1] * 0.7, size[0] * 0.7])
        boxes = torch.cat([corners, corners + 16 + torch.rand(num_boxes, 2) * 40], dim=1)
        classes = torch.randint(0, cfg.MODEL.ROI_HEADS.NUM_CLASSES, (num_boxes,))
        truth = Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)
        batch.append({"image": torch.rand(3, *size) * 255, "instances": truth})
    return batch


@torch.no_grad()
def infer(model: nn.Module, batch: list[dict[str, Any]]) -> object:
    """Detections."""
    return model(batch)


def build_head_steps() -> tuple[Callable[[], object], Callable[[], object]]:
    """The paper's region head, and its convolutions alone."""
    file = get_config_file("COCO-Detection/faster_rcnn_nasnet_a_large_C4_800_3x.yaml")
    cfg = get_config(file, ["MODEL.DEVICE", "cpu"])
    heads: Any = pack(fuse(build_model(cfg))).roi_heads
    maps = [torch.randn(1, sum(heads.res5.state_channels), 50, 68)]
    maps = [m.contiguous(memory_format=torch.channels_last) for m in maps]
    corners = torch.rand(NUM_REGIONS, 2) * torch.tensor([800.0, 600.0])
    boxes = [Boxes(torch.cat([corners, corners + 32 + torch.rand(NUM_REGIONS, 2) * 160], dim=1))]

    @torch.no_grad()
    def run() -> object:
        return heads._shared_roi_transform(maps, boxes)

    convolutions = list_convolutions(heads, run)

    @torch.no_grad()
    def convolve() -> None:
        for convolution in convolutions:
            convolution()

    return run, convolve


if __name__ == "__main__":
    sys.exit(main())
