"""What does each comfort of a training, or one change of a detector, do? On blood cells, beside the
same training without it.

    python benchmarks/training_comforts.py --data datasets/bccd --seeds 5
    python benchmarks/training_comforts.py --data datasets/bccd --cases early --iterations 1000 \
        --name early_stopping --output output/early_stopping
    python benchmarks/training_comforts.py --data datasets/bccd --cases \
        rate_half rate_double stem deep giou agnostic group_norm drop_path

Each of --cases is trained with each seed (quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml
from nothing, its rate constant after a short warm-up), and so is the plain training. A difference
is that of two trainings with the same seed; its interval is Student's, of 95%, over the seeds.
About five minutes a training, on one core.

Trainings lie in --output. After each, its scores are added to --name.json in --results, and started
again it goes on where it was. The case rate takes the rate of nasnet-det find-lr. Early stopping
needs a training long enough to end: the second command. The third has the changes of the network,
its losses and its rate that may say what holds it back from nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from intervals import describe, find_interval
from trainings import PACKAGE, describe_machine, name_bccd, run_logged, train_missing

from nasnet_det.errors import InputError
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.record import read_starts

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml"
PERIOD = 50  # iterations between evaluations
PLAIN = "plain"
COMFORTS: Mapping[str, Mapping[str, Any]] = {
    "ema": {"SOLVER.EMA.DECAY": 0.999},
    "parts": {"SOLVER.NUM_PARTS": 4},
    "early": {"SOLVER.EARLY_STOPPING.PATIENCE": 2, "SOLVER.EARLY_STOPPING.MIN_DELTA": 0.5},
    "rate": {},  # SOLVER.BASE_LR, by find-lr
    "colour": {"INPUT.AUGMENTATIONS": ["RandomBrightness(0.8, 1.2)", "RandomContrast(0.8, 1.2)"]},
    "mosaic": {"INPUT.MOSAIC.PROB": 0.5},
    "copy_paste": {"INPUT.COPY_PASTE.PROB": 0.5},
    "jitter": {
        "INPUT.MIN_SIZE_TRAIN": (0,),
        "INPUT.AUGMENTATIONS": ["ResizeScale(0.5, 1.5, 160, 213)", "FixedSizeCrop((160, 213))"],
    },
    "albumentations": {},  # INPUT.ALBUMENTATIONS, the pipeline of docs/augmentation.md
    "balanced": {
        "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD": 1.0,
    },
    "backbone": {"SOLVER.BACKBONE_LR_FACTOR": 0.3},
    "validation": {"TEST.VALIDATION_LOSS": True},
}
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "rate_half": {"SOLVER.BASE_LR": 0.001},
    "rate_double": {"SOLVER.BASE_LR": 0.004},
    "stem": {"MODEL.NASNET.STEM_MULTIPLIER": 2},
    # As many parameters (1.3 M) in four times as many cells.
    "deep": {"MODEL.NASNET.NUM_CELLS_PER_STAGE": 4, "MODEL.NASNET.CHANNELS": 24},
    "giou": {
        "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    },
    "agnostic": {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True},
    "group_norm": {"MODEL.NASNET.NORM": "GN"},
    "drop_path": {"MODEL.NASNET.DROP_PATH_PROB": 0.2},
}
CASES = {PLAIN: {}, **COMFORTS, **CHANGES}
MEANS = ("iterations", "minutes", "last_ap", "best_ap")


def main() -> int:
    """Train what is missing, write the JSON, and print the differences."""
    options = parse_arguments()
    path = options.results / f"{options.name}.json"
    made_of = {"iterations": options.iterations, "config": CONFIG}
    tasks = [
        {"case": case, "seed": seed}
        for seed in range(1, options.seeds + 1)
        for case in dict.fromkeys([PLAIN, *options.cases])
    ]
    try:
        with lock_folder(options.output, "benchmark", wait=True):
            report = json.loads(path.read_text()) if path.is_file() else {}
            report = report or {"made_of": made_of, "machine": describe_machine(), "runs": []}
            if report["made_of"] != made_of:
                raise InputError(f"{path} is of another schedule; take another --name")
            train_missing(
                *(path, report, tasks, partial(train, options)),
                lambda runs: {"cases": compare(runs)},
            )
    except (InputError, OSError) as error:
        print(f"training_comforts.py: {error}", file=sys.stderr)
        return 1
    print(to_markdown(report["cases"]))
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Comforts of a training, with and without.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="BCCD's")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(COMFORTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("output/training_comforts"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--name", default="training_comforts", help="of the JSON")
    return parser.parse_args(arguments)


def train(options: argparse.Namespace, *, case: str, seed: int) -> dict[str, Any]:
    """Train and evaluate, or go on with it.

    Raises:
        InputError: it failed; the message has its last line.
    """
    folder = options.output / f"{case}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        **{"SEED": seed, "OUTPUT_DIR": folder, "TEST.EVAL_PERIOD": PERIOD},
        "SOLVER.MAX_ITER": options.iterations,
        **name_bccd(options.data),
        **CASES[case],
    }
    if case == "rate":
        values["SOLVER.BASE_LR"] = find_rate(values, folder)
    if case == "albumentations":
        values["INPUT.ALBUMENTATIONS"] = write_pipeline(folder / "pipeline.json")
    minutes = run("train --resume", values, folder / "output.txt")
    scores = read_scores(folder, "bbox/AP")
    return {
        "minutes": minutes,
        "base_lr": values.get("SOLVER.BASE_LR"),
        "iterations": read_starts(folder)[-1]["end"]["num_iterations"],
        "last_ap": round(scores[-1], 3),
        "best_ap": round(max(scores), 3),
    }


def read_scores(folder: Path, metric: str) -> list[float]:
    """Of each evaluation of a training. Where nothing at all was found, Detectron2 has NaN: 0."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    scores = [row[metric] for row in rows if metric in row]
    return [0.0 if math.isnan(score) else score for score in scores]


def find_rate(values: Mapping[str, Any], folder: Path) -> float:
    """What ``find-lr`` suggests; it is asked once for a training."""
    path = folder / "rate.txt"
    if not path.is_file() or "fastest" not in path.read_text():
        run("find-lr --iterations 60", values, path)
    return float(path.read_text().rpartition("SOLVER.BASE_LR ")[2].split()[0])


def write_pipeline(path: Path) -> Path:
    """The pipeline of docs/augmentation.md, as Albumentations writes it."""
    try:
        import albumentations as A
    except ImportError as error:
        raise InputError("wanted albumentations: pip install 'nasnet-det[augmentation]'") from error
    pipeline = [
        A.RandomBrightnessContrast(p=0.5),
        A.MotionBlur(p=0.2),
        A.Affine(rotate=(-10, 10), p=0.5),
    ]
    boxes = A.BboxParams("coco", label_fields=["labels"], min_visibility=0.1)
    A.save(A.Compose(pipeline, bbox_params=boxes), str(path))
    return path


def run(words: str, values: Mapping[str, Any], log: Path) -> float:
    """A command of the package, with the config; the minutes that it took."""
    command = [*PACKAGE, *words.split(), "--config-file", CONFIG]
    return run_logged(command, values, log, name=words)


def compare(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each case the mean of its runs, and of the differences to plain ones with an interval."""
    plain = {row["seed"]: row for row in runs if row["case"] == PLAIN}
    cases: dict[str, dict[str, Any]] = {}
    for case in CASES:
        mine = [row for row in runs if row["case"] == case and row["seed"] in plain]
        if not mine:
            continue
        means = {key: float(np.mean([row[key] for row in mine])) for key in MEANS}
        cases[case] = {"seeds": len(mine), **means}
        if case != PLAIN and len(mine) > 1:
            pairs = [(row, plain[row["seed"]]) for row in mine]
            cases[case]["differences"] = {
                key: list(find_interval([row[key] - other[key] for row, other in pairs]))
                for key in ("last_ap", "best_ap")
            }
    return cases


def to_markdown(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with a row for each case."""
    rows = ["| case | seeds | iterations | minutes | last AP | difference | best AP | difference |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for case, row in cases.items():
        cells = [case, str(row["seeds"]), f"{row['iterations']:.0f}", f"{row['minutes']:.1f}"]
        for key in ("last_ap", "best_ap"):
            found = row.get("differences", {}).get(key)
            cells += [f"{row[key]:.1f}", describe(*found) if found else ""]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
