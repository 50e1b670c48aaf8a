"""The operations of the search space as modules.

An operation is its first step (:func:`build_first_step`: a ReLU, a pool, or nothing), which a cell
computes once for all that start alike, and the rest (:func:`build_operation`). Together they map
(B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride)); their padding is that
of :mod:`nasnet_det.same_padding`.

Order inside an operation is ReLU, convolution, normalization; convolutions have no bias.
Sources: the paper's section A.4 and TF-slim's nasnet_utils.py for the operations of NASNet-A; the
others follow the same group's AmoebaNet code, since the paper does not describe them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.cell_plan import RELU
from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest
from nasnet_det.normalization import NormLayer
from nasnet_det.same_padding import Conv2dSame, Pool2dSame


class FactorizedReduction(nn.Module):
    """Change the channels, and at stride 2 halve the size by two offset subsamplings.

    Each subsampling is followed by its own 1x1 convolution to half of the channels; the second
    one starts one pixel further down and right, with zeros past the edge. One normalization
    spans both. At stride 1 it is a 1x1 convolution with normalization. The ReLU is the caller's.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.path_2: nn.Module | None = None
        if stride == 1:
            self.path_1 = Conv2dSame(in_channels, channels, 1)
        else:
            if channels < 2:
                raise InputError(
                    f"a factorized reduction needs at least 2 channels, got {channels}"
                )
            # PNASNet-5 mobile has odd ones; TF-slim gives the second path one channel more.
            self.path_1 = Conv2dSame(in_channels, channels // 2, 1)
            self.path_2 = Conv2dSame(in_channels, channels - channels // 2, 1)
        self.norm = norm_layer(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.path_2 is None:
            return self.norm(self.path_1(x))
        first = self.path_1(x[:, :, ::2, ::2])
        second = self.path_2(F.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2])
        return self.norm(torch.cat([first, second], dim=1))


def build_conv_norm(
    in_channels: int,
    channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    norm_layer: NormLayer,
    *,
    dilation: int = 1,
    inner_relu: bool = False,
) -> nn.Sequential:
    """Convolution and normalization, behind a ReLU that is the caller's.

    With ``inner_relu`` it is their own, and works in place: so it must follow a normalization,
    whose output nothing else reads and no gradient needs.
    """
    layers: dict[str, nn.Module] = {"relu": nn.ReLU(inplace=True)} if inner_relu else {}
    layers["conv"] = Conv2dSame(in_channels, channels, kernel_size, stride, dilation=dilation)
    return _named(**layers, norm=norm_layer(channels))


def _named(**layers: nn.Module) -> nn.Sequential:
    """A sequence whose parameters carry the layers' names."""
    return nn.Sequential(OrderedDict(layers))


def _build_identity(in_channels: int, channels: int, stride: int, norm: NormLayer) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return build_conv_norm(in_channels, channels, 1, stride, norm)


def _build_conv_1x1(in_channels: int, channels: int, stride: int, norm: NormLayer) -> nn.Module:
    return build_conv_norm(in_channels, channels, 1, stride, norm)


def _build_after_pool(in_channels: int, channels: int, stride: int, norm: NormLayer) -> nn.Module:
    """The pool has the stride."""
    if in_channels == channels:
        return nn.Identity()
    return build_conv_norm(in_channels, channels, 1, 1, norm)


def _build_separable(
    kernel: int, in_channels: int, channels: int, stride: int, norm: NormLayer
) -> nn.Module:
    """Depthwise and pointwise convolution, twice; only the first has the stride."""

    def once(n: int, s: int, **relu: nn.Module) -> nn.Sequential:
        return _named(
            **relu,
            depthwise=Conv2dSame(n, n, kernel, s, groups=n),
            pointwise=Conv2dSame(n, channels, 1),
            norm=norm(channels),
        )

    return _named(
        separable_1=once(in_channels, stride),
        separable_2=once(channels, 1, relu=nn.ReLU(inplace=True)),
    )


def _build_bottleneck(
    kernels: tuple[tuple[int, int], ...],
    share: float,
    dilation: int,
    in_channels: int,
    channels: int,
    stride: int,
    norm: NormLayer,
) -> nn.Module:
    """Full convolutions between two 1x1 ones, at ``share`` of the channels (source: AmoebaNet).

    The stride of a factorized pair is split between its two axes. Where the bottleneck would have
    less than one channel, the convolutions work on all channels and the 1x1 ones are left out.
    """
    width = int(channels * share)
    layers: dict[str, nn.Module] = {}
    n = in_channels
    if width >= 1:
        layers["reduce"] = build_conv_norm(n, width, 1, 1, norm)
        n = width
    else:
        width = channels
    for i, (kernel_h, kernel_w) in enumerate(kernels, start=1):
        strides = (stride if kernel_h > 1 else 1, stride if kernel_w > 1 else 1)
        layers[f"conv_{i}"] = build_conv_norm(
            n,
            width,
            (kernel_h, kernel_w),
            strides,
            norm,
            dilation=dilation,
            inner_relu=bool(layers),
        )
        n = width
    if n != channels:
        layers["expand"] = build_conv_norm(n, channels, 1, 1, norm, inner_relu=True)
    return _named(**layers)


OPERATIONS: dict[str, Callable[..., nn.Module]] = {
    "identity": _build_identity,
    "conv_1x3_3x1": partial(_build_bottleneck, ((1, 3), (3, 1)), 3 / 8, 1),
    "conv_1x7_7x1": partial(_build_bottleneck, ((1, 7), (7, 1)), 1 / 4, 1),
    "dil_conv_3x3": partial(_build_bottleneck, ((3, 3),), 1 / 4, 2),
    "avg_pool_3x3": _build_after_pool,
    "max_pool_3x3": _build_after_pool,
    "max_pool_5x5": _build_after_pool,
    "max_pool_7x7": _build_after_pool,
    "conv_1x1": _build_conv_1x1,
    "conv_3x3": partial(_build_bottleneck, ((3, 3),), 1 / 4, 1),
    "sep_conv_3x3": partial(_build_separable, 3),
    "sep_conv_5x5": partial(_build_separable, 5),
    "sep_conv_7x7": partial(_build_separable, 7),
}
"""Operation name -> builder ``(in_channels, channels, stride, norm_layer)`` of what follows its
first step.
"""


def build_first_step(op: str, stride: int, *, pool_padding: str = "tf") -> nn.Module:
    """What an operation starts with, see :func:`~nasnet_det.cell_plan.first_step`.

    Args:
        op: ``relu``, the name of a pool, or empty for nothing.
        stride: of a pool, 1 or 2.
        pool_padding: a key of :data:`~nasnet_det.plan.POOL_PADDINGS`.
    """
    if not op:
        return nn.Identity()
    if op == RELU:
        return nn.ReLU()
    kind, _, size = op.split("_")  # max_pool_3x3
    return Pool2dSame(kind, int(size[0]), stride, pool_padding)


def build_operation(
    name: str, in_channels: int, channels: int, stride: int, norm_layer: NormLayer
) -> nn.Module:
    """One operation of the search space without its first step.

    Args:
        name: a key of :data:`OPERATIONS`.
        in_channels: channels of the state that it reads.
        channels: channels that it returns.
        stride: 1 or 2.
        norm_layer: see :func:`~nasnet_det.normalization.get_norm_layer`.
    """
    if name not in OPERATIONS:
        raise InputError(f"unknown operation {name!r}, {nearest(name, OPERATIONS)}")
    return OPERATIONS[name](in_channels, channels, stride, norm_layer)
