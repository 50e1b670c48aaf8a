"""A detector's training or evaluation from its config to its results, with every check.

What a config, the data or a folder can't be is said in one sentence before anything expensive
starts; what goes wrong in a process that was started for a GPU is raised here.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import check_datasets, list_classes, register_config_datasets
from nasnet_det.detection.evaluation import check_evaluators
from nasnet_det.detection.live_plots import LivePlots, is_notebook
from nasnet_det.detection.processes import StoppedProcessError, raise_sentences
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.results import check_results, read_results
from nasnet_det.detection.run import (
    check_output_dir,
    choose_seed,
    record_evaluation,
    set_up_process,
    use_available_device,
    write_run_info,
)
from nasnet_det.detection.schedule import check_batch
from nasnet_det.detection.step import get_precision
from nasnet_det.detection.stopping import pass_signals_on
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import InputError
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.record import record_end
from nasnet_det.runs.signals import StoppedBySignal

# Detectron2's tools set up its own logger only.
logger = logging.getLogger("nasnet_det")


@dataclass(frozen=True)
class Processes:
    """The processes of a training or an evaluation.

    Attributes:
        num_gpus: on each machine, one process a GPU; None for one process, on a GPU where there is
            one.
        num_machines: that take part, of which this is number ``machine_rank``, from 0.
        dist_url: where they meet, such as ``tcp://first-machine:29500``; "auto" for one machine.
    """

    num_gpus: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"


ONE_PROCESS = Processes()


def train(
    cfg: CfgNode,
    *,
    resume: bool = False,
    processes: Processes = ONE_PROCESS,
    command: Sequence[str] = (),
    live_plots: bool | None = None,
) -> dict[str, Any]:
    """Train a detector, or go on with a training.

    Args:
        cfg: see :func:`~nasnet_det.detection.config.get_config`; it is not changed.
        resume: go on from the last checkpoint if there is one.
        processes: where it is computed.
        command: what ``run.json`` says; empty for that of this process.
        live_plots: show losses and APs below the cell of the notebook that trains, and draw them
            again every few seconds. None: in a notebook; True: say in the log where it is none.

    Returns:
        the results of the last evaluation; see :func:`read_results`.

    Raises:
        InputError: the config, the data or the folder can't be used, the loss became infinite or
            NaN, or the results are not those of ``TEST.EXPECTED_RESULTS``.
        StoppedBySignal: a signal came, and what is done is saved.
    """
    return _start(
        cfg, _train, resume=resume, processes=processes, command=command, live_plots=live_plots
    )


def evaluate(
    cfg: CfgNode,
    *,
    resume: bool = False,
    processes: Processes = ONE_PROCESS,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS`` on ``DATASETS.TEST``, and write ``results.json``.

    Args:
        cfg: see :func:`~nasnet_det.detection.config.get_config`; it is not changed.
        resume: the last checkpoint of ``OUTPUT_DIR`` instead of ``MODEL.WEIGHTS``.
        processes: where it is computed.
        command: what the log says.

    Returns:
        see :func:`read_results`.

    Raises:
        InputError: the config, the weights, the data or the folder can't be used, or the results
            are not those of ``TEST.EXPECTED_RESULTS``.
    """
    return _start(cfg, _evaluate, resume=resume, processes=processes, command=command)


def _start(
    cfg: CfgNode,
    work: Callable[[CfgNode, argparse.Namespace], object],
    *,
    resume: bool,
    processes: Processes,
    command: Sequence[str],
    live_plots: bool | None = None,
) -> dict[str, Any]:
    eval_only = work is _evaluate
    with contextlib.ExitStack() as stack:
        cfg, num_gpus = _prepare(
            cfg, stack, eval_only=eval_only, resume=resume, processes=processes
        )
        arguments = argparse.Namespace(
            eval_only=eval_only,
            resume=resume,
            command=list(command or sys.argv),
            live_plots=live_plots,
        )
        if num_gpus * processes.num_machines > 1:
            stack.enter_context(pass_signals_on())
        stack.enter_context(raise_sentences())
        launch(
            _work,
            num_gpus,
            num_machines=processes.num_machines,
            machine_rank=processes.machine_rank,
            dist_url=processes.dist_url,
            args=(cfg, work, arguments),
        )
        # Before another command may write there.
        results = {} if processes.machine_rank else read_results(cfg.OUTPUT_DIR)
    if not processes.machine_rank:
        check_results(cfg.TEST.EXPECTED_RESULTS, results)
    return results


def _prepare(
    cfg: CfgNode,
    stack: contextlib.ExitStack,
    *,
    eval_only: bool,
    resume: bool,
    processes: Processes,
) -> tuple[CfgNode, int]:
    """The final config, after every check that needs no model, and the processes to start here.

    ``stack`` gets the folder's lock.
    """
    _set_up_logger()
    cfg = cfg.clone()
    cfg.defrost()
    check_values(cfg)
    adopt_pools(cfg, resume=resume)
    check_backbone(cfg)
    register_config_datasets(cfg)
    if processes.machine_rank == 0:  # the others may see the folder after this one has started
        holder = "evaluation" if eval_only else "detector's training"
        stack.enter_context(lock_folder(Path(cfg.OUTPUT_DIR), holder))
        check_output_dir(cfg, resume=resume, eval_only=eval_only)
    _set_up_logger(cfg.OUTPUT_DIR, processes.machine_rank)
    num_gpus = _choose_device(cfg, processes.num_gpus)
    if processes.num_machines > 1 and processes.dist_url == "auto":
        raise ConfigError(
            f"--dist-url: wanted tcp://HOST:PORT of the first of {processes.num_machines} "
            "machines, got none"
        )
    get_precision(cfg)
    build_test_resize(cfg)
    number = num_gpus * processes.num_machines
    check_batch(Trainer.auto_scale_workers(cfg, number), number)
    check_evaluators(cfg)
    check_datasets(cfg, eval_only=eval_only)
    choose_seed(cfg, resume=resume)
    cfg.freeze()
    return cfg, num_gpus


def _choose_device(cfg: CfgNode, num_gpus: int | None) -> int:
    """Take the CPU where there is no GPU.

    Returns:
        how many processes to start on this machine.
    """
    wants_cuda = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus is not None and num_gpus > (available if wants_cuda else 1):
        have = f"this machine has {available}" if wants_cuda else "MODEL.DEVICE is not cuda"
        raise ConfigError(
            f"--num-gpus {num_gpus}: {have}; leave --num-gpus out for one process on the "
            f"{'GPU' if available else 'CPU'}"
        )
    use_available_device(cfg)
    return max(1, 1 if num_gpus is None else num_gpus)


def _set_up_logger(folder: str = "", rank: int = 0) -> None:
    """Log to the terminal, and to ``log.txt`` where there is a folder."""
    logger.handlers.clear()
    # Without its cache, by which a forked process would keep none of them.
    setup_logger.__wrapped__(folder or None, distributed_rank=rank, name=logger.name)


def _work(
    cfg: CfgNode,
    work: Callable[[CfgNode, argparse.Namespace], object],
    arguments: argparse.Namespace,
) -> None:
    """Train or evaluate in each process."""
    if comm.get_world_size() > 1:  # a process of its own, which knows no data set yet
        cfg.defrost()
        register_config_datasets(cfg)
        cfg.freeze()
        _set_up_logger(cfg.OUTPUT_DIR, comm.get_rank())
    set_up_process(cfg, arguments.command, eval_only=arguments.eval_only)
    work(cfg, arguments)


def _train(cfg: CfgNode, arguments: argparse.Namespace) -> None:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=arguments.resume)
    if comm.is_main_process():
        write_run_info(cfg, arguments.command, max_iter=trainer.max_iter)
        _add_live_plots(trainer, arguments.live_plots)
    try:
        trainer.train()
    except (StoppedBySignal, InputError) as error:
        is_stopped = isinstance(error, StoppedBySignal)
        _record_end(trainer, str(error), num_done=trainer.iter + is_stopped)  # after an iteration
        if isinstance(error, StoppedBySignal) and comm.get_world_size() > 1:
            raise StoppedProcessError(error) from None
        raise
    _record_end(trainer, trainer.why_ended, num_done=trainer.iter)


def _add_live_plots(trainer: Trainer, wanted: bool | None) -> None:
    """Behind the checkpoint, since they leave nothing that a resume would miss."""
    if wanted is False or not (wanted or is_notebook()):
        return
    if not is_notebook():
        logger.warning("There are no live plots: this process is no notebook's")
        return
    trainer.register_hooks([LivePlots(Path(trainer.cfg.OUTPUT_DIR))])


def _record_end(trainer: Trainer, reason: str, *, num_done: int) -> None:
    if comm.is_main_process():
        number = min(num_done, trainer.max_iter)
        record_end(trainer.cfg.OUTPUT_DIR, num_iterations=number, reason=reason)


def _evaluate(cfg: CfgNode, arguments: argparse.Namespace) -> None:
    resume = arguments.resume
    model = Trainer.build_model(cfg)
    checkpointer = Checkpointer(
        model,
        cfg.OUTPUT_DIR,
        save_to_disk=False,
        is_trained=True,
        extra={"classes": list_classes(cfg.DATASETS.TEST)},
    )
    data = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    weights = checkpointer.resumed_from or cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError(
            "--eval-only needs a model: give MODEL.WEIGHTS, or --resume for the last checkpoint of "
            "OUTPUT_DIR",
            where="MODEL.WEIGHTS",
        )
    Trainer.test(cfg, model, iteration=data.get("iteration"), weights=weights)
    if comm.is_main_process():
        record_evaluation(cfg)
