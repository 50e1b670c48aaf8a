"""Random numbers that depend on a few whole numbers and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, *numbers: int) -> int:
    """One seed out of several numbers."""
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])


def apply_seeded(transform: Callable[[Any], Any], image: Any, seed: int) -> torch.Tensor:
    """A transform with random numbers of its own; torch's are as they were."""
    saved = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        return transform(image)
    finally:
        torch.set_rng_state(saved)
