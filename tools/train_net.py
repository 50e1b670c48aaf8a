"""Train a detector, or evaluate one.

    python tools/train_net.py --config-file COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml
    python tools/train_net.py --config-file my.yaml --resume
    python tools/train_net.py --config-file my.yaml --eval-only MODEL.WEIGHTS output/model_best.pth
    python tools/train_net.py --config-file my.yaml --num-gpus 8 SOLVER.BASE_LR 0.01

The arguments are those of Detectron2's own tool; KEY VALUE pairs come last. A mistake is reported
in one sentence and exit status 1 (2 for the arguments).
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

try:
    import nasnet_det.detection as detection
except ImportError as error:
    sys.exit(f"train_net.py: {error}")

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table, setup_logger
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from nasnet_det.data.error import DataError
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.datasets import check_datasets, list_classes, register_config_datasets
from nasnet_det.detection.processes import LostProcessError
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.run import (
    OutputDirError,
    check_names,
    check_output_dir,
    choose_seed,
    set_up_process,
    use_available_device,
    write_run_info,
)
from nasnet_det.detection.step import NonFiniteLossError, get_precision
from nasnet_det.detection.stopping import TrainingStopped, pass_signals_on
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.files import FileError
from nasnet_det.runs.lock import lock_folder

# Detectron2's tools set up its own logger only.
logger = logging.getLogger("nasnet_det")


class ResultsError(ValueError):
    """Results that are not the expected ones."""


MISTAKES = (
    detection.ConfigError,
    DataError,
    FileError,
    LostProcessError,
    NonFiniteLossError,
    OutputDirError,
    ResultsError,
)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Detectron2's arguments; ``num_gpus`` is None if not given."""
    parser = default_argument_parser(epilog=__doc__)
    parser.prog = "train_net.py"
    parser.set_defaults(num_gpus=None)

    def error(message: str) -> NoReturn:
        print(f"{parser.prog}: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error
    options = parser.parse_args(arguments)
    late = [word for word in options.opts if word.startswith("--")]
    if late:
        error(f"{late[0]} must stand before the KEY VALUE pairs")
    return options


def choose_device(cfg: CfgNode, num_gpus: int | None) -> int:
    """Take the CPU where there is no GPU.

    Returns:
        how many processes to start on this machine.

    Raises:
        ConfigError: more GPUs are asked for than there are.
    """
    wants_cuda = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus is not None and num_gpus > (available if wants_cuda else 1):
        have = f"this machine has {available}" if wants_cuda else "MODEL.DEVICE is not cuda"
        raise detection.ConfigError(
            f"--num-gpus {num_gpus}: {have}; leave --num-gpus out for one process on the "
            f"{'GPU' if available else 'CPU'}"
        )
    use_available_device(cfg)
    return max(1, 1 if num_gpus is None else num_gpus)


def set_up_logger(folder: str = "", rank: int = 0) -> None:
    """Log to the terminal, and to ``log.txt`` where there is a folder."""
    logger.handlers.clear()
    setup_logger(folder or None, distributed_rank=rank, name=logger.name)


def prepare(options: argparse.Namespace, stack: ExitStack) -> CfgNode:
    """The final config, after every check that needs no model; ``stack`` gets the folder's lock."""
    set_up_logger()
    cfg = detection.get_config(options.config_file, options.opts)
    if options.config_file and not os.path.isfile(options.config_file):
        options.config_file = detection.get_config_file(options.config_file)
    check_names(cfg)
    detection.adopt_pools(cfg, resume=options.resume)
    check_backbone(cfg)
    register_config_datasets(cfg)
    if options.machine_rank == 0:  # the others may see the folder after this one has started
        holder = "evaluation" if options.eval_only else "detector's training"
        stack.enter_context(lock_folder(Path(cfg.OUTPUT_DIR), holder))
        check_output_dir(cfg, resume=options.resume, eval_only=options.eval_only)
    set_up_logger(cfg.OUTPUT_DIR, options.machine_rank)
    options.num_gpus = choose_device(cfg, options.num_gpus)
    get_precision(cfg)
    build_test_resize(cfg)
    num_processes = options.num_gpus * options.num_machines
    if cfg.SOLVER.IMS_PER_BATCH % num_processes or cfg.SOLVER.IMS_PER_BATCH < 1:
        raise detection.ConfigError(
            f"SOLVER.IMS_PER_BATCH: wanted a multiple of the number of processes, {num_processes}, "
            f"got {cfg.SOLVER.IMS_PER_BATCH}"
        )
    check_datasets(cfg, eval_only=options.eval_only)
    choose_seed(cfg, resume=options.resume)
    cfg.freeze()
    return cfg


def run(options: argparse.Namespace, cfg: CfgNode, command: Sequence[str]) -> None:
    """Train or evaluate in each process."""
    if comm.get_world_size() > 1:  # a process of its own, which knows no data set yet
        cfg.defrost()
        register_config_datasets(cfg)
        cfg.freeze()
        set_up_logger(cfg.OUTPUT_DIR, comm.get_rank())
    set_up_process(cfg, command, eval_only=options.eval_only)
    results = evaluate(cfg, options) if options.eval_only else train(cfg, options, command)
    if comm.is_main_process():
        report(cfg, results, options)
        check_results(cfg.TEST.EXPECTED_RESULTS, results or {})


def train(
    cfg: CfgNode, options: argparse.Namespace, command: Sequence[str]
) -> dict[str, Any] | None:
    """Train, or go on with a training."""
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=options.resume)
    if comm.is_main_process():
        write_run_info(cfg, command)
    try:
        return trainer.train()
    except TrainingStopped as stop:
        if comm.is_main_process():
            print(f"train_net.py: {stop}", file=sys.stderr)
        sys.exit(stop.status)  # a KeyboardInterrupt is no failure to whoever started a process


def evaluate(cfg: CfgNode, options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS``, or with ``--resume`` the last checkpoint."""
    model = Trainer.build_model(cfg)
    checkpointer = Checkpointer(
        model,
        cfg.OUTPUT_DIR,
        save_to_disk=False,
        is_trained=True,
        extra={"classes": list_classes(cfg.DATASETS.TEST)},
    )
    data = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=options.resume)
    weights = checkpointer.resumed_from or cfg.MODEL.WEIGHTS
    if not weights:
        raise detection.ConfigError(
            "--eval-only needs a model: give MODEL.WEIGHTS, or --resume for the last checkpoint of "
            "OUTPUT_DIR"
        )
    return Trainer.test(cfg, model, iteration=data.get("iteration"), weights=weights)


def report(cfg: CfgNode, results: dict[str, Any] | None, options: argparse.Namespace) -> None:
    """Print the results and where the files are."""
    if results:
        flat = flatten_results_dict(results)
        overall = {name: value for name, value in flat.items() if "-" not in name.split("/")[-1]}
        print(create_small_table(overall))
    names = ["model_final.pth", "model_best.pth", "metrics.json"] if not options.eval_only else []
    for name in [*names, "results.json"]:
        path = os.path.join(cfg.OUTPUT_DIR, name)
        if os.path.isfile(path):
            print(path)


def check_results(expected: Sequence[Sequence[Any]], results: dict[str, Any]) -> None:
    """Compare with ``TEST.EXPECTED_RESULTS``: task, metric, value and tolerance each.

    Raises:
        ResultsError: some differ, or are missing.
    """
    flat = flatten_results_dict(results)
    faults = []
    for task, metric, wanted, tolerance in expected:
        got = flat.get(f"{task}/{metric}", math.nan)
        if not abs(got - wanted) <= tolerance:  # NaN is never right
            faults.append(f"{task}/{metric}: wanted {wanted} +- {tolerance}, got {got:.4f}")
    if faults:
        raise ResultsError(f"TEST.EXPECTED_RESULTS: {'; '.join(faults)}")


def find_sentence(traceback: str) -> str:
    """What a process that was started for a GPU says if the mistake is the user's; else ""."""
    name, _, sentence = traceback.strip().splitlines()[-1].partition(": ")
    return sentence if name.split(".")[-1] in {kind.__name__ for kind in MISTAKES} else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; 1 after a mistake; 2 after one in the arguments; 130 after Ctrl-C, 143 after SIGTERM.
    """
    options = parse_arguments(arguments)
    command = ["train_net.py", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        with ExitStack() as stack:
            cfg = prepare(options, stack)
            if options.num_gpus * options.num_machines > 1:
                stack.enter_context(pass_signals_on())
            launch(
                run,
                options.num_gpus,
                num_machines=options.num_machines,
                machine_rank=options.machine_rank,
                dist_url=options.dist_url,
                args=(options, cfg, command),
            )
    except MISTAKES as error:
        print(f"train_net.py: {error}", file=sys.stderr)
        return 1
    except ProcessRaisedException as error:
        sentence = find_sentence(str(error))
        if not sentence:
            raise
        print(f"train_net.py: {sentence}", file=sys.stderr)
        return 1
    except ProcessExitedException as error:
        if error.signal_name is None:  # it has said why
            return error.exit_code
        print(
            f"train_net.py: process {error.error_index} was ended by {error.signal_name}; --resume "
            "goes on from the last checkpoint",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            "train_net.py: interrupted; --resume goes on from the last checkpoint", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
