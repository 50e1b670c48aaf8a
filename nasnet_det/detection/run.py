"""What makes a run repeatable, and what keeps one run out of another's folder."""

from __future__ import annotations

import logging
import random
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from torch import nn

from nasnet_det.config import ConfigError, flatten, parse_yaml
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.datasets import get_categories
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.files import FileError, write_content
from nasnet_det.runs.keys import Change, Effect, find_changes, list_changes
from nasnet_det.runs.record import (
    CONFIG,
    STARTS,
    OutputDirError,
    read_starts,
    record_start,
    refuse_evaluation,
)
from nasnet_det.weights.file import read_weights

logger = logging.getLogger(__name__)


def check_output_dir(cfg: CfgNode, *, resume: bool, eval_only: bool) -> None:
    """Keep a run from overwriting another one, or from going on with another model.

    Raises:
        OutputDirError: it would; the sentence says what to do.
    """
    folder = Path(cfg.OUTPUT_DIR)
    found = _find_run(folder)
    if not found:
        if not eval_only:
            refuse_evaluation(folder)
        return
    if not resume and not eval_only:
        raise OutputDirError(
            f"OUTPUT_DIR {folder} holds another run ({found}); give --resume to go on with it, or "
            "another OUTPUT_DIR"
        )
    changes = _find_changes(cfg, folder / CONFIG)
    differing = [change for change in changes if change.effect is Effect.IDENTITY]
    if differing:
        raise OutputDirError(
            f"OUTPUT_DIR {folder} holds the run of another model: {list_changes(differing)}; give "
            "its config or another OUTPUT_DIR"
        )


def _find_run(folder: Path) -> str:
    """A file that only a training leaves behind, or "". A config.yaml alone is nothing to lose."""
    names = [*folder.glob("model_*.pth"), folder / "last_checkpoint", folder / "metrics.json"]
    return next((path.name for path in names if path.is_file() and path.stat().st_size), "")


def _find_changes(cfg: CfgNode, saved_file: Path) -> list[Change]:
    """Where a config differs from a saved one."""
    try:
        saved = dict(flatten(parse_yaml(saved_file.read_text(), "it")))
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s can't be read, so the model is not compared: %s", saved_file, error)
        return []
    if "VERSION" not in saved:  # its last key: a kill left half of the file
        logger.warning("%s is cut off, so the model is not compared", saved_file)
        return []
    # Through YAML too: tuples become lists.
    now = dict(flatten(parse_yaml(cfg.dump(), "the config")))
    if now["SEED"] < 0:  # the run to resume has chosen one
        del now["SEED"]
    return find_changes(saved, now, stage="detector")


def use_available_device(cfg: CfgNode) -> None:
    """Compute on the CPU where ``MODEL.DEVICE`` is a CUDA device and there is none."""
    if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        logger.info("MODEL.DEVICE %s: no CUDA device here, computing on the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"


def choose_seed(cfg: CfgNode, *, resume: bool) -> None:
    """Set a ``SEED`` of -1 to a number: that of the run to resume, else a new one."""
    if cfg.SEED >= 0:
        return
    seed = _read_seed(cfg.OUTPUT_DIR) if resume else None
    cfg.SEED = random.SystemRandom().randrange(2**31) if seed is None else seed


def agree_on_seed(cfg: CfgNode) -> CfgNode:
    """The config with the seed of the first process; -1 is as in a resume of :func:`choose_seed`.

    A machine's command chooses one for its own processes only.
    """
    cfg = cfg.clone()
    cfg.defrost()
    choose_seed(cfg, resume=True)
    cfg.SEED = comm.all_gather(cfg.SEED)[0]
    cfg.freeze()
    return cfg


def _read_seed(folder: str) -> int | None:
    """The seed of a folder's run: what ``run.json`` says, else its last checkpoint."""
    try:
        seeds = [start["seed"] for start in read_starts(folder) if "seed" in start]
        if seeds:
            return int(seeds[-1])
        path = Checkpointer(nn.Module(), folder, save_to_disk=False).get_checkpoint_file()
        config = parse_yaml(read_weights(path, mmap=True)["config"], path) if path else {}
        return config.get("SEED")
    except (FileError, CheckpointError, ConfigError, KeyError) as error:
        logger.warning("%s; the seed is a new one", error)
        return None


def set_up_process(cfg: CfgNode, command: Sequence[str], *, eval_only: bool) -> None:
    """What Detectron2's ``default_setup`` does, but for writing ``config.yaml``.

    That is the log of the libraries, random numbers and cuDNN.
    """
    rank = comm.get_rank()
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="fvcore")
    log = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)
    log.info("Process %d of %d\n%s", rank + 1, comm.get_world_size(), collect_env_info())
    log.info("Command: %s\nConfig:\n%s", shlex.join(command), cfg.dump())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not eval_only


def write_run_info(cfg: CfgNode, command: Sequence[str], *, max_iter: int) -> None:
    """Record that a training starts; see :func:`~nasnet_det.runs.record.record_start`.

    Args:
        cfg: of the training, as it was given.
        command: the command line.
        max_iter: its last iteration, which the number of processes and epochs have a part in.
    """
    record_start(
        cfg.OUTPUT_DIR,
        cfg.dump(),
        command=command,
        seed=cfg.SEED,
        device=cfg.MODEL.DEVICE,
        processes=comm.get_world_size(),
        max_iter=max_iter,
        packages=("torch", "torchvision", "detectron2"),
        categories=get_categories(cfg.DATASETS.TRAIN[0]),
    )


def record_evaluation(cfg: CfgNode) -> None:
    """Write ``config.yaml`` beside the results of an evaluation, where no training has left one."""
    folder = Path(cfg.OUTPUT_DIR)
    if not (folder / STARTS).exists() and not _find_run(folder):
        write_content(folder / CONFIG, cfg.dump())
