"""A batch whose loss was not a finite number, kept with all that its loss depends on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks, RotatedBoxes
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from nasnet_det.detection.checkpoint import Checkpointer, to_plain
from nasnet_det.detection.seeds import Purpose, seed_step
from nasnet_det.detection.step import PRECISIONS, NonFiniteLossError, autocast
from nasnet_det.runs.files import FileError, write_whole_file
from nasnet_det.weights.file import read_weights

STRUCTURES: dict[str, Any] = {
    kind.__name__: kind for kind in (Boxes, RotatedBoxes, BitMasks, Keypoints, PolygonMasks)
}

logger = logging.getLogger(__name__)


def name_failed_batch(folder: str, rank: int) -> str:
    """Where the batch of a process is kept."""
    return os.path.join(folder, f"non_finite_rank{rank}.pth")


def save_failed_batch(
    path: str,
    batch: Sequence[Mapping[str, Any]],
    *,
    model: nn.Module,
    precision: torch.dtype | None,
    seed: int,
    rank: int,
    iteration: int,
    part: int = 0,
) -> None:
    """Write a batch, the weights that met it, and what its random numbers came from.

    Raises:
        FileError: the disk is full or can't be written to.
    """
    content = {
        **{"seed": seed, "rank": rank, "iteration": iteration, "part": part},
        "precision": str(precision).removeprefix("torch."),
        "model": model.state_dict(),
        "batch": [to_plain_picture(picture) for picture in batch],
    }
    write_whole_file(path, lambda file: torch.save(content, file))


def explain_failure(
    error: NonFiniteLossError, checkpointer: Checkpointer, folder: str, **state: Any
) -> NonFiniteLossError:
    """Keep the batch, and say where it and the last good checkpoint are, and what to do.

    Args:
        error: of a step; every process has one.
        checkpointer: of the model that met the batch.
        folder: of the run.
        **state: ``precision``, ``seed`` and ``iteration``; see :func:`save_failed_batch`.
    """
    kept = keep_failed_batch(
        folder,
        error.batch if comm.get_rank() in error.ranks else None,
        first_rank=min(error.ranks, default=0),
        model=checkpointer.model,
        part=error.part,
        **state,
    )
    good = checkpointer.last_finite_checkpoint() or "none"
    return NonFiniteLossError(
        f"{error}; last checkpoint with finite weights: {good}; {kept}lower SOLVER.BASE_LR, raise "
        "SOLVER.WARMUP_ITERS or enable SOLVER.CLIP_GRADIENTS"
    )


def keep_failed_batch(
    folder: str, batch: Sequence[Mapping[str, Any]] | None, *, first_rank: int, **state: Any
) -> str:
    """Write the batch where it failed; that it can't be written is no second failure.

    Args:
        folder: of the run.
        batch: None in a process that did not fail.
        first_rank: of those that failed.
        **state: see :func:`save_failed_batch`.

    Returns:
        where it is, as a part of a sentence.
    """
    rank = comm.get_rank()
    if batch is not None:
        try:
            os.makedirs(folder, exist_ok=True)
            save_failed_batch(name_failed_batch(folder, rank), batch, rank=rank, **state)
        except (FileError, OSError) as fault:
            logger.warning("The batch is not kept: %s", fault)
    return f"the batch is in {name_failed_batch(folder, first_rank)}; "


def replay_failed_batch(model: nn.Module, path: str) -> dict[str, float]:
    """Compute the losses of a batch again, in one process.

    Args:
        model: of the run's config; it gets the weights of the file.
        path: a file of :func:`save_failed_batch`.

    Returns:
        the losses by name; ``{"proposals": nan}`` where it does not come to them.

    Raises:
        CheckpointError: the file can't be read.
    """
    state = read_weights(path)
    model.load_state_dict(state["model"])
    model.train()
    device = next(model.parameters()).device
    numbers = {"rank": state["rank"], "part": state.get("part", 0)}
    seed_step(state["seed"], Purpose.STEP, state["iteration"], **numbers)
    precision = PRECISIONS.get(state["precision"])
    with EventStorage(state["iteration"]), torch.no_grad(), autocast(precision, device.type):
        try:
            losses = model([_from_plain(picture) for picture in state["batch"]])
        except FloatingPointError:  # as Detectron2's RPN
            return {"proposals": math.nan}
    return {name: float(loss) for name, loss in losses.items()}


def to_plain_picture(picture: Mapping[str, Any]) -> dict[str, Any]:
    """What a mapper gave, without its objects; what is of no known kind is left out."""
    plain = {}
    for name, value in picture.items():
        if isinstance(value, Instances):
            fields = {key: _structure_to_plain(item) for key, item in value.get_fields().items()}
            plain[name] = {"image_size": list(value.image_size), "fields": fields}
        else:
            try:
                plain[name] = to_plain(value)
            except TypeError:
                continue
    return plain


def _structure_to_plain(value: Any) -> dict[str, Any]:
    kind = type(value).__name__
    if kind not in STRUCTURES:
        return {"kind": "", "value": to_plain(value)}
    content = value.polygons if isinstance(value, PolygonMasks) else value.tensor
    return {"kind": kind, "value": to_plain(content)}


def _from_plain(picture: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Instances(
            tuple(value["image_size"]),
            **{key: _structure_from_plain(item) for key, item in value["fields"].items()},
        )
        if isinstance(value, Mapping) and value.keys() == {"image_size", "fields"}
        else value
        for name, value in picture.items()
    }


def _structure_from_plain(item: Mapping[str, Any]) -> Any:
    kind, value = item["kind"], item["value"]
    if kind == "PolygonMasks":
        value = [[part.numpy() for part in polygons] for polygons in value]
    return STRUCTURES[kind](value) if kind else value
