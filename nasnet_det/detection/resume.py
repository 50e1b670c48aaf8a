"""A resume with other values than before: what it obeys, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import yaml
from detectron2.solver import LRMultiplier

from nasnet_det.config import flatten
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.keys import Effect, find_changes, list_changes


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


def check_same_run(saved: str, config: str, path: str) -> None:
    """See that a training with this config can go on from a checkpoint.

    Args:
        saved: the config in the checkpoint, as YAML.
        config: that of the training.
        path: of the checkpoint, for the error.

    Raises:
        CheckpointError: it is of another one, whose weights or optimizer mean something else.
    """
    was, now = (dict(flatten(yaml.safe_load(text))) for text in (saved, config))
    changes = find_changes(was, now, stage="detector")
    differing = [change for change in changes if change.effect is Effect.IDENTITY]
    if differing:
        raise CheckpointError(
            f"{path} is of another training: {list_changes(differing)}; give its config or another "
            "OUTPUT_DIR"
        )
