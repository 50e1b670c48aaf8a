"""What every cell of a trunk reads and computes."""

from __future__ import annotations

from typing import Any

import torch

from nasnet_det.plan import CellRow
from nasnet_det.trunk import NASNetTrunk

Step = tuple[CellRow, torch.Tensor, torch.Tensor]


def list_steps(trunk: NASNetTrunk, h_prev: torch.Tensor | None, h: torch.Tensor) -> list[Step]:
    """(row, its ``h``, its output) of each cell, when the trunk runs on a state (or an image)."""
    steps: list[Step] = []

    def see(row: CellRow) -> Any:
        return lambda _, inputs, out: steps.append((row, inputs[1], out))

    handles = [trunk.cells[row.name].register_forward_hook(see(row)) for row in trunk.plan]
    try:
        trunk.run(h_prev, h)
    finally:
        for handle in handles:
            handle.remove()
    return steps
