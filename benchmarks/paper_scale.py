"""How long would the paper's ImageNet trainings take on this machine?

    python benchmarks/paper_scale.py          # two minutes on two cores, with nothing else running

It asks nasnet-det train-classifier --estimate about the ImageNet recipes, each in a process of its
own, with batches small enough for a CPU's memory: an image takes about as long in a larger one. It
writes results/paper_scale.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from trainings import describe_machine

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.estimate import estimate_training
from nasnet_det.runs.files import write_json

RESULTS = Path(__file__).resolve().parent / "results" / "paper_scale.json"
CONFIGS = ("imagenet_mobile", "imagenet_large")
BATCH_SIZE, NUM_STEPS = 16, 3


def main() -> int:
    """Measure one recipe, or all of them."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return 0
    rows = {}
    for name in CONFIGS:
        command = [sys.executable, __file__, name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, rows[name])
    machine = describe_machine()
    write_json(RESULTS, {"machine": machine, "threads": torch.get_num_threads(), "rows": rows})
    return 0


def measure(name: str) -> dict[str, float | None]:
    """What the docs say of a recipe."""
    words = ["SOLVER.BATCH_SIZE", str(BATCH_SIZE), "SOLVER.NUM_PARTS", "1"]
    cfg = get_classification_config(f"classification/{name}.yaml", words)
    estimate = estimate_training(cfg, num_steps=NUM_STEPS)
    return {
        "epochs": estimate.epochs,
        "images_per_second": estimate.images_per_second,
        "days": estimate.hours / 24,
        "peak_memory_mib": estimate.peak_memory_mib,
        "checkpoint_mib": estimate.checkpoint_mib,
    }


if __name__ == "__main__":
    sys.exit(main())
