"""The convolutional part of a network: a loop over the rows of its plan.

:class:`NASNetTrunk` runs any range of the rows (see :mod:`nasnet_det.plan`) from an explicit state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nasnet_det.cell import Cell
from nasnet_det.drop_path import DropPathProgress
from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.near_names import nearest
from nasnet_det.normalization import HalfBatchNorms, NormLayer, get_norm_layer
from nasnet_det.plan import NetworkSpec, plan_cells, stem_channels
from nasnet_det.same_padding import Conv2dSame, to_fast_order

torch.fx.wrap("to_fast_order")  # here too, where it is called


class NASNetTrunk(nn.Module):
    """The convolutional part of a network, or any range of its cells.

    On a CPU all maps are in channels-last order, whatever the input's.

    Args:
        spec, genotype: see :func:`~nasnet_det.plan.plan_cells`.
        start: name of the first cell to run; None runs from the image, the stem included.
        stop: name of the last cell to run; None runs to the end.
        out_features: which features to keep for the result; None keeps all.
        in_chans: channels of the image.
        activation_checkpointing: recompute each cell in the backward pass to save memory.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        genotype: Genotype,
        *,
        start: str | None = None,
        stop: str | None = None,
        out_features: Collection[str] | None = None,
        in_chans: int = 3,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if in_chans < 1:
            raise InputError(f"wanted at least 1 channel of the image, got in_chans={in_chans}")
        plan = plan_cells(spec, genotype)
        names = [row.name for row in plan]
        for name in (start, stop):
            if name is not None and name not in names:
                raise InputError(f"unknown cell {name!r}, {nearest(name, names)}")
        first = names.index(start) if start else 0
        last = names.index(stop) if stop else len(plan) - 1
        if last < first:
            raise InputError(f"the trunk would stop at {stop!r}, before it starts at {start!r}")
        self.spec, self.genotype = spec, genotype
        self.plan = plan[first : last + 1]
        # TorchScript reads no rows.
        self._keeps_h_prev = [row.keeps_h_prev for row in self.plan]
        self._features = [
            row.feature
            if row.feature and (out_features is None or row.feature in out_features)
            else ""
            for row in self.plan
        ]
        self.activation_checkpointing = activation_checkpointing
        self.drop_path_progress = DropPathProgress()
        norm_layer = build_norm_layer(spec)

        self.stem: nn.Module | None = None
        if start is None:
            self.stem = nn.Sequential()
            width = stem_channels(spec)
            if spec.stem == "imagenet":  # VALID: no padding
                self.stem.add_module("conv", nn.Conv2d(in_chans, width, 3, stride=2, bias=False))
            else:
                self.stem.add_module("conv", Conv2dSame(in_chans, width, 3))
            self.stem.add_module("norm", norm_layer(width))
        self.cells = nn.ModuleDict(
            {
                row.name: Cell(
                    getattr(genotype, row.kind),
                    row.h_channels,
                    h_prev_channels=row.h_prev_channels,
                    channels=row.channels,
                    stride=row.stride,
                    h_prev_stride=row.h_prev_stride,
                    norm_layer=norm_layer,
                    drop_path_prob=spec.drop_path_prob,
                    depth_ratio=row.depth_ratio,
                    drop_path_progress=self.drop_path_progress,
                    drop_path_schedule=spec.drop_path_schedule,
                    pool_padding=spec.pool_padding,
                )
                for row in self.plan
            }
        )
        initialize(self)

    def run(
        self, h_prev: torch.Tensor | None, h: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Run the cells on a state; what no later cell reads is let go of.

        Args:
            h_prev: the first cell's; None where it has none.
            h: likewise; the image (B, 3, H, W) of a trunk with a stem.

        Returns:
            the last cell's ``h``; its output; and the features, after ReLU.
        """
        h = to_fast_order(h)
        if self.stem is not None:
            h = to_fast_order(self.stem(h))  # an image of one channel has no order
        features: dict[str, torch.Tensor] = {}
        relu_h = F.relu(h)
        relu_h_prev: torch.Tensor | None = None
        if h_prev is not None:
            h_prev = to_fast_order(h_prev)
            relu_h_prev = F.relu(h_prev)
        for i, cell in enumerate(self.cells.values()):
            if torch.jit.is_scripting():
                out = cell(h_prev, h, relu_h_prev, relu_h)
            else:
                out = self._run_cell(cell, h_prev, h, relu_h_prev, relu_h)
            if self._features[i]:
                features[self._features[i]] = F.relu(out)
            if i == len(self._features) - 1:
                return h, out, features
            if not self._keeps_h_prev[i]:
                h_prev, relu_h_prev = h, relu_h
            h = out
            relu_h = features[self._features[i]] if self._features[i] else F.relu(out)
        raise ValueError("a trunk has at least one cell")

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features after ReLU, one for each stride.

        Args:
            image: (B, 3, H, W).

        Returns:
            ``c<k>`` -> (B, channels, about H / 2**k, about W / 2**k); sizes follow VALID padding
            in the stem and SAME padding after it.
        """
        return self.run(None, image)[2]

    def _run_cell(
        self,
        cell: Any,
        h_prev: torch.Tensor | None,
        h: torch.Tensor,
        relu_h_prev: torch.Tensor | None,
        relu_h: torch.Tensor,
    ) -> torch.Tensor:
        call: Any = cell
        if self.training and torch.is_autocast_enabled("cpu"):
            call = partial(_call_with_half_norms, cell)
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return call(h_prev, h, relu_h_prev, relu_h)
        return checkpoint(  # which holds what it gets: only what the cell reads
            call,
            None if cell.projects_h_prev else h_prev,
            relu_h if cell.has_h_prev else h,
            relu_h_prev,
            relu_h,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _unchanged_running_statistics(cell)),
        )


def _call_with_half_norms(cell: nn.Module, *states: torch.Tensor | None) -> torch.Tensor:
    with HalfBatchNorms():
        return cell(*states)


def build_norm_layer(spec: NetworkSpec) -> NormLayer:
    """The normalization that a network's spec names, for a number of channels."""
    return get_norm_layer(spec.norm, eps=spec.norm_eps, momentum=spec.norm_momentum)


@contextmanager
def _unchanged_running_statistics(module: nn.Module) -> Iterator[None]:
    """Recompute a forward pass without counting its batch twice in batch normalizations."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    saved = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:  # SyncBatchNorm insists on a counter
        m.momentum = 0.0
        m.num_batches_tracked = copy.deepcopy(m.num_batches_tracked)
    try:
        yield
    finally:
        for m, (momentum, num_batches_tracked) in zip(norms, saved, strict=True):
            m.momentum, m.num_batches_tracked = momentum, num_batches_tracked


def initialize(module: nn.Module) -> None:
    """Variance scaling by fan-out, counted per group (TF-slim's initializer)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.out_channels // m.groups * m.kernel_size[0] * m.kernel_size[1]
            nn.init.normal_(m.weight, std=math.sqrt(2.0 / fan_out))
