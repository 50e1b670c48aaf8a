"""Random numbers that depend on a few whole numbers and on nothing else.

What is random has a seed of its own, mixed from the run's seed and from numbers that say what it is
for: a purpose, a process, an epoch, a position. So no choice depends on which other choices were
made before it, or by which process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nasnet_det.errors import InputError


def derive_seed(seed: int, *numbers: int) -> int:
    """A well-mixed seed from 0 to 2**32 - 1.

    Args:
        seed: of the run, 0 or more.
        *numbers: 0 or more each; what the random numbers are for.

    Raises:
        InputError: ``seed`` is negative.
    """
    if seed < 0:
        raise InputError(f"wanted a seed of at least 0, got {seed}")
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])


def get_random_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's (CPU) generators, as plain values and tensors."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what :func:`get_random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's (CPU) random numbers from a seed; then they are as before.

    Args:
        seed: 0 to 2**32 - 1, as of :func:`derive_seed`.
    """
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would start CUDA in a worker
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.set_rng_state(saved[2])
