"""Checkpoints of a classification: whole or absent, and loaded without running what is inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasnet_det.runs.checkpoint import CheckpointError, load_tensors
from nasnet_det.runs.files import write_whole_file

LAST = "checkpoint.pth"
BEST = "model_best.pth"
FINAL = "model_final.pth"


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a file of tensors, numbers, texts and plain containers in one step.

    Raises:
        FileError: the disk is full or can't be written to; what was there before is unchanged.
    """
    write_whole_file(path, lambda file: torch.save(dict(state), file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, refused or no checkpoint of this project.
    """
    state = load_tensors(path)
    if not isinstance(state, dict) or not {"model", "config", "classes"} <= state.keys():
        raise CheckpointError(
            f"{path} is no checkpoint of a classifier: wanted model, config and classes in it"
        )
    return state


def find_non_finite(state: Mapping[str, torch.Tensor]) -> str:
    """The name of the first weight that is not a finite number, or ""."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return ""


def get_evaluated_weights(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint that are evaluated: the moving average where there is one."""
    prefix = "module."
    average = state.get("ema") or {}
    weights = {k[len(prefix) :]: v for k, v in average.items() if k.startswith(prefix)}
    return weights or dict(state["model"])
