"""OUTPUT_DIR gets study.db (Optuna's storage: every child with its decisions and its reward),
config.yaml, controller.pth (the controller, so that --resume need not teach it again) and
genotype.json, the best architecture so far, which MODEL.NASNET.GENOTYPE takes; with several goals
also front/, all that no other beats in each of them. With
SEARCH.RETRAIN.NUM_BEST the best are trained for longer at the end, and the best of these is the one
in genotype.json. Killed at any moment, the same command with --resume goes on; the result is that
of a search that was not killed. Curves: tensorboard --logdir OUTPUT_DIR.

With SEARCH.CHILD.KIND detector the children are detectors on the data of DATASETS.TRAIN_JSON, in
three rungs, beside known backbones; OUTPUT_DIR gets front/, a config for nasnet-det train for each
detector that no other beats, and report/report.html.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nasnet_det.cli.arguments import add_config_arguments, add_resume_argument

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from nasnet_det.search.progress import Progress

SUMMARY = "Search for cells."
EXAMPLES = (
    "--config-file search/cifar10_cpu.yaml SEARCH.DATA.PATH cifar10.npz",
    "--config-file search/cifar10_cpu.yaml --resume SEARCH.DATA.PATH cifar10.npz",
    "--config-file search/cifar10_cpu.yaml --dry-run 5",
    "--config-file search/detector.yaml SEARCH.BUDGET_HOURS 3 DATASETS.TRAIN_JSON train.json "
    "DATASETS.TRAIN_IMAGES images",
)
LINE_EVERY_S = 30.0  # where the progress line can't be overwritten
SHOWN = 5  # children of a --dry-run without a number


class _ProgressLine:
    """One line that is overwritten on a terminal, and now and then a line elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last, self._length = 0.0, 0
        self._shown: Progress | None = None

    def show(self, progress: Progress) -> None:
        is_final = progress.finished == progress.total
        if self._is_terminal:
            text = str(progress)
            print(f"\r{text:<{self._length}}", end="", file=sys.stderr, flush=True)
            self._length = len(text)
            if is_final:
                self.end()
        elif (
            is_final and progress != self._shown
        ) or time.monotonic() - self._last >= LINE_EVERY_S:
            print(progress, file=sys.stderr, flush=True)
            self._last, self._shown = time.monotonic(), progress

    def end(self) -> None:
        """Leave the line; the next text begins a new one."""
        if self._length:
            print(file=sys.stderr)
        self._length = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``config_file``, ``resume``, ``dry_run`` (None or a number) and ``opts``."""
    add_config_arguments(parser)
    add_resume_argument(parser, "the last child")
    parser.add_argument(
        "--dry-run",
        type=int,
        nargs="?",
        const=SHOWN,
        metavar="N",
        help="only print N proposals, one minibatch at most",
    )


def run(options: argparse.Namespace) -> None:
    """Search, or print proposals."""
    if options.dry_run is not None and options.dry_run < 1:
        options.parser.error(f"--dry-run: wanted at least 1, got {options.dry_run}")
    from nasnet_det.search import get_search_config, search

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    cfg = get_search_config(options.config_file, options.opts)
    if options.dry_run is not None:
        print_proposals(cfg, options.dry_run)
        return
    if cfg.SEARCH.CHILD.KIND == "detector":
        run_detectors(cfg, options)
        return
    line = _ProgressLine()
    try:
        found = search(cfg, resume=options.resume, on_progress=line.show, command=options.command)
    finally:
        line.end()
    text = f"best: child {found.child}, accuracy {found.accuracy:.4f} of held-out images"
    print(text if found.retrained is None else f"{text}, {found.retrained:.4f} when retrained")
    if found.num_duplicates:
        print(f"{found.num_duplicates} children were architectures that had been trained before")
    if found.front:
        print(f"{len(found.front)} that no other beats in all goals: {found.front[0].parent}")
    print(found.path)


def run_detectors(cfg: CfgNode, options: argparse.Namespace) -> None:
    """Search for detectors, and report."""
    from nasnet_det.pipeline.detector_search import search_detectors
    from nasnet_det.report import write_front_report

    folder = Path(cfg.OUTPUT_DIR)
    line = _ProgressLine()

    def tell(text: str) -> None:
        line.end()
        print(f"nasnet-det search: {text}", file=sys.stderr, flush=True)

    try:
        front = search_detectors(
            cfg, resume=options.resume, on_progress=line.show, tell=tell, command=options.command
        )
    finally:
        line.end()
    report = write_front_report(folder, folder / "report")
    shown = {point["name"]: point for point in report["points"]}
    for name in front.names:
        values = (f"{key} {shown[name][key]:,.4g}" for key in front.goals if key != "ap")
        print(
            f"{folder / 'front' / name}.yaml: AP {shown[name]['ap']['value']:.1f}",
            *values,
            sep=", ",
        )
    print(report["verdict"]["sentence"])
    print(folder / "report" / "report.html")


def print_proposals(cfg: CfgNode, number: int) -> None:
    """Print the first architectures of a search with their sizes."""
    from nasnet_det.search import propose
    from nasnet_det.search.config import build_space
    from nasnet_det.search.detector_config import check_classifier_config

    check_classifier_config(cfg)
    count = build_space(cfg).count_architectures()
    print(f"{count:,} different architectures; the first of this search:")
    for proposal in propose(cfg, number):
        size = f"{proposal.params:,} parameters, {proposal.macs:,} multiply-adds"
        print(f"\nchild {proposal.child}: {size}")
        for kind in ("normal", "reduction"):
            blocks = getattr(proposal.genotype, kind).blocks
            texts = [
                f"{b.ops[0]}({b.inputs[0]}) {b.combine} {b.ops[1]}({b.inputs[1]})" for b in blocks
            ]
            print(f"  {kind:9} {', '.join(texts)}")
