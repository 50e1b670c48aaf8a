"""Does a first detector gain from the weights in the box? The same training with and without them.

    python benchmarks/weights_in_the_box.py --data datasets/bccd          # ten minutes on two cores

Both are quick_schedules/faster_rcnn_nasnet_a_small_FPN.yaml on blood cells (BCCD): one seed, 200
iterations of four pictures, and AP on the validation pictures. Runs that are finished are read.
It writes benchmarks/results/weights_in_the_box.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "weights_in_the_box.json"
WEIGHTS = {"from the box": "nasnet://nasnet_a_small", "from nothing": ""}
ITERATIONS = 200
SCHEDULE = ["SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.STEPS", "(160,)", "TEST.EVAL_PERIOD", "0"]


def main() -> int:
    """Train what is not trained, and write."""
    parser = argparse.ArgumentParser(description="Detectors from the weights in the box.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("output/weights_in_the_box"))
    options = parser.parse_args()
    rows = {}
    for name, weights in WEIGHTS.items():
        folder = options.output.resolve() / name.replace(" ", "_")
        if not (folder / "results.json").is_file():
            train(weights, options.data.resolve(), folder)
        (found,) = json.loads((folder / "results.json").read_text())["datasets"].values()
        rows[name] = found["results"]["bbox"]
    RESULTS.write_text(json.dumps({"iterations": ITERATIONS, "rows": rows}, indent=1) + "\n")
    print(RESULTS.read_text())
    return 0


def train(weights: str, data: Path, folder: Path) -> None:
    """One training with its evaluation."""
    files = []
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        files += [f"DATASETS.{split}_JSON", str(data / "coco_json" / f"instances_{name}.json")]
        files += [f"DATASETS.{split}_IMAGES", str(data / "BCCD" / "JPEGImages")]
    command = [sys.executable, "-m", "nasnet_det", "train", "--config-file"]
    command += ["quick_schedules/faster_rcnn_nasnet_a_small_FPN.yaml", *files, *SCHEDULE]
    command += ["OUTPUT_DIR", str(folder), "MODEL.WEIGHTS", weights]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
