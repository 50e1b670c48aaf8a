"""One seed for a search; every random choice in it has a stream and a number of its own.

So no choice depends on which other choices were made before it, or by which process.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for. The values are part of every result: never change them."""

    CONTROLLER = 1  # its first weights
    MINIBATCH = 2  # architectures drawn from the controller, by minibatch
    EVOLUTION = 3  # tournament and mutation, by trial
    OPTUNA = 4  # Optuna's own samplers, by trial
    CHILD = 5  # training of a child, by trial
    SPLIT = 6  # which training images are held out
    RETRAIN = 7  # retraining of an architecture, by the checksum of its canonical form


def derive_seed(seed: int, stream: Stream, number: int = 0) -> int:
    """A well-mixed seed from 0 to 2**32 - 1.

    Raises:
        ValueError: ``seed`` is negative.
    """
    if seed < 0:
        raise ValueError(f"wanted a seed of at least 0, got {seed}")
    return int(np.random.SeedSequence([seed, stream, number]).generate_state(1)[0])
