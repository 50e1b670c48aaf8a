"""Plans of cells: a cell as a small graph of values, each computed once, as pure numbers.

Every operation but the identity starts with a ReLU or a pool, which have no parameters. Operations
that start alike read the same value, so a plan lists such values once, each before the first block
that reads it:

====== =====================================================================
index  value
====== =====================================================================
0      state 0: ``h`` after its projection
1      state 1: ``h_prev`` after its projection, where it needs one
2      the ReLU of state 1, which comes with the cell's inputs, where state 1 is not projected
then   for each block the ReLUs and pools that it is the first to read, and then its own output
====== =====================================================================

:class:`~nasnet_det.cell.Cell` runs the plan. This module needs the standard library only.
"""

from __future__ import annotations

from typing import NamedTuple

from nasnet_det.genotype import FIRST_BLOCK, H_PREV, CellSpec, H

RELU = "relu"


class Value(NamedTuple):
    """A ReLU or a pool.

    Attributes:
        op: :data:`RELU` or the name of a pool.
        source: the value that it reads.
        stride: 1 or 2; a ReLU's is 1.
    """

    op: str
    source: int
    stride: int


class Path(NamedTuple):
    """What an operation of a block computes from its value.

    Attributes:
        op: name of the operation.
        source: the value that it reads.
        in_channels: channels of that value.
        stride: of the whole operation.
        drops: whether drop path sees it: an identity is never dropped.
    """

    op: str
    source: int
    in_channels: int
    stride: int
    drops: bool


class BlockPlan(NamedTuple):
    """One block.

    Attributes:
        values: what is computed first, in order.
        left, right: its paths.
        combine: ``add`` or ``concat``.
    """

    values: tuple[Value, ...]
    left: Path
    right: Path
    combine: str


class CellPlan(NamedTuple):
    """A cell.

    Attributes:
        projection: of ``h_prev``: ``1x1``, ``factorized`` or, for none, empty.
        blocks: in running order.
        output: the value of each state in the output.
        output_projections: the states among them whose channels or size are not the output's,
            with their channels.
    """

    projection: str
    blocks: tuple[BlockPlan, ...]
    output: tuple[int, ...]
    output_projections: dict[int, int]


def first_step(op: str, in_channels: int, channels: int, stride: int) -> str:
    """What an operation starts with: :data:`RELU`, a pool (its own name) or, empty, nothing."""
    if "_pool_" in op:
        return op
    return "" if op == "identity" and stride == 1 and in_channels == channels else RELU


def plan_cell(
    spec: CellSpec,
    h_channels: int,
    *,
    h_prev_channels: int | None,
    channels: int,
    stride: int,
    h_prev_stride: int = 1,
) -> CellPlan:
    """The values of a cell; for the arguments see :class:`~nasnet_det.cell.Cell`."""
    projection = ""
    if h_prev_channels is not None and H_PREV in spec.used_states():
        if h_prev_stride != 1:
            projection = "factorized"
        elif h_prev_channels != channels:
            projection = "1x1"
    state_channels = [channels, h_channels if h_prev_channels is None else channels]
    state_channels += [channels] * len(spec.blocks)

    states = [H, H_PREV]  # state -> its value
    known: dict[Value, int] = {} if projection else {Value(RELU, H_PREV, 1): 2}
    num_values = len(states) + len(known)
    blocks = []
    for block in spec.blocks:
        values, paths = [], []
        for op, state in zip(block.ops, block.inputs, strict=True):
            path_stride = stride if state < FIRST_BLOCK else 1
            source = states[state]
            step = first_step(op, state_channels[state], channels, path_stride)
            if step:
                value = Value(step, source, 1 if step == RELU else path_stride)
                if value not in known:
                    known[value] = num_values
                    num_values += 1
                    values.append(value)
                source = known[value]
            paths.append(Path(op, source, state_channels[state], path_stride, op != "identity"))
        left, right = paths
        blocks.append(BlockPlan(tuple(values), left, right, block.combine))
        states.append(num_values)
        num_values += 1
    return CellPlan(
        projection,
        tuple(blocks),
        tuple(states[state] for state in spec.concat),
        {
            state: state_channels[state]
            for state in spec.concat
            if state < FIRST_BLOCK and (stride != 1 or state_channels[state] != channels)
        },
    )
