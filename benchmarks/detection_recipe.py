"""How should a detector learn from a trained trunk? One change of the recipe at a time.

    python benchmarks/detection_recipe.py --data datasets/voc_small \
        --resnet18 output/resnet18.safetensors

Each case is quick_schedules/faster_rcnn_nasnet_a_small_FPN_voc.yaml with one change and one seed:
1,200 iterations, 600 where one takes twice as long, and 1,500 from nothing. What makes pyramid and
head wider is tried on a ResNet-18 too, if there is one (a file of nasnet-det export-backbone). Five
to fifteen minutes a case, on one core.

Trainings lie in --output. After each, its scores are added to detection_recipe.json in --results,
and started again it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from trainings import PACKAGE, describe_machine, run_logged, train_missing
from transfer import VOC, read_points

from nasnet_det.errors import InputError
from nasnet_det.runs.lock import lock_folder
from nasnet_det.weights.backbone_file import read_library_card

ROOT = Path(__file__).resolve().parents[1]
LEARNS = {"MODEL.BACKBONE.FREEZE_AT": 0, "SOLVER.BACKBONE_LR_FACTOR": 0.2}
NOTHING = {"MODEL.BACKBONE.FREEZE_AT": 0, "MODEL.WEIGHTS": ""}
PYRAMID = {"MODEL.FPN.OUT_CHANNELS": 128}
HEAD = {"MODEL.ROI_BOX_HEAD.FC_DIM": 512}
WIDER: dict[str, tuple[str, dict[str, Any]]] = {
    "pyramid": ("128 channels in the FPN, not 64", PYRAMID),
    "head_512": ("512 channels in the head, not 256", HEAD),
    "pyramid_head_512": ("128 channels in the FPN, 512 in the head", {**PYRAMID, **HEAD}),
}


class Case(NamedTuple):
    """One change of the recipe."""

    title: str
    values: Mapping[str, Any]
    iterations: int = 1200


CASES = {
    "recipe": Case("the recipe: the trunk frozen, rate 0.0005", {}),
    "rate_001": Case("rate 0.001", {"SOLVER.BASE_LR": 0.001}),
    "rate_002": Case("rate 0.002", {"SOLVER.BASE_LR": 0.002}),
    "learns_001": Case(
        "the trunk learns at a fifth of rate 0.001", {**LEARNS, "SOLVER.BASE_LR": 0.001}, 600
    ),
    "learns_002": Case(
        "the trunk learns at a fifth of rate 0.002", {**LEARNS, "SOLVER.BASE_LR": 0.002}, 600
    ),
    "learns_fully": Case(
        "the trunk learns at rate 0.002, as all",
        {"MODEL.BACKBONE.FREEZE_AT": 0, "SOLVER.BASE_LR": 0.002},
        600,
    ),
    "batch_8": Case(
        "8 images an iteration, rate 0.0007",
        {"SOLVER.IMS_PER_BATCH": 8, "SOLVER.BASE_LR": 0.0007},
        600,
    ),
    "regions": Case("128 regions an image, not 32", {"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128}),
    "p3_p4": Case("regions from p3 and p4", {"MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p4"]}),
    **{
        f"nothing_{rate}": Case(
            f"from nothing, rate {rate}", {**NOTHING, "SOLVER.BASE_LR": rate}, 1500
        )
        for rate in (0.0005, 0.001, 0.002)
    },
    **{name: Case(title, values) for name, (title, values) in WIDER.items()},
}


def main() -> int:
    """Train what is missing, write the JSON, and print the scores."""
    options = parse_arguments()
    path = options.results / "detection_recipe.json"
    try:
        cases = read_cases(options.resnet18)
        with lock_folder(options.output, "benchmark", wait=True):
            report = json.loads(path.read_text()) if path.is_file() else {}
            report = report or {"machine": describe_machine(), "runs": []}
            tasks = [{"case": name, "title": case.title} for name, case in cases.items()]
            train_missing(path, report, tasks, partial(train, options, cases), lambda runs: {})
    except (InputError, OSError) as error:
        print(f"detection_recipe.py: {error}", file=sys.stderr)
        return 1
    for row in report["runs"]:
        print(f"{row['AP']:5.2f} AP  {row['title']}, {row['iterations']} iterations")
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="One change of a recipe at a time.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of the set")
    parser.add_argument("--resnet18", type=Path, metavar="FILE", help="its trunk")
    parser.add_argument("--output", type=Path, default=Path("output/detection_recipe"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def read_cases(resnet18: Path | None) -> dict[str, Case]:
    """All cases, with those of a ResNet-18.

    Raises:
        InputError: its file is no trunk of a library's network.
    """
    if resnet18 is None:
        return CASES
    card = read_library_card(resnet18)
    if card is None:
        raise InputError(f"{resnet18}: wanted a ResNet-18 of nasnet-det export-backbone")
    trunk = {**card.get_detector_settings(), "MODEL.WEIGHTS": str(resnet18)}
    resnets = {
        f"resnet18_{name}": Case(f"ResNet-18: {title}", {**trunk, **values})
        for name, (title, values) in {"recipe": ("the recipe", {}), **WIDER}.items()
    }
    return {**CASES, **resnets}


def train(
    options: argparse.Namespace, cases: Mapping[str, Case], *, case: str, title: str
) -> dict[str, Any]:
    """Train and evaluate, or go on with it.

    Raises:
        InputError: it failed; the message has its last line.
    """
    folder = options.output / case
    folder.mkdir(parents=True, exist_ok=True)
    _, values, iterations = cases[case]
    values = {
        **{"SEED": 1, "OUTPUT_DIR": folder, "SOLVER.MAX_ITER": iterations},
        **{"TEST.EVAL_PERIOD": 0, "SOLVER.CHECKPOINT_PERIOD": iterations},
        **VOC.name_files(options.data),
        **values,
    }
    command = [*PACKAGE, "train", "--resume", "--config-file", VOC.config]
    run_logged(command, values, folder / "output.txt", name=title)
    (scores,) = read_points(folder / "metrics.json", iterations).values()
    return {"iterations": iterations, **scores}


if __name__ == "__main__":
    sys.exit(main())
