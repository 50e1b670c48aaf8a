"""NASNets and ResNets under the same schedule on blood cells (BCCD), and their report.

    python benchmarks/reference_runs.py --bccd datasets/bccd \
        --found output/search/genotype.json --seeds 3

Every network is trained from nothing by nasnet-det train with the recipe of
quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_bccd.yaml: the same images, iterations, optimizer,
learning rate and heads (the C4 detector has the cells themselves as its head, and fewer regions,
which cost more). A training is one folder in --output; started again, finished ones are left alone
and a killed one is resumed. With --parallel, what a training says is in its log.txt only. Then
nasnet-det report writes docs/reference_runs/bccd, without the data set's images; ResNet-18 is what
the others are compared with.

The folders are written into the reports as they are given here: give them relative to where this
runs. On two cores a training takes 15 to 40 minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainings import name_bccd

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "nasnet_det"]
NASNET = "quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_bccd.yaml"
RESNET = "quick_schedules/faster_rcnn_R_18_FPN_bccd.yaml"
# Name -> config, and what it changes.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet_18_FPN": (RESNET, {}),
    "resnet_50_FPN": (
        RESNET, {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.RES2_OUT_CHANNELS": 256},
    ),
    "nasnet_a_mobile_FPN": (NASNET, {}),
    "found_cells_FPN": (NASNET, {}),  # with MODEL.NASNET.GENOTYPE
    "nasnet_a_mobile_C4": (
        NASNET,
        {
            "MODEL.BACKBONE.NAME": "build_nasnet_c4_backbone",
            "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 24, 50, 100, 200]],  # all on the one map
            "MODEL.RPN.IN_FEATURES": ["c4"],
            "MODEL.RPN.POST_NMS_TOPK_TRAIN": 150,
            "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
            "MODEL.ROI_HEADS.NAME": "NASNetROIHeads",
            "MODEL.ROI_HEADS.IN_FEATURES": ["c4"],
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
        },
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, then write the report."""
    options = parse_arguments(arguments)
    runs = {
        options.output / f"{network}_{seed}": (network, seed)
        for seed in range(1, options.seeds + 1)
        for network in NETWORKS
        if network != "found_cells_FPN" or options.found is not None
    }
    with ThreadPoolExecutor(options.parallel) as pool:
        trainings = [
            pool.submit(
                train,
                NETWORKS[network][0],
                make_settings(network, run, seed, options),
                quiet=options.parallel > 1,
            )
            for run, (network, seed) in runs.items()
            if not is_finished(run)
        ]
    status = max((training.result() for training in trainings), default=0)
    if status:
        return status
    command = [*COMMAND, "report", *map(str, runs), "--out", str(options.report), "--no-photos"]
    return subprocess.run(command, check=False).returncode


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Reference runs on blood cells.")
    parser.add_argument(
        "--bccd", type=Path, required=True, metavar="FOLDER", help="with BCCD and coco_json in it"
    )
    parser.add_argument("--found", type=Path, metavar="FILE", help="the cells of a search")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=1100)
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time")
    parser.add_argument("--output", type=Path, default=Path("output/reference_runs/bccd"))
    parser.add_argument("--report", type=Path, default=Path("docs/reference_runs/bccd"))
    return parser.parse_args(arguments)


def is_finished(run: Path) -> bool:
    """Whether a training is done and evaluated."""
    return (run / "model_final.pth").is_file() and (run / "results.json").is_file()


def make_settings(
    network: str, run: Path, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """What a training changes in its config."""
    settings = {
        **NETWORKS[network][1],
        "SOLVER.MAX_ITER": options.iterations,
        "SEED": seed,
        "OUTPUT_DIR": run,
        "TEST.EXPECTED_RESULTS": [],
        **name_bccd(options.bccd),
    }
    if network == "found_cells_FPN":
        settings["MODEL.NASNET.GENOTYPE"] = options.found
    return settings


def train(config: str, settings: dict[str, Any], *, quiet: bool) -> int:
    """Train, or go on with it; the exit status."""
    print(f"reference_runs.py: training {settings['OUTPUT_DIR']}", flush=True)
    pairs = [word for key, value in settings.items() for word in (key, str(value))]
    command = [*COMMAND, "train", "--resume", "--config-file", config, *pairs]
    stdout = subprocess.DEVNULL if quiet else None
    return abs(subprocess.run(command, stdout=stdout, check=False).returncode)


if __name__ == "__main__":
    sys.exit(main())
