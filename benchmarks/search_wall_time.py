"""Where does a search's time go, and are two workers twice as fast as one?

    python benchmarks/search_wall_time.py --data cifar10.npz        # two cores, half an hour
    python benchmarks/search_wall_time.py --data cifar10.npz --children 10

The same search (search/cifar10_cpu.yaml with the controller) runs in one process and then in two
worker processes of one thread each. The share is the time of the children's trainings over the wall
time of the search in one process, reading the images left out. It writes
benchmarks/results/search_wall_time.json, and ends with an error where the share is below 98%, two
workers are less than 1.8 times as fast, or their rewards differ from those of one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import get_search_config

RESULTS = Path(__file__).resolve().parent / "results"
WANTED_SHARE, WANTED_SPEED_UP = 0.98, 1.8


def run_search(data: str, num_children: int, sampler: str, *executor: str) -> dict[str, Any]:
    """Run one search in a folder that is thrown away.

    Returns:
        ``wall_s``, ``children_s`` (sum over the children) and ``rewards`` by number.
    """
    with tempfile.TemporaryDirectory() as folder:
        opts = ["OUTPUT_DIR", folder, "SEARCH.DATA.PATH", data, "SEARCH.SAMPLER.NAME", sampler]
        opts += ["SEARCH.NUM_TRIALS", str(num_children), "SEARCH.EXECUTOR.DEVICE", "cpu", *executor]
        cfg = get_search_config("search/cifar10_cpu.yaml", opts)
        with open_search(cfg) as search:
            started = time.perf_counter()
            search.run()
            wall_s = time.perf_counter() - started
            trials = search.journal.trials.values()
            return {
                "wall_s": wall_s,
                "children_s": sum(t.user_attrs.get("seconds", 0.0) for t in trials),
                "rewards": [t.values for t in trials],
            }


def main() -> int:
    """Run both searches and write the ratios."""
    parser = argparse.ArgumentParser(description="Where a search's time goes.")
    parser.add_argument("--data", required=True, help="as SEARCH.DATA.PATH")
    parser.add_argument("--children", type=int, default=50)
    parser.add_argument("--sampler", default="controller")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [
        run_search(options.data, options.children, options.sampler, *executor)
        for executor in (
            ("SEARCH.EXECUTOR.NAME", "in_process"),
            ("SEARCH.EXECUTOR.NAME", "local_processes", "SEARCH.EXECUTOR.NUM_WORKERS", "2"),
        )
    ]
    one, two = runs
    share = one["children_s"] / one["wall_s"]
    speed_up = one["wall_s"] / two["wall_s"]
    facts = {
        "children": options.children,
        "sampler": options.sampler,
        "seconds_a_child": round(one["children_s"] / options.children, 2),
        "wall_s": {"one process": round(one["wall_s"], 1), "two workers": round(two["wall_s"], 1)},
        "share_of_children": round(share, 4),
        "speed_up_of_two_workers": round(speed_up, 3),
        "same_rewards": one["rewards"] == two["rewards"],
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=1)
    (options.output / "search_wall_time.json").write_text(text + "\n")
    print(text)
    holds = share >= WANTED_SHARE and speed_up >= WANTED_SPEED_UP and facts["same_rewards"]
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
