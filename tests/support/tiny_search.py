"""The smallest real search: five children of one block, on random pictures of 8x8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SMALL_SEARCH = [
    "SEARCH.NUM_TRIALS",
    "5",
    "SEARCH.SAMPLER.MINIBATCH",
    "3",
    "SEARCH.SPACE.NUM_BLOCKS",
    "1",
    "SEARCH.SPACE.OPERATIONS",
    "['identity','conv_1x1','sep_conv_3x3']",
    "SEARCH.CHILD.EPOCHS",
    "1",
    "SEARCH.CHILD.NUM_CELLS_PER_STAGE",
    "1",
    "SEARCH.CHILD.CHANNELS",
    "4",
    "SEARCH.CHILD.BATCH_SIZE",
    "16",
    "SEARCH.DATA.NUM_HELD_OUT",
    "30",
    "SEARCH.DATA.IMAGE_SIZE",
    "8",
    "SEARCH.DATA.UPSAMPLED_SIZE",
    "10",
]


def write_images(path: Path) -> str:
    """90 random pictures of three classes; the file's path."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    np.savez(path, x_train=pixels, y_train=np.arange(90) % 3)
    return str(path)


TINY_BENCHMARK = [
    *("SEARCH.SPACE.NUM_BLOCKS", "1", "SEARCH.CHILD.CHANNELS", "2"),
    *("SEARCH.CHILD.BATCH_SIZE", "16", "SEARCH.DATA.NUM_TRAIN", "60"),
    *("SEARCH.DATA.NUM_HELD_OUT", "30", "SEARCH.DATA.IMAGE_SIZE", "8"),
    *("SEARCH.DATA.UPSAMPLED_SIZE", "10"),
]
"""What makes the children of search/cifar10_cpu.yaml tiny, on the same pictures."""
