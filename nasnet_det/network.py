"""Networks: loops over the rows of a plan.

:class:`NASNetTrunk` runs any range of the rows (see :mod:`nasnet_det.plan`) from an explicit state;
:class:`NASNet` is the classifier.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nasnet_det.cell import Cell
from nasnet_det.drop_path import DropPathProgress
from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype, nearest
from nasnet_det.normalization import HalfBatchNorms, NormLayer, get_norm_layer
from nasnet_det.operations import Conv2dSame, to_fast_order
from nasnet_det.plan import (
    NetworkSpec,
    feature_sizes,
    override_spec,
    plan_cells,
    stem_channels,
)
from nasnet_det.variants import resolve_variant

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
        norm_layer = _get_norm_layer(spec)

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
        _initialize(self)

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


def _get_norm_layer(spec: NetworkSpec) -> NormLayer:
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


def _initialize(module: nn.Module) -> None:
    """Variance scaling by fan-out, counted per group (TF-slim's initializer)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.out_channels // m.groups * m.kernel_size[0] * m.kernel_size[1]
            nn.init.normal_(m.weight, std=math.sqrt(2.0 / fan_out))


class AuxiliaryHead(nn.Module):
    """The training-only classifier two thirds down the network.

    Average pooling 5x5 stride 3 without padding, 1x1 convolution to 128, a convolution over the
    whole remaining map to 768, linear. Source: TF-slim nasnet.py ``_build_aux_head``.

    Args:
        in_channels: channels of the feature.
        map_size: height and width of the feature at the network's input size.
        num_classes: number of classes.
        norm_layer: see :func:`~nasnet_det.normalization.get_norm_layer`.
    """

    def __init__(
        self, in_channels: int, map_size: int, num_classes: int, norm_layer: NormLayer
    ) -> None:
        super().__init__()
        self._check_size(map_size, map_size)
        self.kernel_size = (map_size - 5) // 3 + 1
        self.project = nn.Conv2d(in_channels, 128, 1, bias=False)
        self.norm_1 = norm_layer(128)
        self.conv = nn.Conv2d(128, 768, self.kernel_size, bias=False)
        self.norm_2 = norm_layer(768)
        self.linear = nn.Linear(768, num_classes)
        _initialize(self)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) after ReLU -> logits (B, num_classes)."""
        self._check_size(*feature.shape[2:])
        x = F.avg_pool2d(feature, 5, stride=3)
        if x.shape[2:] != (self.kernel_size, self.kernel_size):  # another input size
            x = F.adaptive_avg_pool2d(x, self.kernel_size)
        x = F.relu(self.norm_1(self.project(x)))
        x = F.relu(self.norm_2(self.conv(x)))
        return self.linear(x.flatten(1))

    @staticmethod
    def _check_size(height: int, width: int) -> None:
        if min(height, width) < 5:
            raise InputError(
                "the auxiliary head needs a feature map of at least 5x5, "
                f"got {height}x{width}: use a larger input_size or no auxiliary head"
            )


class NASNetOutput(NamedTuple):
    """What a classifier with an auxiliary head returns in training."""

    logits: torch.Tensor
    aux_logits: torch.Tensor


class NASNet(nn.Module):
    """The image classifier.

    Args:
        spec, genotype: see :func:`~nasnet_det.plan.plan_cells`.
        num_classes: length of the logits; 0 for the pooled features in place of logits.
        aux_head: build the auxiliary head; it runs in training only.
        in_chans, activation_checkpointing: see :class:`NASNetTrunk`.

    Attributes:
        num_features: length of the pooled features.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        genotype: Genotype,
        *,
        num_classes: int = 1000,
        aux_head: bool = False,
        in_chans: int = 3,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_classes(num_classes, aux_head)
        self.trunk = NASNetTrunk(
            spec,
            genotype,
            in_chans=in_chans,
            activation_checkpointing=activation_checkpointing,
        )
        stages = [row for row in self.trunk.plan if row.feature]
        self.aux_feature = stages[-2].feature
        self.aux_head: AuxiliaryHead | None = None
        if aux_head:
            map_size = feature_sizes(spec, genotype, spec.input_size)[stages[-2].name]
            self.aux_head = AuxiliaryHead(
                stages[-2].out_channels, map_size, num_classes, _get_norm_layer(spec)
            )
        self.final_feature = stages[-1].feature
        self.dropout = nn.Dropout(spec.dropout)
        self.num_features = stages[-1].out_channels
        self.classifier = _build_classifier(self.num_features, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Make the last layers anew, for other classes; 0 for none.

        Raises:
            InputError: fewer than 0, or none for an auxiliary head.
        """
        _check_classes(num_classes, self.aux_head is not None)
        like = next(self.trunk.parameters())
        place: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.classifier = _build_classifier(self.num_features, num_classes).to(**place)
        if self.aux_head is not None:
            inner = self.aux_head.linear.in_features
            self.aux_head.linear = nn.Linear(inner, num_classes, **place)

    def forward(self, image: torch.Tensor) -> torch.Tensor | NASNetOutput:
        """(B, in_chans, H, W) -> logits (B, num_classes), with an auxiliary head's beside them."""
        features = self.trunk(image)
        pooled = features[self.final_feature].mean(dim=(2, 3))
        logits = self.classifier(self.dropout(pooled))
        if self.training and self.aux_head is not None:
            return NASNetOutput(logits, self.aux_head(features[self.aux_feature]))
        return logits


def _check_classes(num_classes: int, aux_head: bool) -> None:
    if aux_head and num_classes < 1:
        raise InputError(
            f"wanted at least 1 class, since there is an auxiliary head, got {num_classes=}"
        )
    if num_classes < 0:
        raise InputError(f"wanted a number of classes, or 0 for none, got {num_classes=}")


def _build_classifier(num_features: int, num_classes: int) -> nn.Module:
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


_OF_OTHERS = {
    "pretrained": "nasnet_det.create_model has it",
    "features_only": "create_model(...).trunk gives the features",
    "in_channels": "did you mean in_chans?",
}
"""What arguments of other libraries' functions are here."""


def create_model(
    name_or_genotype: str | Genotype = "nasnet_a_mobile",
    num_classes: int = 1000,
    *,
    aux_head: bool = False,
    in_chans: int = 3,
    activation_checkpointing: bool = False,
    **spec_overrides: Any,
) -> NASNet:
    """Build an image classifier.

    Args:
        name_or_genotype: a name from :func:`~nasnet_det.variants.list_models`,
            ``<genotype>_<N>@<P>``, or a genotype (which takes the mobile network's size unless
            overridden).
        num_classes: length of the logits; 0 for the pooled features in place of logits.
        aux_head, in_chans, activation_checkpointing: see :class:`NASNet`.
        **spec_overrides: fields of :class:`~nasnet_det.plan.NetworkSpec`, such as ``channels=32``.

    Raises:
        InputError: an unknown name or field, or an impossible value.
    """
    for key in _OF_OTHERS.keys() & spec_overrides.keys():
        raise InputError(f"create_model has no argument {key!r}: {_OF_OTHERS[key]}")
    if isinstance(name_or_genotype, Genotype):
        spec, genotype = resolve_variant("nasnet_a_mobile", name_or_genotype)
    else:
        spec, genotype = resolve_variant(name_or_genotype)
    return NASNet(
        override_spec(spec, **spec_overrides),
        genotype,
        num_classes=num_classes,
        aux_head=aux_head,
        in_chans=in_chans,
        activation_checkpointing=activation_checkpointing,
    )
