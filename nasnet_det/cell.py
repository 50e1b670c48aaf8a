"""The cell: one module that interprets any :class:`~nasnet_det.genotype.CellSpec`."""

from __future__ import annotations

import torch
from torch import nn

from nasnet_det.drop_path import DropPath, DropPathProgress
from nasnet_det.genotype import FIRST_BLOCK, H_PREV, Block, CellSpec, H
from nasnet_det.normalization import NormLayer
from nasnet_det.operations import FactorizedReduction, build_operation, build_relu_conv_norm


class Cell(nn.Module):
    """``(h_prev, h) -> output`` with ``len(spec.concat) * channels`` channels.

    ``h`` always passes ReLU, 1x1 convolution and normalization. ``h_prev`` is reduced by a
    factorized reduction where it is twice as large as ``h``, projected where only its channels
    differ, and used as it is otherwise. Where there is no ``h_prev`` (the first cell of a
    network), the raw ``h`` takes its place. Source: TF-slim's NasNetABaseCell.

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
        self.output_states = list(spec.concat)
        self.has_h_prev = h_prev_channels is not None
        used = spec.used_states()

        self.project_h = build_relu_conv_norm(h_channels, channels, 1, 1, norm_layer)
        self.project_h_prev: nn.Module = nn.Identity()
        state_channels = {H: channels, H_PREV: channels}
        if h_prev_channels is None:
            state_channels[H_PREV] = h_channels
        elif H_PREV in used:
            if h_prev_stride != 1:
                self.project_h_prev = nn.Sequential(
                    nn.ReLU(),
                    FactorizedReduction(h_prev_channels, channels, h_prev_stride, norm_layer),
                )
            elif h_prev_channels != channels:
                self.project_h_prev = build_relu_conv_norm(
                    h_prev_channels, channels, 1, 1, norm_layer
                )

        self.drop_path = DropPath(
            drop_path_prob,
            depth_ratio,
            progress=drop_path_progress or DropPathProgress(),
            schedule=drop_path_schedule,
        )

        self.blocks = nn.ModuleList()
        for k, block in enumerate(spec.blocks):
            left, right = (
                build_operation(
                    op,
                    state_channels[state],
                    channels,
                    stride if state < FIRST_BLOCK else 1,
                    norm_layer,
                    pool_padding=pool_padding,
                )
                for op, state in zip(block.ops, block.inputs, strict=True)
            )
            combine = None
            if block.combine == "concat":
                combine = FactorizedReduction(2 * channels, channels, 1, norm_layer)
            self.blocks.append(BlockPaths(block, left, right, combine, self.drop_path))
            state_channels[FIRST_BLOCK + k] = channels

        # An input in the output has the cell's stride and channels to match.
        self.project_output = nn.ModuleDict(
            {
                str(state): FactorizedReduction(state_channels[state], channels, stride, norm_layer)
                for state in spec.concat
                if state < FIRST_BLOCK and (stride != 1 or state_channels[state] != channels)
            }
        )

    def forward(self, h_prev: torch.Tensor | None, h: torch.Tensor) -> torch.Tensor:
        """(B, h_prev_channels, ...), (B, h_channels, H, W) -> (B, ..., H / stride, W / stride)."""
        raw = h
        if self.has_h_prev:
            assert h_prev is not None
            raw = h_prev
        states = [self.project_h(h), self.project_h_prev(raw)]
        for paths in self.blocks:
            states.append(paths(states))
        for state, project in self.project_output.items():
            states[int(state)] = project(states[int(state)])
        return torch.cat([states[i] for i in self.output_states], dim=1)


class BlockPaths(nn.Module):
    """One block of a cell: two operations, each on a state, and what combines them.

    Args:
        block: says which states are read.
        left, right: the operations.
        combine: of both outputs, concatenated; None: they are added.
        drop_path: the cell's; an identity is never dropped.
    """

    def __init__(
        self,
        block: Block,
        left: nn.Module,
        right: nn.Module,
        combine: nn.Module | None,
        drop_path: DropPath,
    ) -> None:
        super().__init__()
        self.left_state, self.right_state = block.inputs
        self.drops_left, self.drops_right = (op != "identity" for op in block.ops)
        self.left, self.right, self.combine = left, right, combine
        self.drop_path = drop_path

    def forward(self, states: list[torch.Tensor]) -> torch.Tensor:
        """The cell's states so far -> the next one."""
        left = self.left(states[self.left_state])
        if self.drops_left:
            left = self.drop_path(left)
        right = self.right(states[self.right_state])
        if self.drops_right:
            right = self.drop_path(right)
        if self.combine is None:
            return left + right
        return self.combine(torch.cat([left, right], dim=1))
