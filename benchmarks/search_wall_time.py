"""Where does a search's time go, and are two workers twice as fast as one?

    python benchmarks/search_wall_time.py --data cifar10.npz        # two cores, 40 minutes
    python benchmarks/search_wall_time.py --data cifar10.npz --children 10 --no-ray

The same search (search/cifar10_cpu.yaml with the controller) runs in one process, in two worker
processes of one thread each, and in two workers on Ray, in a cluster that is started on this
machine. The share is the time of the children's trainings over the wall time of the search in one
process. Reading the images, and for Ray the start of the cluster, are left out; the start of the
workers is not. It writes benchmarks/results/search_wall_time.json, and ends with an error where the
share is below 98%, two workers are less than 1.8 times as fast (on Ray 1.7 times), or their rewards
differ from those of one.
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
WANTED_SHARE = 0.98
TWO_WORKERS = ("SEARCH.EXECUTOR.NUM_WORKERS", "2", "SEARCH.EXECUTOR.NAME")
EXECUTORS = {
    "one process": ("SEARCH.EXECUTOR.NAME", "in_process"),
    "two workers": (*TWO_WORKERS, "local_processes"),
    "two workers on Ray": (*TWO_WORKERS, "ray"),
}
WANTED_SPEED_UPS = {"two workers": 1.8, "two workers on Ray": 1.7}


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
    """Run the searches and write the ratios."""
    parser = argparse.ArgumentParser(description="Where a search's time goes.")
    parser.add_argument("--data", required=True, help="as SEARCH.DATA.PATH")
    parser.add_argument("--children", type=int, default=50)
    parser.add_argument("--sampler", default="controller")
    parser.add_argument("--no-ray", action="store_true", help="where Ray is not installed")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = {
        name: run_search(options.data, options.children, options.sampler, *executor)
        for name, executor in EXECUTORS.items()
        if not (options.no_ray and "ray" in executor)
    }
    one = runs["one process"]
    share = one["children_s"] / one["wall_s"]
    speed_ups = {name: one["wall_s"] / runs[name]["wall_s"] for name in list(runs)[1:]}
    facts = {
        "children": options.children,
        "sampler": options.sampler,
        "seconds_a_child": round(one["children_s"] / options.children, 2),
        "wall_s": {name: round(run["wall_s"], 1) for name, run in runs.items()},
        "share_of_children": round(share, 4),
        "speed_ups": {name: round(speed_up, 3) for name, speed_up in speed_ups.items()},
        "same_rewards": all(run["rewards"] == one["rewards"] for run in runs.values()),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=1)
    (options.output / "search_wall_time.json").write_text(text + "\n")
    print(text)
    is_fast = all(speed_ups[name] >= WANTED_SPEED_UPS[name] for name in speed_ups)
    return 0 if share >= WANTED_SHARE and is_fast and facts["same_rewards"] else 1


if __name__ == "__main__":
    sys.exit(main())
