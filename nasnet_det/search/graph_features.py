"""An architecture as numbers that a linear model can learn from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from nasnet_det.genotype import FIRST_BLOCK
from nasnet_det.space import DECISIONS_PER_BLOCK, SearchSpace


def compute_graph_features(space: SearchSpace, choices: Sequence[int]) -> np.ndarray:
    """The features of an architecture; lists that describe the same network have the same ones.

    They are: which choice each decision of the canonical list has; and for each of the two cells
    how often each operation is applied to an input of the cell and how often to a block, how often
    each combiner is taken, how often each input is read, how many states are concatenated, and how
    many blocks are in the longest chain.

    Returns:
        (F,) float64, counts and zeros or ones.
    """
    canonical = space.canonicalize(choices)
    one_hot = np.zeros(sum(space.num_choices))
    starts = [0, *accumulate(space.num_choices)]
    one_hot[[start + choice for start, choice in zip(starts, canonical, strict=False)]] = 1
    middle = space.num_blocks * DECISIONS_PER_BLOCK
    cells = [_count(space, canonical[:middle]), _count(space, canonical[middle : 2 * middle])]
    return np.concatenate([one_hot, *cells])


def _count(space: SearchSpace, cell: Sequence[int]) -> np.ndarray:
    operations = np.zeros((2, len(space.operations)))
    combiners = np.zeros(len(space.combiners))
    reads = np.zeros(FIRST_BLOCK + space.num_blocks)
    depths = [0] * FIRST_BLOCK
    for place in range(0, len(cell), DECISIONS_PER_BLOCK):
        *inputs, op_0, op_1, combine = cell[place : place + DECISIONS_PER_BLOCK]
        for state, operation in zip(inputs, (op_0, op_1), strict=True):
            operations[int(state >= FIRST_BLOCK), operation] += 1
            reads[state] += 1
        combiners[combine] += 1
        depths.append(1 + max(depths[state] for state in inputs))
    num_concatenated = (reads == 0).sum()
    return np.concatenate(
        [operations.ravel(), combiners, reads[:FIRST_BLOCK], [num_concatenated, max(depths)]]
    )
