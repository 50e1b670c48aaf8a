"""What a detector costs: parameters and multiply-adds of its parts, time and memory of an image."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from torch import nn

from nasnet_det.complexity import count_calls
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import read_pixels
from nasnet_det.detection.config import get_config
from nasnet_det.detection.datasets import find_coco, register_config_datasets
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.run import use_available_device
from nasnet_det.errors import InputError
from nasnet_det.runs.detector_files import DetectorCost
from nasnet_det.runs.memory import read_peak_memory
from nasnet_det.version import __version__

NUM_IMAGES, NUM_WARMUP = 10, 2
NOISE_SIZE = (480, 640)  # of the image where there is none: COCO's most frequent


def find_parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The modules of a detector by part, see :data:`~nasnet_det.runs.detector_files.PARTS`."""
    backbone: Any = model.backbone
    trunk = getattr(backbone, "bottom_up", backbone)
    heads = {"proposals": ("proposal_generator", "head"), "region head": ("roi_heads",)}
    return {
        "trunk": [trunk],
        "neck": [m for m in backbone.children() if m is not trunk] if trunk is not backbone else [],
        **{
            part: [getattr(model, name) for name in names if hasattr(model, name)]
            for part, names in heads.items()
        },
    }


def measure_run(folder: Path) -> DetectorCost:
    """Measure the detector of a run on this device, with some of the images it is evaluated on.

    Best called in a process of its own, whose peak memory is then the detector's.

    Args:
        folder: the OUTPUT_DIR of a training.

    Raises:
        InputError: it has no weights, or they or the config can't be used.
    """
    weights = find_weights(folder)
    cfg = get_config(str(folder / "config.yaml"), ["MODEL.WEIGHTS", str(weights)])
    use_available_device(cfg)
    try:
        register_config_datasets(cfg)
        images = read_images(cfg.DATASETS.TEST)
    except DataError:
        images = []
    is_noise = not images
    if is_noise:
        images = [np.random.default_rng(0).integers(0, 256, (*NOISE_SIZE, 3), dtype=np.uint8)]
    predictor = Predictor(cfg, fused=False)
    return measure_cost(predictor, images, is_noise=is_noise, weights=weights.name)


def find_weights(folder: Path) -> Path:
    """The newest weights of a run: ``model_final.pth``, or the last checkpoint.

    Raises:
        InputError: there are none.
    """
    tag = folder / "last_checkpoint"
    names = ["model_final.pth", tag.read_text().strip() if tag.is_file() else "", "model_best.pth"]
    for name in filter(None, names):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} has no checkpoint (model_final.pth or what last_checkpoint names)")


def read_images(names: Sequence[str]) -> list[np.ndarray]:
    """Some images of the first data set, evenly spread; none where it is not here."""
    if not names:
        return []
    try:
        coco = find_coco(names[0])
    except DataError:
        return []
    if coco is None:
        return []
    paths = [Path(MetadataCatalog.get(names[0]).image_root, name) for name in coco.file_names]
    chosen = [paths[i * len(paths) // NUM_IMAGES] for i in range(min(NUM_IMAGES, len(paths)))]
    return [read_pixels(path) for path in chosen if path.is_file()]


def measure_cost(
    predictor: Predictor, images: Sequence[np.ndarray], *, is_noise: bool, weights: str
) -> DetectorCost:
    """Measure a detector.

    Args:
        predictor: the detector with the parameters that were trained; it is fused.
        images: at least one, (H, W, 3) uint8, RGB; resized as for an evaluation.
        is_noise: whether they are noise.
        weights: name of the detector's file.
    """
    model: Any = predictor.model
    cfg = predictor.cfg
    parts = find_parts(model)
    parameters = {
        part: sum(sum(p.numel() for p in module.parameters()) for module in modules)
        for part, modules in parts.items()
    }
    sizes: list[tuple[int, int]] = []
    num_regions = 0

    def see_image(_: nn.Module, inputs: Any) -> None:
        sizes.append(tuple(inputs[0][0]["image"].shape[-2:]))

    def see_regions(_: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal num_regions
        num_regions += sum(map(len, output[0]))

    handles = [model.register_forward_pre_hook(see_image)]
    if hasattr(model, "roi_heads"):
        handles.append(model.proposal_generator.register_forward_hook(see_regions))
    with count_calls(parts) as counts:
        for image in images:
            predictor(image)
    for handle in handles:
        handle.remove()
    multiply_adds = {part: count / len(images) for part, count in counts.items()}
    if num_regions:
        multiply_adds["region head"] = counts["region head"] / num_regions
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    predictor.fuse()
    times = measure_times(predictor, images)
    return DetectorCost(
        parameters={**parameters, "all": sum(p.numel() for p in model.parameters())},
        multiply_adds={part: round(count) for part, count in multiply_adds.items()},
        size=[round(statistics.fmean(side)) for side in zip(*sizes, strict=True)],
        regions=num_regions / len(images),
        ms_per_image={"median": statistics.median(times), "low": min(times), "high": max(times)},
        peak_memory_mb=read_peak_memory(model.device),
        device=name_device(model.device),
        threads=torch.get_num_threads(),
        precision=predictor.precision,
        images=len(images),
        versions={"nasnet_det": __version__, "torch": str(torch.__version__)},
        is_noise=is_noise,
        weights=weights,
        runtime=cfg.TEST.RUNTIME.NAME,
    )


def measure_times(predictor: Predictor, images: Sequence[np.ndarray]) -> list[float]:
    """Milliseconds of each image, after a warm-up; on a GPU until its work is done."""
    times = []
    for image in [*[images[0]] * NUM_WARMUP, *images]:
        start = time.perf_counter()
        predictor(image)  # its boxes come back to the CPU, so a GPU is done as well
        times.append(1000 * (time.perf_counter() - start))
    return times[NUM_WARMUP:]


def name_device(device: torch.device) -> str:
    """The name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return (names or [platform.processor() or platform.machine()])[0]
