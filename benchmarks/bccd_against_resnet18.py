"""NASNet-A mobile against ResNet-18 under the same FPN detector, from nothing, on blood cells.

    python benchmarks/bccd_against_resnet18.py --data datasets/bccd

Both are trained by nasnet-det train on the same images with the same heads and schedule
(configs/quick_schedules/*_bccd.yaml) and evaluated on BCCD's val images. It writes
benchmarks/results/bccd_against_resnet18.md and .json. Times are of this machine; what carries over
is their ratio.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from trainings import describe_machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NETWORKS = {"NASNet-A mobile": "nasnet_a_mobile", "ResNet-18": "R_18"}
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main() -> int:
    """Train both, one after the other, and write the table."""
    parser = argparse.ArgumentParser(description="NASNet-A mobile against ResNet-18 on BCCD.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("output/bccd_against_resnet18"))
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for both")
    options = parser.parse_args()
    rows = {
        name: train(config, options.data, options.output / config, options.opts)
        for name, config in NETWORKS.items()
    }
    report = {
        "rows": rows,
        "minutes_ratio": rows["NASNet-A mobile"]["minutes"] / rows["ResNet-18"]["minutes"],
        "opts": options.opts,
        "machine": describe_machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bccd_against_resnet18.json").write_text(json.dumps(report, indent=1) + "\n")
    text = to_markdown(report)
    (RESULTS / "bccd_against_resnet18.md").write_text(text)
    print(text)
    return 0


def train(config: str, data: Path, output: Path, opts: list[str]) -> dict[str, Any]:
    """Train and evaluate one network; its scores and the minutes that the whole command took."""
    files = [
        word
        for split, name in (("TRAIN", "train"), ("TEST", "val"))
        for word in (
            f"DATASETS.{split}_JSON", str(data / "coco_json" / f"instances_{name}.json"),
            f"DATASETS.{split}_IMAGES", str(data / "BCCD" / "JPEGImages"),
        )
    ]  # fmt: skip
    command = [
        sys.executable, "-m", "nasnet_det", "train",
        "--config-file", f"quick_schedules/faster_rcnn_{config}_FPN_bccd.yaml",
        *files, "OUTPUT_DIR", str(output), *opts,
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    minutes = (time.perf_counter() - start) / 60
    (result,) = json.loads((output / "results.json").read_text())["datasets"].values()
    scores = {metric: result["results"]["bbox"][metric] for metric in METRICS}
    return {"minutes": minutes, **scores}


def to_markdown(report: dict[str, Any]) -> str:
    """The table that the README shows."""
    lines = [
        f"| network | {' | '.join(METRICS)} | minutes |",
        f"|---|{'---|' * (len(METRICS) + 1)}",
    ]
    for name, row in report["rows"].items():
        scores = " | ".join(f"{row[metric]:.1f}" for metric in METRICS)
        lines.append(f"| {name} | {scores} | {row['minutes']:.1f} |")
    lines.append("")
    lines.append(
        f"NASNet-A mobile takes {report['minutes_ratio']:.2f} times as long as ResNet-18, "
        f"evaluation included ({report['machine']})."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
