"""What a detector reaches and how long it takes in a runtime and a precision."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch
from detectron2.evaluation import inference_on_dataset

from nasnet_det.config import ConfigError
from nasnet_det.detection.config import get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.cost import find_weights, measure_times, name_device, read_images
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.evaluation import build_evaluator
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.run import use_available_device
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.detector_files import RuntimeCost


def measure_runtime(folder: Path, runtime: str, precision: str) -> RuntimeCost:
    """Evaluate the detector of a run on its first test set, and measure it on images of that set.

    Args:
        folder: the OUTPUT_DIR of a training.
        runtime, precision: see ``TEST.RUNTIME``; torch's float32 is what ``SOLVER.AMP`` makes of
            it.

    Raises:
        InputError: the run has no weights or no data, or the runtime can't run it.
    """
    weights = find_weights(folder)
    words = ["TEST.RUNTIME.NAME", runtime, "TEST.RUNTIME.PRECISION", precision]
    cfg = get_config(str(folder / "config.yaml"), ["MODEL.WEIGHTS", str(weights), *words])
    use_available_device(cfg)
    check_values(cfg)
    register_config_datasets(cfg)
    images = read_images(cfg.DATASETS.TEST)
    if not images:
        raise ConfigError(f"DATASETS.TEST: wanted a set with images, got {cfg.DATASETS.TEST}")
    predictor = Predictor(cfg)
    times = measure_times(predictor, images)
    name = cfg.DATASETS.TEST[0]
    with (
        tempfile.TemporaryDirectory() as scratch,
        autocast(get_precision(cfg), device_type(cfg)),
    ):
        results = inference_on_dataset(
            predictor.tiled or predictor.model,
            Trainer.build_test_loader(cfg, name),
            build_evaluator(cfg, name, scratch),
        )
    ap = (results or {}).get("bbox", {}).get("AP")
    return RuntimeCost(
        runtime=runtime,
        precision=predictor.precision,
        ap=None if ap is None or ap != ap else float(ap),
        ms_per_image={"median": statistics.median(times), "low": min(times), "high": max(times)},
        device=name_device(torch.device(cfg.MODEL.DEVICE)),
        threads=torch.get_num_threads(),
        images=len(images),
        weights=weights.name,
    )
