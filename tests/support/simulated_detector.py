"""Data sets and detections that nobody made: random boxes, and boxes near them with errors."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

WIDTH, HEIGHT = 320, 240
Json = Any


def make_truth(
    num_images: int,
    num_categories: int = 3,
    *,
    seed: int = 0,
    objects: float = 5.0,
    crowds: float = 0.0,
    first_id: int = 1,
) -> dict[str, Json]:
    """A data set: ids of images with gaps, boxes of all sizes, perhaps crowds."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Json] = {
        "images": [
            {"id": 3 * i + 2, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in reversed(range(num_images))
        ],
        "categories": [
            {"id": 2 * k + 1, "name": f"class {k}"} for k in reversed(range(num_categories))
        ],
        "annotations": [],
    }
    for image in truth["images"]:
        for _ in range(rng.poisson(objects)):
            width, height = np.exp(rng.uniform(np.log(6), np.log(200), size=2))
            x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, max(1.0, HEIGHT - height))
            truth["annotations"].append(
                {
                    "id": first_id + len(truth["annotations"]),
                    "image_id": image["id"],
                    "category_id": int(2 * rng.integers(num_categories) + 1),
                    "bbox": [round(float(v), 1) for v in (x, y, width, height)],
                    "area": float(width * height * rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < crowds),
                }
            )
    return truth


def detect(
    truth: dict[str, Json],
    *,
    seed: int = 0,
    found: float = 0.8,
    spread: float = 0.1,
    confused: float = 0.1,
    per_image: float = 4.0,
    digits: int = 4,
) -> list[dict[str, Json]]:
    """What a detector would find.

    Args:
        truth: the data set.
        seed: of the random numbers.
        found: share of the objects that it finds, some of them twice.
        spread: how far its boxes are off, relative to their size.
        confused: share of these boxes with a random class.
        per_image: boxes around nothing in an image, on average.
        digits: of boxes and scores; few make many equal ones.
    """
    rng = np.random.default_rng([seed, 1])
    ids = [category["id"] for category in truth["categories"]]
    results: list[dict[str, Json]] = []

    def add(image_id: int, category_id: int, box: Json, score: float) -> None:
        numbers = [round(float(v), digits) for v in (*box[:2], *np.maximum(box[2:], 1.0))]
        score = round(float(np.clip(score, 0.0, 1.0)), digits)
        results.append(
            {"image_id": image_id, "category_id": category_id, "bbox": numbers, "score": score}
        )

    for annotation in truth["annotations"]:
        times = (rng.random() < found) + (rng.random() < found / 10)
        for _ in range(times):
            box = np.array(annotation["bbox"])
            size = np.tile(box[2:], 2)
            off = rng.exponential(spread)
            moved = box + off * size * rng.normal(size=4)
            category = annotation["category_id"]
            if rng.random() < confused:
                category = int(rng.choice(ids))
            add(annotation["image_id"], category, moved, rng.beta(3, 1.5) - off / 2)
    for image in truth["images"]:
        for _ in range(rng.poisson(per_image)):
            box = np.concatenate([rng.uniform(0, 200, 2), rng.uniform(5, 100, 2)])
            add(image["id"], int(rng.choice(ids)), box, rng.beta(1, 2))
    order = rng.permutation(len(results))
    return [results[i] for i in order]


def evaluate_with_pycocotools(truth: dict[str, Json], results: list[dict[str, Json]]) -> COCOeval:
    """The named peer's evaluation, accumulated and summarized."""
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO()
        expected.dataset = truth
        expected.createIndex()
        evaluation = COCOeval(expected, expected.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def write_run(
    folder: Path,
    truth: dict[str, Json],
    results: list[dict[str, Json]] | None,
    *,
    iterations: int = 40,
    ap: float | None = None,
    **config: Json,
) -> Path:
    """A folder as nasnet-det train leaves it, without weights.

    Args:
        folder: is made; the data set's JSON is written beside it.
        truth: the data set.
        results: detections; None: it was not evaluated.
        iterations: that are done, of 40.
        ap: in percent, as the evaluation wrote it; None: undefined.
        **config: further keys, with two underscores for a dot.
    """
    (folder / "inference").mkdir(parents=True)
    json_file = folder.parent / "truth.json"
    if not json_file.exists():
        json_file.write_text(json.dumps(truth))
    settings = {"SOLVER": {"MAX_ITER": 40}, "MODEL": {"BACKBONE": {"NAME": "none"}}, "SEED": 7}
    for key, value in config.items():
        node: Json = settings
        *path, last = key.split("__")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    start = {"time": "2026-01-01T00:00:00+00:00", "command": ["train_net.py"]}
    start |= {
        "seed": settings["SEED"],
        "device": "cpu",
        "versions": {"torch": "2.9"},
        "git_commit": None,
    }
    (folder / "run.json").write_text(json.dumps([start]))
    lines = [
        {"iteration": i, "total_loss": 2.0 - i / 40, "lr": 0.01} for i in range(9, iterations, 10)
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if results is not None:
        (folder / "inference" / "coco_instances_results.json").write_text(json.dumps(results))
        evaluation = {
            "json_file": str(json_file),
            "image_root": str(folder.parent / "images"),
            "results": {"bbox": {"AP": ap}},
        }
        content = {"iteration": iterations - 1, "weights": "", "datasets": {"set": evaluation}}
        (folder / "results.json").write_text(json.dumps(content))
    return folder
