"""The controller in a file, so that a resumed search need not teach it again.

The file is never needed: a controller that starts anew learns the same from the study. So one that
is missing, damaged or of another study only costs time, and a warning says so.

What a file belongs to is a checksum: ``checksums[k]`` stands for the search's config and for the
decisions and rewards of its first k minibatches, which is all that the state depends on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from optuna.samplers import BaseSampler

from nasnet_det.runs.checkpoint import load_tensors
from nasnet_det.runs.files import write_whole_file
from nasnet_det.search.controller_sampler import ControllerSampler

logger = logging.getLogger(__name__)


def save_state(path: Path, sampler: BaseSampler, checksums: Sequence[int]) -> None:
    """Write a controller's state; other samplers have none.

    Raises:
        FileError: the disk is full or can't be written to.
    """
    if isinstance(sampler, ControllerSampler):
        state = sampler.state_dict()
        content = {"sampler": state, "study": checksums[state["num_learned"]]}
        write_whole_file(path, lambda file: torch.save(content, file))


def load_state(path: Path, sampler: BaseSampler, checksums: Sequence[int]) -> None:
    """Give a controller its saved state, if the file has one that belongs here."""
    if not isinstance(sampler, ControllerSampler) or not path.is_file():
        return
    try:
        content = load_tensors(path)
        state = content["sampler"]
        if content["study"] == checksums[state["num_learned"]]:
            sampler.load_state_dict(state)
            return
        reason = "it is of another study"
    except Exception as error:  # whatever is wrong with the file, the study has it all
        reason = " ".join(str(error).split())[:200]
    logger.warning("%s is not used (%s): relearning from the study", path, reason)
