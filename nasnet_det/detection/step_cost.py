"""The memory and the time of one step of a training, estimated from a step with a small picture.

What the backbone, the neck and the proposals keep for the backward pass, and how long they take,
grows with the pixels of a picture; what the region heads do depends on their regions only.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from nasnet_det.detection.cost import name_device
from nasnet_det.detection.step import autocast, device_type, get_precision

MAX_PIXELS = 256 * 256  # of the small picture
STRIDE = 64  # to a multiple of which its sides are rounded
MEASURED = ("GeneralizedRCNN", "RetinaNet")


@dataclass(frozen=True)
class StepEstimate:
    """One step of a training on one device.

    Attributes:
        memory_mb: of all tensors: weights, gradients, momenta, and what the backward pass needs.
        seconds: forward and backward.
        available_mb: the memory of the device; None where the system does not tell.
        device: its name.
    """

    memory_mb: float
    seconds: float
    available_mb: float | None
    device: str


def estimate_step(model: nn.Module, cfg: CfgNode, size: tuple[int, int]) -> StepEstimate | None:
    """Run two steps without an update on one small picture, and extrapolate.

    Args:
        model: of the config; the statistics of its normalizations change.
        cfg: the config.
        size: width and height of a picture of the training.

    Returns:
        None for architectures that want other data than boxes and masks.
    """
    if cfg.MODEL.META_ARCHITECTURE not in MEASURED or cfg.MODEL.KEYPOINT_ON:
        return None
    factor = min(1.0, (MAX_PIXELS / (size[0] * size[1])) ** 0.5)
    width, height = (max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in size)
    picture = make_picture(cfg, width, height)
    precision = get_precision(cfg)
    model.train()
    meter = _Meter(getattr(model, "roi_heads", None))
    for _ in range(2):  # the first one makes room and chooses algorithms
        meter.reset()
        start = time.perf_counter()
        hooks = saved_tensors_hooks(meter.keep, lambda tensor: tensor)
        # Detectron2's heads write to a storage of events.
        with EventStorage(), hooks, autocast(precision, device_type(cfg)):
            total = sum(model([picture]).values())
        forward = time.perf_counter() - start
        total.backward()
        _synchronize(cfg)
        seconds = time.perf_counter() - start
        model.zero_grad()
    meter.remove()
    ratio = size[0] * size[1] / (width * height)
    share = min(1.0, meter.seconds / forward)
    batch = cfg.SOLVER.IMS_PER_BATCH
    weights = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    num_states = 2 if cfg.SOLVER.OPTIMIZER == "AdamW" else 1
    weights *= 2 if cfg.SOLVER.EMA.DECAY else 1
    kept = math.ceil(batch / cfg.SOLVER.NUM_PARTS) * (
        meter.dense_bytes * ratio + meter.region_bytes
    )
    return StepEstimate(
        memory_mb=(weights + (1 + num_states) * trained + kept) / 2**20,
        seconds=batch * seconds * ((1 - share) * ratio + share),
        available_mb=find_memory(cfg),
        device=name_device(torch.device(cfg.MODEL.DEVICE)),
    )


class _Meter:
    """Counts the bytes that are kept for a backward pass, inside of the region heads and outside.

    Args:
        heads: the region heads, or None.
    """

    def __init__(self, heads: nn.Module | None) -> None:
        self.handles: list[Any] = []
        self.is_inside = False
        if heads is not None:
            self.handles.append(heads.register_forward_pre_hook(self._enter))
            self.handles.append(heads.register_forward_hook(self._leave))
        self.reset()

    def reset(self) -> None:
        self.dense_bytes = self.region_bytes = 0
        self.seconds, self._start = 0.0, 0.0
        self._seen: set[int] = set()

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count a tensor that is kept, its storage once; weights are there anyway."""
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            if self.is_inside:
                self.region_bytes += storage.nbytes()
            else:
                self.dense_bytes += storage.nbytes()
        return tensor

    def _enter(self, *_: Any) -> None:
        self.is_inside, self._start = True, time.perf_counter()

    def _leave(self, *_: Any) -> None:
        self.is_inside = False
        self.seconds += time.perf_counter() - self._start


def make_picture(cfg: CfgNode, width: int, height: int) -> dict[str, Any]:
    """A record of noise with four objects."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    half, low = width / 2, height / 2
    corners = [(x, y, x + half - 8, y + low - 8) for x in (0.0, half) for y in (0.0, low)]
    objects = Instances((height, width))
    objects.gt_boxes = Boxes(torch.tensor(corners))
    objects.gt_classes = torch.zeros(len(corners), dtype=torch.int64)
    if cfg.MODEL.MASK_ON:
        polygons = [[[x, y, z, y, z, w, x, w]] for x, y, z, w in corners]
        objects.gt_masks = PolygonMasks(polygons)
    return {"image": image, "instances": objects, "height": height, "width": width}


def _synchronize(cfg: CfgNode) -> None:
    if device_type(cfg) == "cuda":
        torch.cuda.synchronize()


def advise_less_memory(cfg: CfgNode, *, with_parts: bool) -> str:
    """What to change where a step needs too much memory, of the keys that act on this config.

    Args:
        cfg: the config.
        with_parts: whether smaller parts of a batch would help.
    """
    ways = ["lower INPUT.MIN_SIZE_TRAIN"]
    if with_parts and cfg.SOLVER.NUM_PARTS < cfg.SOLVER.IMS_PER_BATCH:
        ways.append("raise SOLVER.NUM_PARTS")
    if not cfg.SOLVER.AMP.ENABLED:
        ways.append("set SOLVER.AMP.ENABLED True")
    is_nasnet = "nasnet" in cfg.MODEL.BACKBONE.NAME
    if is_nasnet and not cfg.MODEL.NASNET.ACTIVATION_CHECKPOINTING:
        ways.append("set MODEL.NASNET.ACTIVATION_CHECKPOINTING True")
    return " or ".join(ways)


def find_memory(cfg: CfgNode) -> float | None:
    """MiB of the device's memory, taken or not; None where the system does not tell."""
    if device_type(cfg) == "cuda":
        return torch.cuda.get_device_properties(cfg.MODEL.DEVICE).total_memory / 2**20
    find: Callable[[str], int] | None = getattr(os, "sysconf", None)
    try:
        return find("SC_PHYS_PAGES") * find("SC_PAGE_SIZE") / 2**20 if find else None
    except (ValueError, OSError):
        return None
