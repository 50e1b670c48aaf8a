"""RUN is the OUTPUT_DIR of nasnet-det train or nasnet-det search, finished or not, or a file of
searches' results that --save-results made: a few kilobytes a search, from which the whole report
can be made again. DIR gets report.html, which needs no other file and no network, report.json with
all numbers, and the figures; detectors get report.md too, for a README or a pull request.

Several detectors are compared with the first. What a run lacks, the report says. Nothing is
trained: --evaluate evaluates the runs that have no evaluation, and the cost of a run (parameters,
multiply-adds, time and memory on this device) is measured once and kept in its cost.json, unless
--no-cost is given. --runtimes adds AP and milliseconds in others, such as openvino:int8.
--corruptions adds AP on pictures with noise, blur, weather and compression (arXiv 1907.07484), kept
in the run's corruptions.json score by score: started again, it goes on. Searches that differ in
their seed alone are averaged.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_det.cli.report_corruptions import (
    add_corruption_arguments,
    add_robustness,
    check_corruption_options,
)
from nasnet_det.errors import InputError
from nasnet_det.runtime.choice import split_runtime

if TYPE_CHECKING:
    from nasnet_det.report import DetectionRun
    from nasnet_det.runs.detector_files import DetectorCost, RuntimeCost
    from nasnet_det.runs.study_results import Study

SUMMARY = "Report what detectors or searches reach, and what it costs: tables, figures, one page."
EXAMPLES = (
    "output/nasnet output/resnet --out output/report --evaluate",
    "output/nasnet --out output/report --corruptions fog motion_blur --severities 1 3 5",
    "output/rl_0 output/rl_1 output/random_0 --out output/report",
    "output/rl_0 --save-results results.json",
)
NUM_DRAWS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``runs``, ``out``, ``save_results``, and what is evaluated, measured and shown."""
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="a folder or a file")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the report there")
    parser.add_argument(
        "--save-results", metavar="FILE", type=Path, help="write searches' results as small JSON"
    )
    parser.add_argument("--evaluate", action="store_true", help="evaluate where that is missing")
    parser.add_argument(
        "--no-cost", dest="cost", action="store_false", help="don't measure; show what is there"
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        default=(),
        metavar="NAME[:PRECISION]",
        help="evaluate and measure there too: torch, onnxruntime or openvino; see predict",
    )
    add_corruption_arguments(parser)
    parser.add_argument(
        "--no-photos", dest="photos", action="store_false", help="show no image of the data set"
    )
    parser.add_argument(
        "--fiftyone", action="store_true", help="write truth and detections for FiftyOne, too"
    )
    parser.add_argument(
        "--draws", type=int, default=NUM_DRAWS, metavar="N", help="of the bootstrap, at least 100"
    )


def run(options: argparse.Namespace) -> None:
    """Write what is asked for, and print where."""
    if not (options.out or options.save_results):
        options.parser.error("wanted --out DIR for a report, or --save-results FILE, or both")
    if options.draws < 100:
        options.parser.error(f"--draws: wanted at least 100, got {options.draws}")
    from nasnet_det.report import find_kind, read_run, write_report

    kinds = [find_kind(path) for path in options.runs]
    for name in ("corruptions", "fiftyone"):
        if getattr(options, name) not in (None, False) and set(kinds) != {"detector"}:
            raise InputError(f"--{name}: wanted runs of nasnet-det train alone, got a search")
    check_corruption_options(options)
    if "front" in kinds:
        report_detector_search(options)
        return
    if "detector" not in kinds:
        report_searches(options, kinds)
        return
    if set(kinds) != {"detector"} or not options.out:
        raise InputError(
            "wanted searches alone for --save-results, got detectors"
            if options.save_results
            else "wanted searches or detectors for one report, got both"
        )
    runs = [complete(read_run(folder), options) for folder in options.runs]
    report = write_report(
        runs,
        options.out,
        num_draws=options.draws,
        with_photos=options.photos,
        with_fiftyone=options.fiftyone,
        progress=say,
    )
    for row in report["runs"]:
        for note in row["notes"]:
            say(f"{row['name']}: {note}")
    for ending in ("html", "md", "json"):
        print(options.out / f"report.{ending}")


def report_searches(options: argparse.Namespace, kinds: list[str]) -> None:
    """The report of searches, or their results in a file."""
    from nasnet_det.report import write_report
    from nasnet_det.runs.study_results import read_studies, save_studies

    studies: list[Study] = []
    for path, kind in zip(options.runs, kinds, strict=True):
        if kind == "results":
            studies += read_studies(path)
        else:
            from nasnet_det.search import collect_results

            studies.append(collect_results(path))
    if options.save_results:
        save_studies(studies, options.save_results)
        print(options.save_results)
    if options.out:
        report = write_report(studies, options.out)
        if report["warning"]:
            say(report["warning"])
        print(options.out / "report.html")


def report_detector_search(options: argparse.Namespace) -> None:
    """The report of one search for detectors."""
    from nasnet_det.report import write_front_report

    if len(options.runs) > 1 or not options.out:
        raise InputError("a search for detectors has a report of its own: give it alone, and --out")
    report = write_front_report(options.runs[0], options.out, num_draws=options.draws)
    print(report["verdict"]["sentence"])
    print(options.out / "report.html")


def say(what: str) -> None:
    """Progress, on stderr."""
    print(f"nasnet-det report: {what}", file=sys.stderr, flush=True)


def complete(run: DetectionRun, options: argparse.Namespace) -> DetectionRun:
    """Evaluate and measure a run where that is wanted and missing; a failure becomes a note."""
    from nasnet_det.report import read_run

    if options.evaluate and None in (run.results, run.predictions_path):
        say(f"evaluating {run.folder}")
        fault = evaluate(run.folder)
        run = _add_note(read_run(run.folder), fault)
    if options.cost and run.cost is None:
        say(f"measuring {run.folder}")
        run = _add_cost(run, *measure(run.folder))
    for runtime in options.runtimes if run.cost else ():
        run = _complete_runtime(run, *split_runtime(runtime))
    return add_robustness(run, options) if options.corruptions else run


def _complete_runtime(run: DetectionRun, runtime: str, precision: str) -> DetectionRun:
    """Measure a runtime where that is missing."""
    assert run.cost is not None
    rows = run.cost.runtimes
    known = {(row.runtime, row.precision) for row in rows}
    if (runtime, precision) in known or (runtime == "torch" and runtime in dict(known)):
        return run  # torch has the precision of the run's config
    say(f"measuring {run.folder} in {runtime}, {precision}")
    row, fault = _run_apart(_measure_runtime, run.folder, runtime, precision)
    if row is None:
        return _add_note(run, f"{runtime}, {precision} can't be measured: {fault}")
    return _add_cost(run, *_save(run.folder, replace(run.cost, runtimes=(*rows, row))))


def _add_cost(run: DetectionRun, cost: DetectorCost | None, fault: str) -> DetectionRun:
    return _add_note(replace(run, cost=cost), fault)


def _add_note(run: DetectionRun, fault: str) -> DetectionRun:
    return replace(run, notes=(*run.notes, f"{fault}.")) if fault else run


def evaluate(folder: Path) -> str:
    """Evaluate a run in a process of its own; returns why it failed, or ""."""
    command = [
        sys.executable, "-m", "nasnet_det", "train", "--eval-only", "--resume",
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
    cost, fault = _run_apart(_measure, folder)
    return (None, f"its cost can't be measured: {fault}") if cost is None else _save(folder, cost)


def _save(folder: Path, cost: DetectorCost) -> tuple[DetectorCost, str]:
    from nasnet_det.runs.detector_files import write_cost
    from nasnet_det.runs.files import FileError

    try:
        write_cost(folder, cost)
    except FileError as error:
        return cost, str(error)
    return cost, ""


def _run_apart(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What a function returns in a process of its own; or None, and why that failed."""
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            return pool.submit(function, *arguments).result(), ""
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        return None, " ".join(str(error).split())


def _measure(folder: Path) -> DetectorCost:
    from nasnet_det.detection.cost import measure_run

    return measure_run(folder)


def _measure_runtime(folder: Path, runtime: str, precision: str) -> RuntimeCost:
    from nasnet_det.detection.runtime_cost import measure_runtime

    return measure_runtime(folder, runtime, precision)
