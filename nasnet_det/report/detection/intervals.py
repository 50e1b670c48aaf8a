"""Bootstrap confidence intervals over images.

The images of a data set are a sample; another one would give other scores. The bootstrap draws as
many images again, with replacement, and scores each draw. Runs on the same images are scored on the
*same* draws, so in the differences between two runs cancels what makes some images easy for both.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.95
NUM_DRAWS = 1000


def draw_images(num_images: int, num_draws: int = NUM_DRAWS, *, seed: int = 0) -> np.ndarray:
    """How often each image is in each draw, (B, I); the same for the same arguments."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_draws)


def find_interval(values: np.ndarray, *, level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile interval of draws.

    Args:
        values: (B,); NaN where a draw had nothing to score.
        level: share of the draws inside.

    Returns:
        low and high; None if fewer than half of the draws have a value.
    """
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
