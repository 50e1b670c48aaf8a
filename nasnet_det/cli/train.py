"""The arguments are those of Detectron2's own tool. OUTPUT_DIR gets the checkpoints
(model_final.pth, model_best.pth), results.json, metrics.json, log.txt, config.yaml, run.json, and
curves for tensorboard --logdir OUTPUT_DIR. Killed at any moment, the same command with --resume
goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nasnet_det.cli.arguments import (
    add_config_arguments,
    add_resume_argument,
    add_runtime_argument,
)
from nasnet_det.runtime.choice import list_runtime_pairs

SUMMARY = "Train a detector, or evaluate one."
EXAMPLES = (
    "--config-file COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml",
    "--config-file my.yaml --num-gpus 8 --resume SOLVER.BASE_LR 0.01",
    "--config-file my.yaml --eval-only MODEL.WEIGHTS output/model_best.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's arguments; ``num_gpus`` is None if not given."""
    add_config_arguments(parser)
    add_resume_argument(parser, "the last checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    add_runtime_argument(parser)
    parser.add_argument(
        "--num-gpus", type=int, metavar="N", help="of each machine, one process a GPU"
    )
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="I", help="from 0")
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of the first machine"
    )


def run(options: argparse.Namespace) -> None:
    """Train or evaluate, and print the results and where the files are."""
    from nasnet_det.detection import Processes, ResultsError, evaluate, get_config, train

    cfg = get_config(options.config_file, [*options.opts, *list_runtime_pairs(options.runtime)])
    processes = Processes(
        options.num_gpus, options.num_machines, options.machine_rank, options.dist_url
    )
    start = evaluate if options.eval_only else train
    names = [] if options.eval_only else ["model_final.pth", "model_best.pth", "metrics.json"]
    paths = [Path(cfg.OUTPUT_DIR, name) for name in (*names, "results.json")]
    try:
        results = start(cfg, resume=options.resume, processes=processes, command=options.command)
    except ResultsError as error:
        print_results(error.got, paths)
        raise
    if not options.machine_rank:
        print_results(results, paths)


def print_results(results: Any, paths: Iterable[Path]) -> None:
    """The averages over all classes as a table, and the files that are there."""
    from detectron2.evaluation.testing import flatten_results_dict
    from detectron2.utils.logger import create_small_table

    flat = flatten_results_dict(results)
    overall = {name: value for name, value in flat.items() if "-" not in name.split("/")[-1]}
    if overall:
        print(create_small_table(overall))
    for path in paths:
        if path.is_file():
            print(path)
