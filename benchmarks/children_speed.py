"""How many children a search trains in an hour, beside another version of this project.

    git worktree add ../before COMMIT
    python benchmarks/children_speed.py --data cifar10.npz --other ../before SEARCH.CHILD.LR 0.05

Each pair is one random child of each version's search/cifar10_cpu.yaml. Its architecture, images
and seed are the same in both, and pairs KEY VALUE make the recipes so. It trains in a process of
its own, first by one version, then by the other. What counts are the processor's seconds of its
search. children_speed.json in benchmarks/results has the ratio, its quartiles and both rewards.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "children_speed.json"
CHILD = """
import json, sys, time
from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import get_search_config
opts = ["SEARCH.DATA.PATH", sys.argv[1], "OUTPUT_DIR", sys.argv[2], "SEARCH.SEED", sys.argv[3]]
opts += ["SEARCH.EXECUTOR.NAME", "in_process", "SEARCH.EXECUTOR.DEVICE", "cpu"]
opts += ["SEARCH.SAMPLER.NAME", "random", "SEARCH.NUM_TRIALS", "1", *sys.argv[4:]]
with open_search(get_search_config("search/cifar10_cpu.yaml", opts)) as search:
    start = time.process_time()
    search.run()
    seconds = time.process_time() - start
    (trial,) = search.journal.trials.values()
print(json.dumps({"seconds": seconds, "reward": trial.value}))
"""


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="A search's children, by two versions.")
    parser.add_argument("--data", type=Path, required=True, metavar="NPZ")
    parser.add_argument("--other", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for both")
    options = parser.parse_args()
    pairs: list[dict[str, Any]] = []
    for seed in range(1, options.pairs + 1):
        ours, other = (train(root, options, seed) for root in (ROOT, options.other))
        pairs.append({"seed": seed, "ours": ours, "other": other})
        print(pairs[-1], flush=True)
    ratios = [pair["other"]["seconds"] / pair["ours"]["seconds"] for pair in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    commit = ["git", "-C", str(options.other), "rev-parse", "--short", "HEAD"]
    report = {
        "other": subprocess.run(commit, capture_output=True, text=True).stdout.strip(),
        "times_as_many": middle,
        "quartiles": [low, high],
        "opts": options.opts,
        "torch": torch.__version__,
        "pairs": pairs,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{middle:.2f} times as many children an hour ({low:.2f} to {high:.2f})")
    return 0


def train(root: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One child by one version: its seconds and its reward."""
    environment = {**os.environ, "PYTHONPATH": str(root.resolve()), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        words = [str(options.data.resolve()), f"{folder}/search", str(seed), *options.opts]
        command = [sys.executable, "-c", CHILD, *words]
        done = subprocess.run(
            command, env=environment, cwd=folder, check=True, capture_output=True, text=True
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
