"""A resume with other values than before: what it obeys, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.solver import LRMultiplier

from nasnet_det.config import flatten, parse_yaml
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.keys import Change, Effect, find_changes, list_changes

logger = logging.getLogger(__name__)


@contextmanager
def obey_config(optimizer: torch.optim.Optimizer, scheduler: LRMultiplier) -> Iterator[None]:
    """Load a checkpoint inside: rates, decays and the like stay those of the config.

    Optimizers and schedules save them, so Detectron2 goes on with the old ones without a word.
    """
    built = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    rates = list(scheduler.base_lrs)
    yield
    scheduler.base_lrs = rates
    is_over = scheduler.last_epoch > scheduler._max_iter  # where a schedule has no values
    for group, values, lr in zip(
        optimizer.param_groups, built, rates if is_over else scheduler.get_lr(), strict=True
    ):
        group.update(values, lr=lr)


def check_same_run(saved: str, config: str, path: str, *, num_done: int) -> None:
    """See that a training with this config can go on from a checkpoint, and log what is otherwise.

    Args:
        saved: the config in the checkpoint, as YAML.
        config: that of the training.
        path: of the checkpoint, for the error.
        num_done: iterations.

    Raises:
        CheckpointError: it is of another one, whose weights or optimizer mean something else.
    """
    was, now = (dict(flatten(parse_yaml(text, path))) for text in (saved, config))
    changes = find_changes(was, now, stage="detector")
    differing = [change for change in changes if change.effect is Effect.IDENTITY]
    if differing:
        raise CheckpointError(
            f"{path} is of another training: {list_changes(differing)}; give its config or another "
            "OUTPUT_DIR"
        )
    for change in changes:
        logger.info("From now on %s%s", change.arrow, _explain(change, num_done))


def _explain(change: Change, num_done: int) -> str:
    if change.key != "SOLVER.IMS_PER_BATCH":
        return ""
    return (
        f": the {num_done} iterations that are done stay as many, and SOLVER.BASE_LR, STEPS and "
        f"MAX_ITER are not scaled; the pictures go on at place {num_done * change.now} of their "
        f"order, where {num_done * change.was} were seen"
    )
