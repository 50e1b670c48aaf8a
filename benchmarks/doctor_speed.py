"""How long nasnet-det doctor takes for 10,000 pictures, by their headers and decoded.

    python benchmarks/doctor_speed.py
    python benchmarks/doctor_speed.py --images 1000

Pictures are JPEGs of 640x480 of noise in coarse squares, a few hundred different ones under all
names, half of them in a training and half in a test set, with seven boxes each. It writes
benchmarks/results/doctor_speed.json. The pictures lie in the system's cache of files: of a slow
disk or a network drive, reading them takes longer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasnet_det.doctor import DataFiles, examine_datasets

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "doctor_speed.json"
WIDTH, HEIGHT, SQUARE = 640, 480, 20
NUM_DIFFERENT, NUM_BOXES, NUM_CATEGORIES = 300, 7, 20


def main() -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="The time of nasnet-det doctor.")
    parser.add_argument("--images", type=int, default=10000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sets = write_sets(Path(name), options.images)
        seconds = {}
        for way, decode in (("headers", False), ("decoded", True)):
            start = time.perf_counter()
            found = examine_datasets(sets, decode=decode)
            seconds[way] = round(time.perf_counter() - start, 2)
            assert sum(one.facts["pictures that can be read"] for one in found) == options.images
    result = {
        "images": options.images,
        "size": f"{WIDTH}x{HEIGHT}",
        "processors": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "seconds": seconds,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


def write_sets(folder: Path, number: int) -> list[DataFiles]:
    """Two sets of half of the pictures each; a picture is a hard link to one of a few hundred."""
    generator = np.random.default_rng(0)
    pixels = (HEIGHT // SQUARE, WIDTH // SQUARE, 3)
    for i in range(NUM_DIFFERENT):
        picture = Image.fromarray(generator.integers(0, 256, pixels, dtype=np.uint8))
        picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
    sets = []
    for split in range(2):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        place = folder / str(split)
        place.mkdir()
        for key in range(1 + split * (number // 2), 1 + (split + 1) * (number // 2)):
            os.link(folder / f"{key % NUM_DIFFERENT}.jpg", place / f"{key}.jpg")
            image = {"id": key, "file_name": f"{key}.jpg", "width": WIDTH, "height": HEIGHT}
            images.append(image)
            for box in generator.integers(1, 200, (NUM_BOXES, 4)).tolist():
                fields = {"id": len(annotations) + 1, "image_id": key, "bbox": box}
                category = 1 + int(generator.integers(NUM_CATEGORIES))
                annotations.append({**fields, "category_id": category, "area": box[2] * box[3]})
        categories = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(NUM_CATEGORIES)]
        data = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(data))
        sets.append(DataFiles(str(folder / f"{split}.json"), str(place), is_train=not split))
    return sets


if __name__ == "__main__":
    raise SystemExit(main())
