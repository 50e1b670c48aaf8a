"""How many pictures a training can hold at once in the memory that is here.

Whole steps with one, two and four pictures of the largest size are measured. The memory grows by as
much with every further picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.utils.events import EventStorage

from nasnet_det.detection.augmentation import build_augmentations
from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.datasets import find_coco
from nasnet_det.detection.step import CheckedStep, device_type, get_precision
from nasnet_det.detection.step_cost import MEASURED, find_memory, make_picture
from nasnet_det.detection.trainer import Trainer
from nasnet_det.detection.trial import prepare_trial
from nasnet_det.errors import InputError
from nasnet_det.runs.memory import read_peak_memory

MEASURED_SIZES = (1, 2, 4)  # pictures
SHARE = 0.9  # of the memory, since allocators leave gaps, and data workers need some
MIB = 2**20


@dataclass(frozen=True)
class MemoryTrial:
    """Steps with different numbers of pictures on one device.

    Attributes:
        picture_size: width and height of each, the largest of the training once resized.
        peaks_mb: number of pictures -> memory of a step in MiB: on a GPU of all tensors, on a CPU
            of the whole process.
        available_mb: what the training may have in MiB.
        largest: the number of pictures that fit into ``SHARE`` of it; 0 where none does.
    """

    picture_size: tuple[int, int]
    peaks_mb: dict[int, float]
    available_mb: float
    largest: int


def find_batch_size(cfg: CfgNode) -> MemoryTrial:
    """Measure the memory of a config's steps, in one process; nothing is written.

    Args:
        cfg: see :func:`~nasnet_det.detection.config.get_config`; it is not changed.

    Raises:
        InputError: the config or the data can't be used, or pictures can't be made for the model.
    """
    if cfg.MODEL.META_ARCHITECTURE not in MEASURED or cfg.MODEL.KEYPOINT_ON:
        wanted = f"one of {', '.join(MEASURED)} without keypoints, for a trial of batch sizes"
        refuse("MODEL.META_ARCHITECTURE", wanted, cfg.MODEL.META_ARCHITECTURE)
    cfg = prepare_trial(cfg)
    is_gpu = device_type(cfg) == "cuda"
    available = _find_available(cfg)
    size = find_largest_size(cfg)
    measure = _build_step(cfg, make_picture(cfg, *size))
    peaks: dict[int, float] = {}
    for number in MEASURED_SIZES:
        if len(peaks) == 2 and number > extrapolate(peaks, available):
            break
        peak = measure(number)
        if peak is None:
            break
        peaks[number] = peak
    largest = extrapolate(peaks, available) if len(peaks) > 1 else len(peaks)
    while is_gpu and largest > max(peaks, default=0) and measure(largest) is None:
        largest = largest * 9 // 10
    return MemoryTrial(size, peaks, available, largest)


def extrapolate(peaks_mb: dict[int, float], available_mb: float) -> int:
    """The number of pictures in ``SHARE`` of the memory, from the two largest steps.

    Args:
        peaks_mb: at least two steps: number of pictures -> memory.
        available_mb: all of it.
    """
    (few, low), (many, high) = sorted(peaks_mb.items())[-2:]
    each = max((high - low) / (many - few), 1e-3)
    return max(0, int((SHARE * available_mb - high) / each + many))


def find_largest_size(cfg: CfgNode) -> tuple[int, int]:
    """Width and height of the largest picture of the training's sets, once resized; without sizes
    in a set, of one of 4:3. A ``FixedSizeCrop`` of ``INPUT.AUGMENTATIONS`` makes all alike."""
    for augmentation in build_augmentations(cfg.INPUT.AUGMENTATIONS):
        if isinstance(augmentation, T.FixedSizeCrop):
            height, width = augmentation.crop_size
            return int(width), int(height)
    side, limit = max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
    sizes = np.array([[640.0, 480.0]])
    known = [coco.sizes for name in cfg.DATASETS.TRAIN if (coco := find_coco(name)) is not None]
    known = [part[np.isfinite(part).all(axis=1)] for part in known]
    if any(map(len, known)):
        sizes = np.concatenate(known)
    if side:
        factors = np.minimum(side / sizes.min(axis=1), limit / sizes.max(axis=1))
        sizes = sizes * factors[:, None]
    width, height = sizes[sizes.prod(axis=1).argmax()].round()
    return int(width), int(height)


def _build_step(cfg: CfgNode, picture: dict[str, Any]) -> Callable[[int], float | None]:
    """What takes a step with so many pictures, and gives its memory in MiB; None for too much."""
    model = Trainer.build_model(cfg)
    tensors = model.state_dict().values() if cfg.SOLVER.EMA.DECAY else ()  # of the average
    more = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MIB
    optimizer = Trainer.build_optimizer(cfg, model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # noise teaches nothing, and may let the weights diverge
    kind, precision = device_type(cfg), get_precision(cfg)

    def measure(number: int) -> float | None:
        batches = [[picture] * number] * 2  # the first step makes room for the optimizer's state
        step = CheckedStep(model, batches, optimizer, precision=precision, device_type=kind)
        if kind == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            with EventStorage():
                for _ in batches:
                    step.run_step()
        except torch.OutOfMemoryError:
            optimizer.zero_grad()
            return None
        peak = torch.cuda.max_memory_reserved() / MIB if kind == "cuda" else _read_peak()
        return peak + more

    return measure


def _read_peak() -> float:
    """The largest memory of this process so far in MiB."""
    peak = read_peak_memory(torch.device("cpu"))
    if peak is None:
        raise InputError("the memory of a process can't be read on this system")
    return peak


def _find_available(cfg: CfgNode) -> float:
    """Free memory in MiB: on a GPU what nobody uses, on a CPU with what this process has."""
    if device_type(cfg) == "cuda":
        return torch.cuda.mem_get_info(cfg.MODEL.DEVICE)[0] / MIB
    free, own = (
        _read_number("/proc/meminfo", "MemAvailable:"),
        _read_number("/proc/self/status", "VmRSS:"),
    )
    limit = _read_number("/sys/fs/cgroup/memory.max", "")  # of a container, in bytes
    found = [
        find_memory(cfg),
        (free + own) / 1024 if free and own else None,
        limit / MIB if limit else None,
    ]
    known = [value for value in found if value]
    if not known:
        raise InputError("the memory of this system can't be read")
    return min(known)


def _read_number(path: str, label: str) -> int | None:
    """The number after a label at a line's beginning; None where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
        words = next(line for line in lines if line.startswith(label)).removeprefix(label).split()
        return int(words[0])
    except (OSError, ValueError, StopIteration, IndexError):
        return None
