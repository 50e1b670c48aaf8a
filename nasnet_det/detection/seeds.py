"""The random numbers of a training, as functions of ``SEED``, process and iteration.

So a checkpoint need not hold the state of any generator, and nothing that happens in between can
disturb them: neither evaluations, nor data workers, nor a kill.
"""

from __future__ import annotations

import random
from enum import IntEnum

import numpy as np
import torch
from detectron2.utils import comm

from nasnet_det.runs.seeds import derive_seed


class Purpose(IntEnum):
    """What random numbers are for; no two purposes share any."""

    WEIGHTS = 0  # of a new model
    ORDER = 1  # of the pictures
    AUGMENTATION = 2
    STEP = 3  # drop path, sampling of proposals
    STATISTICS = 4  # a seed of its own, of which all but the weights depend again
    VALIDATION = 5  # sampling of proposals in a measurement of losses


def seed_step(
    seed: int, purpose: Purpose, iteration: int, *, rank: int | None = None, part: int = 0
) -> None:
    """Seed Python's, numpy's and torch's generators, a GPU's too, for one iteration of a process.

    Args:
        seed: ``SEED``, 0 or more.
        purpose: of the iteration.
        iteration: from 0.
        rank: of the process; None: this one's.
        part: of the iteration's batch, from 0.
    """
    rank = comm.get_rank() if rank is None else rank
    number = derive_seed(seed, purpose, rank, iteration, *([part] if part else []))
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
