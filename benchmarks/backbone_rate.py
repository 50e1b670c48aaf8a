"""At which learning rate do the backbones of a search for detectors learn, beside their heads?

    python benchmarks/backbone_rate.py --bccd datasets/bccd

NASNet-A with one cell a stage and 32 channels, and ResNet-18, are trained as in the second rung of
nasnet-det search, with rates that are multiples of the heads'. Each takes about two minutes of one
core. After each, its AP on the validation pictures is added to backbone_rate.json in --results.
Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from trainings import describe_machine, name_bccd, train_missing

from nasnet_det.config import get_config_file
from nasnet_det.detection.candidate_config import NASNET_RATE
from nasnet_det.detection.candidates import CandidateStage
from nasnet_det.errors import InputError
from nasnet_det.published_cells import load_genotype
from nasnet_det.runs.candidates import Candidate, DetectorTask
from nasnet_det.runs.lock import lock_folder

RESULTS = Path(__file__).resolve().parent / "results"
CONFIG = "quick_schedules/faster_rcnn_slim_FPN_search.yaml"
ITERATIONS = 150
NASNET = Candidate(
    "nasnet_a", 160, num_cells_per_stage=1, channels=32, genotype=load_genotype("nasnet_a")
)
RESNET = Candidate("resnet_18", 160, depth=18)
CASES = ((NASNET, (1, 4, 10, 20, 40, 80)), (RESNET, (1, 4, 10)))


def main() -> int:
    """Train what is missing, write the JSON, and print the mean APs."""
    options = parse_arguments()
    path = options.results / "backbone_rate.json"
    try:
        with lock_folder(options.output, "benchmark", wait=True):
            report = json.loads(path.read_text()) if path.is_file() else {}
            report = report or {"machine": describe_machine(), "runs": []}
            tasks = [
                {"backbone": candidate.name, "factor": factor, "seed": seed}
                for seed in range(1, options.seeds + 1)
                for candidate, factors in CASES
                for factor in factors
            ]
            train_missing(path, report, tasks, partial(train, options), lambda runs: {})
    except (InputError, OSError) as error:
        print(f"backbone_rate.py: {error}", file=sys.stderr)
        return 1
    for candidate, factors in CASES:
        for factor in factors:
            aps = [
                row["AP"]
                for row in report["runs"]
                if (row["backbone"], row["factor"]) == (candidate.name, factor)
            ]
            print(f"{candidate.name}, {factor} times the heads' rate: {fmean(aps):.1f} AP")
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Rates of a backbone beside its heads.")
    parser.add_argument("--bccd", type=Path, required=True, metavar="FOLDER", help="the data")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("output/backbone_rate"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def train(
    options: argparse.Namespace, *, backbone: str, factor: float, seed: int
) -> dict[str, Any]:
    """Train a detector as the search's second rung does, or go on with it; its AP in percent.

    Raises:
        InputError: the data can't be trained on.
    """
    folder = (options.output / f"{backbone}_{factor}_{seed}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    candidate = next(one for one, _ in CASES if one.name == backbone)
    own = factor / NASNET_RATE if candidate.genotype else factor
    config = folder / "recipe.yaml"
    config.write_text(f"_BASE_: {get_config_file(CONFIG)}\nSOLVER: {{BACKBONE_LR_FACTOR: {own}}}\n")
    data = name_bccd(options.bccd)
    train_json, test_json = (str(data[f"DATASETS.{part}_JSON"]) for part in ("TRAIN", "TEST"))
    task = DetectorTask(str(config), train_json, test_json, str(data["DATASETS.TRAIN_IMAGES"]))
    ap = CandidateStage().train(
        candidate, task, iterations=ITERATIONS, seed=seed, folder=folder, device="cpu"
    )
    print(f"{backbone}, factor {factor}, seed {seed}: {100 * ap:.1f} AP", flush=True)
    return {"AP": round(100 * ap, 2)}


if __name__ == "__main__":
    sys.exit(main())
