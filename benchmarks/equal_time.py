"""From nothing, in the same training time: is our detector of blood cells as good as ResNet-18's?

    python benchmarks/equal_time.py --data datasets/bccd

The config is quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml: images of 160 pixels, a
NASNet-A of one cell a stage and 44 channels. The peer is Detectron2's ResNet-18 under the same
neck, heads and schedule. First a training step of each is timed, in turn in one process. Then
ResNet-18 takes --iterations, and ours as many as fit into the same time; the rate is constant after
the warm-up, so any iteration is an end. A difference is that of two trainings with the same seed.

One thread; about five minutes a training. equal_time.json in --results has the timing and a row for
each training; started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import detectron2
import torch
from detector_speed import NARROW, Case, build_steps
from intervals import describe, find_interval
from pairs import time_pairs
from training_comforts import read_scores, run
from trainings import name_bccd, train_missing

from nasnet_det.detection.cost import name_device
from nasnet_det.errors import InputError
from nasnet_det.runs.lock import lock_folder

ROOT = Path(__file__).resolve().parents[1]
LEVELS = "['res2','res3','res4','res5']"
BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "nasnet_a": {},
    "resnet18": {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.OUT_FEATURES": LEVELS,
        "MODEL.FPN.IN_FEATURES": LEVELS,
    },
}
METRICS = ("AP", "AP50", "AP75")


def main() -> int:
    """Measure and train what is missing, write the JSON, and print the differences."""
    parser = argparse.ArgumentParser(description="NASNet and ResNet-18 in the same training time.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="BCCD's")
    parser.add_argument("--iterations", type=int, default=400, help="of ResNet-18")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=9, help="of steps that are timed")
    parser.add_argument("--output", type=Path, default=Path("output/equal_time"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    path = options.results / "equal_time.json"
    try:
        with lock_folder(options.output, "benchmark", wait=True):
            report = json.loads(path.read_text()) if path.is_file() else measure(options)
            if report["iterations"]["resnet18"] != options.iterations:
                raise InputError(f"{path} is of other --iterations; name another folder")
            tasks = [
                {"backbone": backbone, "seed": seed}
                for seed in range(1, options.seeds + 1)
                for backbone in BACKBONES
            ]
            train_missing(
                *(path, report, tasks, partial(train, options, report["iterations"])),
                lambda runs: {"differences": compare(runs)},
            )
    except (InputError, OSError) as error:
        print(f"equal_time.py: {error}", file=sys.stderr)
        return 1
    print(f"ours takes {report['speed']['ratio']:.2f} of ResNet-18's time: {report['iterations']}")
    for metric, interval in report.get("differences", {}).items():
        print(f"{metric} {describe(*interval)}")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The report before the first training: both steps' times, and how many each takes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    speed = time_pairs(*build_steps(Case(NARROW, 18, True)), options.pairs).to_row()
    return {
        "config": NARROW,
        "machine": name_device(torch.device("cpu")),
        "versions": {library.__name__: library.__version__ for library in (torch, detectron2)},
        "speed": speed,
        "iterations": {
            "nasnet_a": int(options.iterations / speed["ratio"]),
            "resnet18": options.iterations,
        },
        "runs": [],
    }


def train(
    options: argparse.Namespace, iterations: Mapping[str, int], *, backbone: str, seed: int
) -> dict[str, float]:
    """Train and evaluate at the end, or go on with it.

    Raises:
        InputError: it failed; the message has its last line.
    """
    folder = options.output / f"{backbone}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        **BACKBONES[backbone],
        **{"SEED": seed, "OUTPUT_DIR": folder, "SOLVER.MAX_ITER": iterations[backbone]},
        "TEST.EVAL_PERIOD": 0,
        **name_bccd(options.data),
    }
    run("train --resume", values, folder / "output.txt")
    return {metric: read_scores(folder, f"bbox/{metric}")[-1] for metric in METRICS}


def compare(runs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Ours less ResNet-18's over the seeds that both have, with the interval."""
    scores = {(row["backbone"], row["seed"]): row for row in runs}
    seeds = [seed for backbone, seed in scores if backbone == "resnet18"]
    pairs = [(scores["nasnet_a", seed], scores["resnet18", seed]) for seed in seeds]
    if len(pairs) < 2:
        return {}
    return {
        metric: list(find_interval([ours[metric] - peer[metric] for ours, peer in pairs]))
        for metric in METRICS
    }


if __name__ == "__main__":
    sys.exit(main())
