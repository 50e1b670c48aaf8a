"""The arguments are those of Detectron2's own tool. OUTPUT_DIR gets the checkpoints
(model_final.pth, model_best.pth), results.json, metrics.json, log.txt, config.yaml, run.json, and
curves for tensorboard --logdir OUTPUT_DIR. Killed at any moment, the same command with --resume
goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nasnet_det.cli.arguments import add_config_arguments, add_resume_argument

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
    from nasnet_det.detection import Processes, evaluate, get_config, train

    cfg = get_config(options.config_file, options.opts)
    processes = Processes(
        options.num_gpus, options.num_machines, options.machine_rank, options.dist_url
    )
    start = evaluate if options.eval_only else train
    results = start(cfg, resume=options.resume, processes=processes, command=options.command)
    if options.machine_rank:
        return
    print_results(results)
    names = [] if options.eval_only else ["model_final.pth", "model_best.pth", "metrics.json"]
    for name in [*names, "results.json"]:
        if Path(cfg.OUTPUT_DIR, name).is_file():
            print(Path(cfg.OUTPUT_DIR, name))


def print_results(results: dict) -> None:
    """The averages over all classes as a table."""
    from detectron2.evaluation.testing import flatten_results_dict
    from detectron2.utils.logger import create_small_table

    flat = flatten_results_dict(results)
    overall = {name: value for name, value in flat.items() if "-" not in name.split("/")[-1]}
    if overall:
        print(create_small_table(overall))
