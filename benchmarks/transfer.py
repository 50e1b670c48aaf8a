"""Does a trunk that learned to classify help a detector? And which one helps more?

    python benchmarks/transfer.py --set bccd --data datasets/bccd --backbones \
        found=output/found.safetensors nasnet_a=output/nasnet_a.safetensors
    python benchmarks/transfer.py --set bccd_box --data datasets/bccd --backbones \
        nasnet_a_small=nasnet_det/weights/files/nasnet_a_small.safetensors \
        resnet18=output/resnet18.safetensors
    python benchmarks/transfer.py --set voc_small --data datasets/voc_small --backbones \
        nasnet_a_small=nasnet_det/weights/files/nasnet_a_small.safetensors \
        resnet18=output/resnet18.safetensors
    python benchmarks/transfer.py --set coco_small --data datasets/coco_small --backbones \
        nasnet_a_small=nasnet_det/weights/files/nasnet_a_small.safetensors

The backbones are files of nasnet-det export-backbone; their cards say which network to build. Each
is trained on the set by the config of SETS, from its weights and from scratch (--starts), with
three seeds, and evaluated after every --period iterations. From scratch all of the backbone
learns, at the rate of the rest. Five to twenty minutes a training, on one core; --parallel 2 trains
two at a time.

Trainings lie in --output. After each, its scores are added to transfer_SET.json in --results,
and the table (.md) and the plot (.svg) are made anew. Started again, it goes on where it was: what
is in the JSON is left out, and a training that was killed is resumed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from intervals import describe, find_interval
from matplotlib.figure import Figure
from trainings import PACKAGE, describe_machine, run_logged

from nasnet_det.drawing.figure_file import save_figure
from nasnet_det.runs.files import write_content, write_json
from nasnet_det.runs.lock import lock_folder
from nasnet_det.weights.backbone_file import BackboneCard, read_card, read_library_card
from nasnet_det.weights.file import hash_file

ROOT = Path(__file__).resolve().parents[1]


class DataSet(NamedTuple):
    """Where a data set's files lie in its folder, and how a detector is trained on them."""

    title: str
    config: str
    iterations: int
    period: int  # iterations between evaluations
    train: tuple[str, str]  # JSON, images
    test: tuple[str, str]
    scratch: tuple[tuple[str, object], ...] = ()  # keys that the config has for a trained trunk

    def name_files(self, folder: Path) -> dict[str, Path]:
        """The config's keys that name the parts in the set's folder."""
        return {
            f"DATASETS.{part}_{kind}": folder / file
            for part, files in (("TRAIN", self.train), ("TEST", self.test))
            for kind, file in zip(("JSON", "IMAGES"), files, strict=True)
        }


BCCD = DataSet(
    "BCCD's val",
    "quick_schedules/faster_rcnn_nasnet_a_cifar_FPN_bccd.yaml",
    iterations=400,
    period=100,
    train=("coco_json/instances_train.json", "BCCD/JPEGImages"),
    test=("coco_json/instances_val.json", "BCCD/JPEGImages"),
)
VOC = DataSet(
    "600 pictures of VOC",
    "quick_schedules/faster_rcnn_nasnet_a_small_FPN_voc.yaml",
    iterations=1500,
    period=500,
    train=("annotations/instances_train.json", "train"),
    test=("annotations/instances_val.json", "val"),
    scratch=(("MODEL.BACKBONE.FREEZE_AT", 0),),
)
SETS = {
    "bccd": BCCD,
    "bccd_box": BCCD._replace(config="quick_schedules/faster_rcnn_nasnet_a_small_FPN_bccd.yaml"),
    "voc_small": VOC,
    "coco_small": VOC._replace(
        title="158 pictures of COCO's val2017",
        train=("annotations/instances_train2017.json", "train2017"),
        test=("annotations/instances_val2017.json", "val2017"),
    ),
}
STARTS = ("pre-trained", "scratch")
METRICS = ("AP", "AP50", "AP75")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito


class Run(NamedTuple):
    """One training."""

    cells: str
    start: str
    seed: int

    def __str__(self) -> str:
        return f"{self.cells}, {self.start}, seed {self.seed}"


def main() -> int:
    """Train what is missing, and write the JSON, the table and the plot."""
    options = parse_arguments()
    try:
        backbones = {name: Path(file) for name, file in options.backbones}
        runs = [
            Run(cells, start, seed)
            for seed in range(1, options.seeds + 1)
            for cells in backbones
            for start in options.starts
        ]
        with lock_folder(options.output, "benchmark", wait=True) as lock:
            settings = prepare(options, backbones)
            report = open_report(options, settings)
            done = {Run(row["cells"], row["start"], row["seed"]) for row in report["runs"]}
            report["num_runs"] = len(done.union(runs))
            with ThreadPoolExecutor(options.parallel) as pool:
                futures = [
                    pool.submit(train, run, settings[run.cells], options, lock)
                    for run in runs
                    if run not in done
                ]
                try:
                    for future in as_completed(futures):
                        report["runs"].append(future.result())
                        write_report(report, options.results, options.set)
                        print(describe_progress(report), flush=True)
                finally:
                    pool.shutdown(cancel_futures=True)
        write_report(report, options.results, options.set)
    except (ValueError, OSError) as error:
        print(f"transfer.py: {error}", file=sys.stderr)
        return 1
    print(to_markdown(report))
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""

    def pair(text: str) -> tuple[str, str]:
        name, separator, file = text.partition("=")
        if not (name and separator and file):
            raise argparse.ArgumentTypeError(f"wanted NAME=FILE, got {text!r}")
        return name, file

    parser = argparse.ArgumentParser(description="Detectors from trained trunks and from nothing.")
    parser.add_argument("--set", choices=SETS, default="bccd")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of the set")
    parser.add_argument("--backbones", type=pair, nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--starts", choices=STARTS, nargs="+", default=list(STARTS))
    parser.add_argument("--iterations", type=int, help="default: the set's")
    parser.add_argument("--period", type=int, help="iterations between evaluations; the set's")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time, a core each")
    parser.add_argument("--output", type=Path, help="default: output/transfer_SET")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    chosen = SETS[options.set]
    options.iterations = options.iterations or chosen.iterations
    options.period = options.period or chosen.period
    options.output = options.output or Path(f"output/transfer_{options.set}")
    return options


def prepare(options: argparse.Namespace, backbones: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What the config of each backbone's trainings adds, the weights included.

    Raises:
        ValueError: a file is no backbone of nasnet-det export-backbone.
    """
    settings = {}
    for name, path in backbones.items():
        card = read_card(path) or read_library_card(path)
        if card is None:
            raise ValueError(f"{path}: wanted a file of nasnet-det export-backbone")
        settings[name] = {**card.get_detector_settings(), "MODEL.WEIGHTS": str(path)}
        if isinstance(card, BackboneCard):
            genotype = options.output / f"{name}.json"  # the classifier's may have moved or changed
            card.genotype.save(genotype)
            settings[name]["MODEL.NASNET.GENOTYPE"] = str(genotype)
    return settings


def open_report(options: argparse.Namespace, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON of an earlier start, which may have had fewer backbones, or a new one.

    Raises:
        ValueError: it has another schedule, or another file under a backbone's name.
    """
    files = {name: hash_file(values["MODEL.WEIGHTS"]) for name, values in settings.items()}
    made_of = {"iterations": options.iterations, "config": SETS[options.set].config}
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"transfer_{options.set}.json"
    if path.is_file():
        report: dict[str, Any] = json.loads(path.read_text())
        files = {**report["backbones_sha256"], **files}
        if report["made_of"] != made_of or not report["backbones_sha256"].items() <= files.items():
            raise ValueError(
                f"{path} has results of other backbones or another schedule; remove it and "
                f"{options.output}, or name other folders with --results and --output"
            )
        return {**report, "backbones_sha256": files}
    start = {"machine": describe_machine(), "runs": []}
    return {"made_of": made_of, "backbones_sha256": files, **start}


def train(
    run: Run, settings: dict[str, Any], options: argparse.Namespace, lock: int
) -> dict[str, Any]:
    """Train and evaluate, or go on with it; the scores after each period.

    Raises:
        InputError: the training failed; the message has its last line.
    """
    folder = options.output / f"{run.cells}_{run.start}_{run.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = SETS[options.set]
    values = {
        **settings,
        "SEED": run.seed,
        "OUTPUT_DIR": folder,
        "SOLVER.MAX_ITER": options.iterations,
        "TEST.EVAL_PERIOD": options.period,
        **chosen.name_files(options.data),
    }
    if run.start == "scratch":
        values |= {"MODEL.WEIGHTS": "", "SOLVER.BACKBONE_LR_FACTOR": 1.0, **dict(chosen.scratch)}
    command = [*PACKAGE, "train", "--resume", "--config-file", chosen.config]
    log = folder / "output.txt"
    minutes = run_logged(command, values, log, name=run, pass_fds=[lock])
    points = read_points(folder / "metrics.json", options.period)
    return {**run._asdict(), "points": points, "minutes": minutes}


def read_points(path: Path, period: int) -> dict[str, dict[str, float]]:
    """Iterations -> scores in percent. Where nothing at all was found, Detectron2 has NaN: 0."""
    points = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "bbox/AP" in row:
            iteration = math.ceil(row["iteration"] / period) * period  # 99 is after 100
            values = (row[f"bbox/{metric}"] for metric in METRICS)
            numbers = [0.0 if math.isnan(value) else round(value, 3) for value in values]
            points[str(iteration)] = dict(zip(METRICS, numbers, strict=True))
    return points


def collect(report: dict[str, Any], metric: str) -> dict[tuple[str, str], dict[int, list[float]]]:
    """(cells, start) -> iterations -> the scores of the seeds."""
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in sorted(report["runs"], key=lambda row: (row["cells"], row["start"], row["seed"])):
        curve = curves.setdefault((row["cells"], row["start"]), {})
        for iteration, scores in row["points"].items():
            curve.setdefault(int(iteration), []).append(scores[metric])
    return curves


def compare(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Differences of AP at each evaluation, of two runs with one seed each, with their interval.

    The backbones are compared with the first one from each start, and the starts of each backbone.
    """
    points: dict[int, dict[Run, float]] = {}
    for row in report["runs"]:
        for iteration, scores in row["points"].items():
            run = Run(row["cells"], row["start"], row["seed"])
            points.setdefault(int(iteration), {})[run] = scores["AP"]
    names = list(dict.fromkeys(row["cells"] for row in report["runs"]))
    pairs = [((names[0], start), (name, start)) for start in STARTS for name in names[1:]]
    pairs += [((name, STARTS[0]), (name, STARTS[1])) for name in names]
    differences = []
    for one, other in pairs:
        for iteration, aps in sorted(points.items()):
            values = [
                aps[run] - aps[Run(*other, run.seed)]
                for run in aps
                if run[:2] == one and Run(*other, run.seed) in aps
            ]
            if len(values) > 1:
                found = {"one": one, "other": other, "seeds": len(values), "iterations": iteration}
                differences.append({**found, "interval": find_interval(values)})
    return differences


def to_markdown(report: dict[str, Any]) -> str:
    """The table: mean and, in brackets, each seed."""
    curves = collect(report, "AP")
    iterations = sorted({i for curve in curves.values() for i in curve})
    lines = [
        "| cells | start | " + " | ".join(f"AP after {i}" for i in iterations) + " |",
        "|---|---|" + "---|" * len(iterations),
    ]
    for (cells, start), curve in curves.items():
        texts = [
            f"{np.mean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})"
            for values in (curve.get(i, [math.nan]) for i in iterations)
        ]
        lines.append(f"| {cells} | {start} | {' | '.join(texts)} |")
    lines.append("")
    for row in report.get("differences", []):
        one, other = (", ".join(row[who]) for who in ("one", "other"))
        lines.append(f"{one} - {other}: {describe(*row['interval'])} AP after {row['iterations']}.")
    minutes = [row["minutes"] for row in report["runs"]]
    lines += ["", f"In brackets: the seeds. {len(minutes)} of {report['num_runs']} trainings, "]
    lines[-1] += f"{np.mean(minutes or [math.nan]):.1f} minutes each ({report['machine']})."
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], title: str) -> Figure:
    """AP over iterations: a line for the mean, a dot for each seed, hollow from scratch."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    curves = collect(report, "AP")
    names = list(dict.fromkeys(cells for cells, _ in curves))
    for (cells, start), curve in curves.items():
        color = COLORS[names.index(cells) % len(COLORS)]
        style = "-" if start == "pre-trained" else "--"
        x = sorted(curve)
        axes.plot(x, [np.mean(curve[i]) for i in x], style, color=color, label=f"{cells}, {start}")
        dots = [(i, value) for i in x for value in curve[i]]
        fill = color if start == "pre-trained" else "none"
        axes.plot(*zip(*dots, strict=True), "o", color=color, ms=4, mfc=fill, alpha=0.6)
    axes.set(xlabel="iterations of 4 images", ylabel=f"AP on {title}, percent", ylim=(0, None))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(frameon=False)
    return figure


def write_report(report: dict[str, Any], folder: Path, name: str) -> None:
    """Write the JSON, the table and the plot."""
    report["differences"] = compare(report)
    write_json(folder / f"transfer_{name}.json", report)
    write_content(folder / f"transfer_{name}.md", to_markdown(report))
    title = SETS[name].title
    save_figure(draw(report, title), folder / f"transfer_{name}.svg", title=f"Transfer to {title}")


def describe_progress(report: dict[str, Any]) -> str:
    """A line about the run that has just ended."""
    row = report["runs"][-1]
    scores = ", ".join(f"{point['AP']:.1f} after {i}" for i, point in row["points"].items())
    run = Run(row["cells"], row["start"], row["seed"])
    return f"{len(report['runs'])} of {report['num_runs']}: {run}: AP {scores}"


if __name__ == "__main__":
    sys.exit(main())
