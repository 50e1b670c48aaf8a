"""Does a report find wrong labels? Errors are planted in BCCD, and its first suggestions counted.

    python benchmarks/label_errors.py --data datasets/bccd      # a training of minutes on one core

quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_bccd.yaml is trained on the training pictures, from
the weights that come with the package. Then 60 boxes of the test pictures get an error: a
third is moved, so that its overlap with itself (IoU) is 0.1 to 0.4, a third dropped, a third gets
another class. That is done with twenty seeds. What is counted is how many of the 60 the first 100
suggestions of a report show. BCCD has errors of its own, which stand among them. It writes
benchmarks/results/label_errors.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from nasnet_det.report.detection.boxes import intersect_over_union
from nasnet_det.report.detection.evaluation import evaluate_run
from nasnet_det.report.detection.label_error_list import LabelErrorRow, list_label_errors
from nasnet_det.report.detection.run_folder import read_run
from nasnet_det.runs.detector_files import DatasetResults

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "label_errors.json"
CONFIG = "quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_bccd.yaml"
ITERATIONS, NUM_PLANTED, NUM_SEEDS = 500, 60, 20
SCHEDULE = ["SOLVER.MAX_ITER", str(ITERATIONS), "TEST.EXPECTED_RESULTS", "[]"]
BOX = ["MODEL.WEIGHTS", "nasnet://nasnet_a_small", "MODEL.NASNET.VARIANT", "nasnet_a_1@1536"]
KINDS = ("moved", "dropped", "renamed")


def main() -> int:
    """Train what is not trained, plant, count and write."""
    parser = argparse.ArgumentParser(description="Planted label errors in BCCD.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("output/label_errors"))
    options = parser.parse_args()
    data, folder = options.data.resolve(), options.output.resolve()
    if not (folder / "results.json").is_file():
        train(data, folder)
    truth = json.loads((data / "coco_json" / "instances_test.json").read_text())
    seeds = []
    for seed in range(NUM_SEEDS):
        planted_truth, planted = plant(truth, NUM_PLANTED, seed=seed)
        found = Counter(planted[key][0] for key in find(folder, planted_truth, planted))
        seeds.append({"all": found.total(), **{kind: found[kind] for kind in KINDS}})
    (evaluation,) = json.loads((folder / "results.json").read_text())["datasets"].values()
    results = {
        "iterations": ITERATIONS,
        "bbox": {name: evaluation["results"]["bbox"][name] for name in ("AP", "AP50")},
        "planted": NUM_PLANTED,
        "suggestions": 100,
        "seeds": seeds,
        "mean": {name: fmean(row[name] for row in seeds) for name in ("all", *KINDS)},
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(RESULTS.read_text())
    return 0


def train(data: Path, folder: Path) -> None:
    """The training with its evaluation."""
    files = []
    for split, name in (("TRAIN", "train"), ("TEST", "test")):
        files += [f"DATASETS.{split}_JSON", str(data / "coco_json" / f"instances_{name}.json")]
        files += [f"DATASETS.{split}_IMAGES", str(data / "BCCD" / "JPEGImages")]
    command = [sys.executable, "-m", "nasnet_det", "train", "--resume", "--config-file", CONFIG]
    command += [*files, *SCHEDULE, *BOX, "OUTPUT_DIR", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)


def plant(
    truth: Mapping[str, Any], number: int, *, seed: int
) -> tuple[dict[str, Any], dict[Any, tuple[str, dict[str, Any]]]]:
    """A data set with errors.

    Returns:
        the data set, and by the id of an annotation what was done to it and what it was.
    """
    rng = np.random.default_rng(seed)
    changed = copy.deepcopy(dict(truth))
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    classes = [category["id"] for category in truth["categories"]]
    chosen = rng.choice(len(truth["annotations"]), number, replace=False)
    planted = {}
    for i, place in enumerate(chosen):
        annotation = changed["annotations"][place]
        kind = KINDS[i % len(KINDS)]
        planted[annotation["id"]] = (kind, dict(annotation))
        if kind == "renamed":
            others = [key for key in classes if key != annotation["category_id"]]
            annotation["category_id"] = others[rng.integers(len(others))]
        elif kind == "moved":
            annotation["bbox"] = move(annotation["bbox"], sizes[annotation["image_id"]], rng)
    changed["annotations"] = [
        one for one in changed["annotations"] if planted.get(one["id"], ("",))[0] != "dropped"
    ]
    return changed, planted


def move(box: Sequence[float], size: tuple[int, int], rng: np.random.Generator) -> list[float]:
    """The box elsewhere in its picture, its overlap with itself (IoU) 0.1 to 0.4."""
    x, y, width, height = box
    while True:
        moved = np.array([*((x, y) + rng.uniform(-0.8, 0.8, 2) * (width, height)), width, height])
        is_inside = (moved[:2] >= 0).all() and (moved[:2] + moved[2:] <= size).all()
        if is_inside and 0.1 <= intersect_over_union(moved, np.array(box)) <= 0.4:
            return [round(value, 1) for value in moved.tolist()]
        width, height = 0.999 * width, 0.999 * height  # of a box as large as its picture


def find(folder: Path, truth: Mapping[str, Any], planted: Mapping[Any, Any]) -> set[Any]:
    """The planted errors that the first 100 suggestions of a run's report show."""
    run = read_run(folder)
    assert run.results is not None
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "truth.json")
        path.write_text(json.dumps(truth))
        datasets = {run.dataset: DatasetResults(str(path), None, None, {})}
        run = replace(run, results=replace(run.results, datasets=datasets))
        found, notes = evaluate_run(run, num_draws=1)
    assert found is not None, notes
    return count_found(list_label_errors(found).rows, planted)


def count_found(rows: Sequence[LabelErrorRow], planted: Mapping[Any, Any]) -> set[Any]:
    """The planted errors that a list of suggestions shows.

    That is one about its annotation, or one that finds a box (IoU 0.5) where it was.
    """
    shown = {row.annotation_id for row in rows} & set(planted)
    for key, (kind, was) in planted.items():
        if kind == "renamed":
            continue
        boxes = [row.found_box for row in rows if row.image_id == was["image_id"] and row.found_box]
        if boxes and (intersect_over_union(np.array(boxes), np.array(was["bbox"])) >= 0.5).any():
            shown.add(key)
    return shown


if __name__ == "__main__":
    sys.exit(main())
