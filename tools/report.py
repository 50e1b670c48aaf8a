"""Report what detectors reach, where they fail and what they cost: tables, figures, one HTML page.

    python tools/report.py output/mine --out output/report
    python tools/report.py output/nasnet output/resnet --out output/report --evaluate

RUN is the OUTPUT_DIR of a tools/train_net.py, finished or not; with several, each is compared with
the first. DIR gets report.html, which needs no other file and no network, report.md for a README or
a pull request, report.json with all numbers, and the figures as SVG. What a run lacks, the report
says. Nothing is trained: --evaluate evaluates the runs that have no evaluation, and the cost of a
run (parameters, multiply-adds, time and memory on this device) is measured once and kept in its
cost.json, unless --no-cost is given. A mistake is reported in one sentence and exit status 1 (2 for
the arguments).
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from nasnet_det.report.detection.run_folder import DetectionRun, read_run
from nasnet_det.runs.detector_files import DetectorCost, write_cost
from nasnet_det.runs.files import FileError

TOOLS = Path(__file__).resolve().parent
NUM_DRAWS = 1000


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``runs``, ``out``, ``evaluate``, ``cost``, ``photos`` and ``draws``."""
    parser = argparse.ArgumentParser(
        prog="report.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="an OUTPUT_DIR")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path)
    parser.add_argument("--evaluate", action="store_true", help="evaluate where that is missing")
    parser.add_argument(
        "--no-cost", dest="cost", action="store_false", help="don't measure; show what is there"
    )
    parser.add_argument(
        "--no-photos", dest="photos", action="store_false", help="show no image of the data set"
    )
    parser.add_argument(
        "--draws", type=int, default=NUM_DRAWS, metavar="N", help="of the bootstrap, at least 100"
    )

    def error(message: str) -> NoReturn:
        print(f"report.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.draws < 100:
        error(f"--draws: wanted at least 100, got {options.draws}")
    return options


def say(what: str) -> None:
    """Progress, on stderr."""
    print(f"report.py: {what}", file=sys.stderr, flush=True)


def evaluate(folder: Path) -> str:
    """Evaluate a run with tools/train_net.py; returns why it failed, or ""."""
    command = [
        sys.executable, str(TOOLS / "train_net.py"), "--eval-only", "--resume",
        "--config-file", str(folder / "config.yaml"), "OUTPUT_DIR", str(folder),
        "TEST.EXPECTED_RESULTS", "[]",
    ]  # fmt: skip
    done = subprocess.run(
        command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else f"the evaluation failed: {lines[-1] if lines else '?'}"


def measure(folder: Path) -> tuple[DetectorCost | None, str]:
    """Measure the cost of a run in a process of its own; or why that failed."""
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            cost = pool.submit(_measure, folder).result()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        return None, f"its cost can't be measured: {' '.join(str(error).split())}"
    try:
        write_cost(folder, cost)
    except FileError as error:
        return cost, str(error)
    return cost, ""


def _measure(folder: Path) -> DetectorCost:
    from nasnet_det.detection.cost import measure_run

    return measure_run(folder)


def _add_note(run: DetectionRun, fault: str) -> DetectionRun:
    return replace(run, notes=(*run.notes, f"{fault}.")) if fault else run


def run(options: argparse.Namespace) -> list[str]:
    """Do what is asked; returns the paths of what was written."""
    from nasnet_det.report.detection.report import write_detection_report

    runs: list[DetectionRun] = [read_run(folder) for folder in options.runs]
    for place, folder in enumerate(options.runs):
        if options.evaluate and runs[place].predictions_path is None:
            say(f"evaluating {folder}")
            fault = evaluate(folder)
            runs[place] = _add_note(read_run(folder), fault)
        if options.cost and runs[place].cost is None:
            say(f"measuring {folder}")
            cost, fault = measure(folder)
            runs[place] = _add_note(replace(runs[place], cost=cost), fault)
    report = write_detection_report(
        runs, options.out, num_draws=options.draws, with_photos=options.photos, progress=say
    )
    for row in report["runs"]:
        for note in row["notes"]:
            say(f"{row['name']}: {note}")
    return [str(options.out / f"report.{ending}") for ending in ("html", "md", "json")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 after a mistake."""
    options = parse_arguments(arguments)
    try:
        print("\n".join(run(options)))
    except ImportError as error:
        print(f"report.py: {error} (pip install 'nasnet-det[report]')", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
