"""What does each comfort of a training change? On blood cells, beside the same training without it.

    python benchmarks/training_comforts.py --data datasets/bccd --seeds 5

Each of --cases is trained with each seed (quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml
from nothing, its rate constant after a short warm-up), and so is the plain training. A difference
is that of two trainings with the same seed; its interval is Student's, of 95%, over the seeds.
About five minutes a training, on one core.

Trainings lie in --output. After each, its scores are added to training_comforts.json in --results,
and started again it goes on where it was. The case rate takes the rate of nasnet-det find-lr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasnet_det.errors import InputError
from nasnet_det.runs.files import write_json
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.record import read_starts

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml"
PERIOD = 50  # iterations between evaluations
PLAIN = "plain"
CASES: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "ema": {"SOLVER.EMA.DECAY": 0.999},
    "parts": {"SOLVER.NUM_PARTS": 4},
    "early": {"SOLVER.EARLY_STOPPING.PATIENCE": 2, "SOLVER.EARLY_STOPPING.MIN_DELTA": 0.5},
    "rate": {},  # SOLVER.BASE_LR, by find-lr
    "colour": {"INPUT.AUGMENTATIONS": ["RandomBrightness(0.8, 1.2)", "RandomContrast(0.8, 1.2)"]},
    "mosaic": {"INPUT.MOSAIC.PROB": 0.5},
    "copy_paste": {"INPUT.COPY_PASTE.PROB": 0.5},
}
# Student's t, two-sided 95%, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def main() -> int:
    """Train what is missing, write the JSON, and print the differences."""
    options = parse_arguments()
    path = options.results / "training_comforts.json"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    made_of = {"iterations": options.iterations, "config": CONFIG}
    try:
        with lock_folder(options.output, "benchmark", wait=True):
            report = json.loads(path.read_text()) if path.is_file() else {}
            report = report or {"made_of": made_of, "machine": machine, "runs": []}
            if report["made_of"] != made_of:
                raise InputError(f"{path} is of another schedule; name another folder (--results)")
            done = {(row["case"], row["seed"]) for row in report["runs"]}
            for seed in range(1, options.seeds + 1):
                for case in dict.fromkeys([PLAIN, *options.cases]):
                    if (case, seed) not in done:
                        report["runs"].append(train(case, seed, options))
                        options.results.mkdir(parents=True, exist_ok=True)
                        write_json(path, report)
    except (InputError, OSError) as error:
        print(f"training_comforts.py: {error}", file=sys.stderr)
        return 1
    for row in compare(report["runs"]):
        print(row)
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Comforts of a training, with and without.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="BCCD's")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("output/training_comforts"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def train(case: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate, or go on with it.

    Raises:
        InputError: it failed; the message has its last line.
    """
    folder = options.output / f"{case}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    images = options.data / "BCCD" / "JPEGImages"
    values = {
        **{"SEED": seed, "OUTPUT_DIR": folder, "TEST.EVAL_PERIOD": PERIOD},
        "SOLVER.MAX_ITER": options.iterations,
        "DATASETS.TRAIN_JSON": options.data / "coco_json" / "instances_train.json",
        "DATASETS.TRAIN_IMAGES": images,
        "DATASETS.TEST_JSON": options.data / "coco_json" / "instances_val.json",
        "DATASETS.TEST_IMAGES": images,
        **CASES[case],
    }
    if case == "rate":
        values["SOLVER.BASE_LR"] = find_rate(values, folder)
    start = time.perf_counter()
    run("train --resume", values, folder / "output.txt")
    minutes = (time.perf_counter() - start) / 60
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    scores = [
        0.0 if math.isnan(row["bbox/AP"]) else row["bbox/AP"] for row in rows if "bbox/AP" in row
    ]
    return {
        **{"case": case, "seed": seed, "minutes": round(minutes, 2)},
        "base_lr": values.get("SOLVER.BASE_LR"),
        "iterations": read_starts(folder)[-1]["end"]["num_iterations"],
        "last_ap": round(scores[-1], 3),
        "best_ap": round(max(scores), 3),
    }


def find_rate(values: Mapping[str, Any], folder: Path) -> float:
    """What ``find-lr`` suggests; it is asked once for a training."""
    path = folder / "rate.txt"
    if not path.is_file() or "fastest" not in path.read_text():
        run("find-lr --iterations 60", values, path)
    return float(path.read_text().rpartition("SOLVER.BASE_LR ")[2].split()[0])


def run(words: str, values: Mapping[str, Any], log: Path) -> None:
    """A command of the package, on one thread, with its output in a file."""
    command = [sys.executable, "-m", "nasnet_det", *words.split(), "--config-file", CONFIG]
    pairs = [str(word) for pair in values.items() for word in pair]
    with log.open("a") as file:
        done = subprocess.run(
            [*command, *pairs],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    if done.returncode:
        lines = log.read_text().strip().splitlines() or ["no output"]
        raise InputError(f"{words}: {lines[-1]} (see {log})")


def compare(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of a table: for each case the mean difference to the plain one, and its interval."""
    plain = {row["seed"]: row for row in runs if row["case"] == PLAIN}
    rows = ["| case | seeds | iterations | last AP | difference | best AP | difference |"]
    rows.append("|---|---|---|---|---|---|---|")
    for case in CASES:
        mine = [row for row in runs if row["case"] == case and row["seed"] in plain]
        if not mine:
            continue
        cells = [f"{np.mean([row['iterations'] for row in mine]):.0f}"]
        for key in ("last_ap", "best_ap"):
            cells.append(f"{np.mean([row[key] for row in mine]):.1f}")
            differences = [row[key] - plain[row["seed"]][key] for row in mine]
            cells.append("" if case == PLAIN else describe_mean(differences))
        rows.append(f"| {case} | {len(mine)} | {' | '.join(cells)} |")
    return rows


def describe_mean(values: Sequence[float]) -> str:
    """A mean with its interval of 95%; one value has none."""
    number = len(values)
    if number < 2:
        return f"{values[0]:+.1f}"
    half = T95.get(number - 1, 1.96) * np.std(values, ddof=1) / math.sqrt(number)
    return (
        f"{np.mean(values):+.1f} ({np.mean(values) - half:+.1f} to {np.mean(values) + half:+.1f})"
    )


if __name__ == "__main__":
    sys.exit(main())
