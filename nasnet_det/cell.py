"""The cell: one module that interprets any :class:`~nasnet_det.genotype.CellSpec`."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.cell_plan import BlockPlan, Value, plan_cell
from nasnet_det.drop_path import DropPath, DropPathProgress
from nasnet_det.genotype import CellSpec
from nasnet_det.normalization import NormLayer
from nasnet_det.operations import (
    FactorizedReduction,
    build_conv_norm,
    build_first_step,
    build_operation,
)


class Cell(nn.Module):
    """``(h_prev, h) -> output`` with ``len(spec.concat) * channels`` channels.

    ``h`` always passes ReLU, 1x1 convolution and normalization. ``h_prev`` is reduced by a
    factorized reduction where it is twice as large as ``h``, projected where only its channels
    differ, and used as it is otherwise. Where there is no ``h_prev`` (the first cell of a
    network), the raw ``h`` takes its place. Source: TF-slim's NasNetABaseCell.

    What is computed, and what only once, is the plan's business (:mod:`nasnet_det.cell_plan`).

    Args:
        spec: the cell.
        h_channels: channels of ``h``.
        h_prev_channels: channels of ``h_prev``, or None for the first cell.
        channels: channels of every state inside the cell.
        stride: stride of the operations that read the two inputs, 1 or 2.
        h_prev_stride: how many times larger than ``h`` the input ``h_prev`` is, 1 or 2.
        norm_layer: see :func:`~nasnet_det.normalization.get_norm_layer`.
        drop_path_prob: final drop probability (see :mod:`nasnet_det.drop_path`).
        depth_ratio: (cell index + 1) / number of cells.
        drop_path_progress: shared by the network; needed where ``drop_path_prob`` is not 0.
        drop_path_schedule: see :func:`~nasnet_det.drop_path.scheduled_drop_path_prob`.
        pool_padding: a key of :data:`~nasnet_det.plan.POOL_PADDINGS`.
    """

    def __init__(
        self,
        spec: CellSpec,
        h_channels: int,
        *,
        h_prev_channels: int | None,
        channels: int,
        stride: int,
        norm_layer: NormLayer,
        h_prev_stride: int = 1,
        drop_path_prob: float = 0.0,
        depth_ratio: float = 1.0,
        drop_path_progress: DropPathProgress | None = None,
        drop_path_schedule: str = "time_and_depth",
        pool_padding: str = "tf",
    ) -> None:
        super().__init__()
        self.spec = spec
        self.has_h_prev = h_prev_channels is not None
        plan = plan_cell(
            spec,
            h_channels,
            h_prev_channels=h_prev_channels,
            channels=channels,
            stride=stride,
            h_prev_stride=h_prev_stride,
        )
        self.projects_h_prev = bool(plan.projection)
        self.output_values = list(plan.output)

        self.project_h = build_conv_norm(h_channels, channels, 1, 1, norm_layer)
        self.project_h_prev: nn.Module = nn.Identity()
        if plan.projection == "factorized":
            assert h_prev_channels is not None
            reduction = FactorizedReduction(h_prev_channels, channels, h_prev_stride, norm_layer)
            self.project_h_prev = nn.Sequential(OrderedDict({"1": reduction}))  # its name
        elif plan.projection:
            assert h_prev_channels is not None
            self.project_h_prev = build_conv_norm(h_prev_channels, channels, 1, 1, norm_layer)

        self.drop_path = DropPath(
            drop_path_prob,
            depth_ratio,
            progress=drop_path_progress or DropPathProgress(),
            schedule=drop_path_schedule,
        )
        self.blocks = nn.ModuleList(
            BlockPaths(
                block, channels, norm_layer, drop_path=self.drop_path, pool_padding=pool_padding
            )
            for block in plan.blocks
        )
        # An input in the output has the cell's stride and channels to match.
        self.project_output = nn.ModuleDict(
            {
                str(state): FactorizedReduction(in_channels, channels, stride, norm_layer)
                for state, in_channels in plan.output_projections.items()
            }
        )

    def forward(
        self,
        h_prev: torch.Tensor | None,
        h: torch.Tensor,
        relu_h_prev: torch.Tensor | None = None,
        relu_h: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, h_prev_channels, ...), (B, h_channels, H, W) -> (B, ..., H / stride, W / stride).

        ``relu_h_prev`` and ``relu_h`` are the ReLUs of both, where the caller has them: two cells
        read each output.
        """
        if relu_h is None:
            relu_h = F.relu(h)
        if not self.has_h_prev:
            h_prev, relu_h_prev = h, relu_h
        if relu_h_prev is None:
            assert h_prev is not None
            relu_h_prev = F.relu(h_prev)
        if self.projects_h_prev:
            values = [self.project_h(relu_h), self.project_h_prev(relu_h_prev)]
        else:
            assert h_prev is not None
            values = [self.project_h(relu_h), h_prev, relu_h_prev]
        for block in self.blocks:
            values = block(values)
        for state, project in self.project_output.items():
            values[int(state)] = project(values[int(state)])
        return torch.cat([values[i] for i in self.output_values], dim=1)


class BlockPaths(nn.Module):
    """One block of a cell: two operations, each on a value, and what combines them.

    Args:
        plan: which values are made and read.
        channels: of the block's output.
        norm_layer: see :func:`~nasnet_det.normalization.get_norm_layer`.
        drop_path: the cell's; an identity is never dropped.
        pool_padding: a key of :data:`~nasnet_det.plan.POOL_PADDINGS`.
    """

    def __init__(
        self,
        plan: BlockPlan,
        channels: int,
        norm_layer: NormLayer,
        *,
        drop_path: DropPath,
        pool_padding: str,
    ) -> None:
        super().__init__()
        self.values = nn.ModuleList(FirstStep(value, pool_padding) for value in plan.values)
        self.left_source, self.right_source = plan.left.source, plan.right.source
        self.drops_left, self.drops_right = plan.left.drops, plan.right.drops
        self.left, self.right = (
            build_operation(path.op, path.in_channels, channels, path.stride, norm_layer)
            for path in (plan.left, plan.right)
        )
        self.combine: nn.Module | None = None  # they are added
        if plan.combine == "concat":
            self.combine = FactorizedReduction(2 * channels, channels, 1, norm_layer)
        self.drop_path = drop_path

    def forward(self, values: list[torch.Tensor]) -> list[torch.Tensor]:
        """The cell's values so far -> with the block's values and its output at their end."""
        for value in self.values:
            values.append(value(values))
        left = self.left(values[self.left_source])
        if self.drops_left:
            left = self.drop_path(left)
        right = self.right(values[self.right_source])
        if self.drops_right:
            right = self.drop_path(right)
        if self.combine is None:
            values.append(left + right)
        else:
            values.append(self.combine(torch.cat([left, right], dim=1)))
        return values


class FirstStep(nn.Module):
    """The ReLU or the pool of one value, for all operations that start with it."""

    def __init__(self, plan: Value, pool_padding: str) -> None:
        super().__init__()
        self.source = plan.source
        self.step = build_first_step(plan.op, plan.stride, pool_padding=pool_padding)

    def forward(self, values: list[torch.Tensor]) -> torch.Tensor:
        """The cell's values so far -> the next one."""
        return self.step(values[self.source])
