"""What makes a run repeatable, and what keeps one run out of another's folder."""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import detectron2
import torch
import torchvision
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
)
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY

import nasnet_det
from nasnet_det.config import ConfigError, flatten
from nasnet_det.detection.datasets import get_categories
from nasnet_det.errors import InputError
from nasnet_det.genotype import nearest
from nasnet_det.runs.files import write_json
from nasnet_det.runs.keys import Change, Effect, find_changes, list_changes

REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY,
}
NO_NAMES = ("", "PrecomputedProposals")  # values that are none of a registry's

logger = logging.getLogger(__name__)


class OutputDirError(InputError):
    """An OUTPUT_DIR that holds another run or can't be used."""


def check_names(cfg: CfgNode) -> None:
    """Check the names of the model's parts, which Detectron2 only finds missing as a KeyError.

    Raises:
        ConfigError: a name is not registered; the nearest is given.
    """
    for key, registry in REGISTRIES.items():
        node: Any = cfg
        for part in key.split("."):
            node = node[part]
        names = [name for name, _ in registry]
        if node not in names and node not in NO_NAMES:
            raise ConfigError(f"{key}: unknown name {node!r}, {nearest(node, names)}")


def check_output_dir(cfg: CfgNode, *, resume: bool, eval_only: bool) -> None:
    """Keep a run from overwriting another one, or from going on with another model.

    Raises:
        OutputDirError: it would, or the folder can't be written to; the sentence says what to do.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if folder.exists() and not folder.is_dir():
        raise OutputDirError(f"OUTPUT_DIR: wanted a folder, got the file {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputDirError(f"OUTPUT_DIR {folder} can't be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise OutputDirError(f"OUTPUT_DIR {folder} can't be written to")
    found = _find_run(folder)
    if not found:
        return
    if not resume and not eval_only:
        raise OutputDirError(
            f"OUTPUT_DIR {folder} holds another run ({found}); give --resume to go on with it, or "
            "another OUTPUT_DIR"
        )
    changes = _find_changes(cfg, folder / "config.yaml")
    differing = [change for change in changes if change.effect is Effect.IDENTITY]
    if differing:
        raise OutputDirError(
            f"OUTPUT_DIR {folder} holds the run of another model: {list_changes(differing)}; give "
            "its config or another OUTPUT_DIR"
        )
    if not eval_only:
        for change in changes:
            logger.info("From now on %s", change.arrow)


def _find_run(folder: Path) -> str:
    """A file that only a training leaves behind, or "". A config.yaml alone is nothing to lose."""
    names = [*folder.glob("model_*.pth"), folder / "last_checkpoint", folder / "metrics.json"]
    return next((path.name for path in names if path.is_file() and path.stat().st_size), "")


def _find_changes(cfg: CfgNode, saved_file: Path) -> list[Change]:
    """Where a config differs from a saved one."""
    try:
        saved = dict(flatten(yaml.safe_load(saved_file.read_text())))
    except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
        logger.warning("%s can't be read, so the model is not compared: %s", saved_file, error)
        return []
    if "VERSION" not in saved:  # its last key: a kill left half of the file
        logger.warning("%s is cut off, so the model is not compared", saved_file)
        return []
    now = dict(flatten(yaml.safe_load(cfg.dump())))  # through YAML too: tuples become lists
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
    starts = _read_starts(Path(cfg.OUTPUT_DIR, "run.json")) if resume else []
    cfg.SEED = starts[-1]["seed"] if starts else random.SystemRandom().randrange(2**31)


def write_run_info(cfg: CfgNode, command: Sequence[str]) -> None:
    """Append this start to the list in ``OUTPUT_DIR/run.json``.

    Args:
        cfg: the final config.
        command: the command line.
    """
    start = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": list(command),
        "seed": cfg.SEED,
        "categories": get_categories(cfg.DATASETS.TRAIN[0]),
        "device": _describe_device(cfg.MODEL.DEVICE),
        "versions": {
            "nasnet_det": nasnet_det.__version__,
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
            "detectron2": detectron2.__version__,
            "python": platform.python_version(),
        },
        "git_commit": _find_commit(),
    }
    path = Path(cfg.OUTPUT_DIR, "run.json")
    write_json(path, [*_read_starts(path), start])


def _read_starts(path: Path) -> list[dict[str, Any]]:
    try:
        starts = json.loads(path.read_text())
        return [start for start in starts if "seed" in start]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s can't be read and is started anew: %s", path, error)
        return []


def _describe_device(device: str) -> str:
    if torch.device(device).type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


def _find_commit() -> str | None:
    """The commit of the checkout that this package lies in; None outside of one."""
    folder = Path(nasnet_det.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", os.fspath(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
