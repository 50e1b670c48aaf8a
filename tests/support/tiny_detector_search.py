"""The smallest search for detectors: four classifiers of crops, then detectors of 4 iterations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_detection import write_tiny_config

CONFIG = """
SEARCH:
  NUM_TRIALS: 4
  GOALS: [ap, macs]
  SAMPLER: {NAME: predictor, MINIBATCH: 2}
  PREDICTOR: {NUM_STARTUP_TRIALS: 2, NUM_CANDIDATES: 8, NUM_MEASURED: 2}
  SPACE: {NUM_BLOCKS: 1, OPERATIONS: [identity, conv_1x1, sep_conv_3x3]}
  DATA: {IMAGE_SIZE: 16, UPSAMPLED_SIZE: 18}
  CHILD: {KIND: detector, EPOCHS: 1, BATCH_SIZE: 8, NUM_CELLS_PER_STAGE: 1, CHANNELS: 4}
  DETECTOR:
    NUM_CELLS_PER_STAGE: [1]
    CHANNELS: [8]
    MIN_SIZES: [48, 64]
    HELD_OUT: 0.3
    ITERATIONS: [4, 6]
    NUM_CANDIDATES: [2, 1]
    RESNETS: []
"""


def write_boxes(folder: Path, *, num_pictures: int = 20, num_classes: int = 2) -> list[str]:
    """Pictures of a red and a blue box on noise; the KEY VALUE pairs that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    data: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(num_classes)],
    }
    for image in range(num_pictures):
        pixels = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        for label, x in enumerate((4, 52)[:num_classes]):
            y = int(random.integers(0, 30))
            pixels[y : y + 30, x : x + 40] = ((255, 0, 0), (0, 0, 255))[label]
            key = len(data["annotations"]) + 1
            box = {"id": key, "image_id": image, "category_id": label + 1, "iscrowd": 0}
            data["annotations"].append({**box, "bbox": [x, y, 40, 30], "area": 1200})
        Image.fromarray(pixels).save(folder / f"{image}.png")
        record = {"id": image, "file_name": f"{image}.png", "width": 96, "height": 64}
        data["images"].append(record)
    path = folder / "boxes.json"
    path.write_text(json.dumps(data))
    return ["DATASETS.TRAIN_JSON", str(path), "DATASETS.TRAIN_IMAGES", str(folder)]


def write_detector_search(folder: Path, **options: Any) -> list[str]:
    """The words of the command, but for ``OUTPUT_DIR``.

    Args:
        folder: gets the configs and the pictures.
        **options: of :func:`write_boxes`.
    """
    pairs = write_boxes(folder / "data", **options)
    path = folder / "search.yaml"
    path.write_text(CONFIG)
    config = write_tiny_config(folder)
    return ["--config-file", str(path), *pairs, "SEARCH.DETECTOR.CONFIG", config]
