"""How long a report of 5,000 images with 100 detections each takes, beside pycocotools.

    python benchmarks/report_speed.py
    python benchmarks/report_speed.py --images 500 --detections 100

Objects and detections are random, as many and as large as in COCO's val2017 (80 categories, 7
objects an image); two runs are compared. nasnet-det report writes the report of one run and of
both, without images; then pycocotools evaluates the same detections, with the same twelve numbers,
or this fails. It writes benchmarks/results/report_speed.json. Times are of this machine; what
carries over is their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasnet_det.report.detection.scores import METRICS

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "report_speed.json"
NUM_CATEGORIES, OBJECTS, CLASSES_OF_IMAGE = 80, 7.3, 3
WIDTH, HEIGHT = 640, 480


def main() -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="The report's time beside pycocotools'.")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="in an image")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_runs(folder, options.images, options.detections)
        seconds = {"report of one run": time_report(folder, "first")}
        seconds["report of two runs"] = time_report(folder, "first", "second")
        report = json.loads((folder / "out" / "report.json").read_text())
        start = time.perf_counter()
        stats = evaluate_with_pycocotools(folder, "first")
        seconds["pycocotools on one run"] = time.perf_counter() - start
    ours = [report["runs"][0]["scores"][metric]["value"] for metric in METRICS]
    np.testing.assert_allclose(ours, 100 * stats, atol=1e-9)
    result = {
        "images": options.images,
        "detections_per_image": options.detections,
        "draws": report["draws"],
        "seconds": seconds,
        "ratio": seconds["report of one run"] / seconds["pycocotools on one run"],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}",
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


def write_runs(folder: Path, num_images: int, num_detections: int) -> None:
    """A data set, and the folders ``first`` and ``second`` as an evaluation leaves them."""
    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT}
            for i in range(1, num_images + 1)
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, NUM_CATEGORIES + 1)],
        "annotations": [],
    }
    runs: list[list[dict[str, Any]]] = [[], []]
    for image in truth["images"]:
        classes = rng.integers(1, NUM_CATEGORIES + 1, CLASSES_OF_IMAGE)
        count = rng.poisson(OBJECTS)
        sizes = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
        corners = rng.uniform(0, 300, (count, 2))
        sizes = np.minimum(sizes, [WIDTH, HEIGHT] - corners)  # else the reader cuts them
        boxes = np.concatenate([corners, sizes], axis=1)
        labels = rng.choice(classes, count)
        for box, label in zip(boxes, labels, strict=True):
            annotation = {"id": len(truth["annotations"]) + 1, "image_id": image["id"]}
            annotation |= {"category_id": int(label), "bbox": box.tolist(), "iscrowd": 0}
            truth["annotations"].append({**annotation, "area": float(box[2] * box[3])})
        for run, spread in zip(runs, (0.06, 0.1), strict=True):
            near = rng.random(num_detections) < 0.3 if count else np.zeros(num_detections, bool)
            source = rng.integers(0, max(count, 1), num_detections)
            found = np.concatenate(
                [
                    rng.uniform(0, 300, (num_detections, 2)),
                    rng.uniform(8, 200, (num_detections, 2)),
                ],
                axis=1,
            )
            found_labels = rng.choice(classes, num_detections)
            if count:
                noise = spread * rng.normal(size=(num_detections, 4))
                moved = boxes[source] + noise * np.tile(sizes[source], 2)
                found[near], found_labels[near] = moved[near], labels[source][near]
            scores = rng.beta(1, 4, num_detections) + 0.4 * near * rng.random(num_detections)
            run += [
                {"image_id": image["id"], "category_id": int(k), "bbox": b, "score": float(s)}
                for k, b, s in zip(found_labels, found.tolist(), scores.clip(0, 1), strict=True)
            ]
    (folder / "truth.json").write_text(json.dumps(truth))
    for name, run in zip(("first", "second"), runs, strict=True):
        (folder / name / "inference").mkdir(parents=True)
        results = {"iteration": 0, "datasets": {"random": {"json_file": f"{folder}/truth.json"}}}
        (folder / name / "results.json").write_text(json.dumps(results))
        (folder / name / "config.yaml").write_text(yaml.safe_dump({"SEED": 0}))
        path = folder / name / "inference" / "coco_instances_results.json"
        path.write_text(json.dumps(run))


def time_report(folder: Path, *names: str) -> float:
    """Seconds of the whole command."""
    command = [
        sys.executable, "-m", "nasnet_det", "report", *(str(folder / name) for name in names),
        "--out", str(folder / "out"), "--no-cost",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def evaluate_with_pycocotools(folder: Path, name: str) -> np.ndarray:
    """The twelve numbers, reading the files included."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        found = truth.loadRes(str(folder / name / "inference" / "coco_instances_results.json"))
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


if __name__ == "__main__":
    sys.exit(main())
