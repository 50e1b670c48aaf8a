"""The operations of the search space as modules, and the TF-style padding that they share.

An operation is its first step (:func:`build_first_step`: a ReLU, a pool, or nothing), which a cell
computes once for all that start alike, and the rest (:func:`build_operation`). Together they map
(B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride)).
Padding follows TensorFlow's SAME rule computed from the input's size: at stride 2 an odd size is
padded evenly and an even size gets one more row or column at the bottom or right. Published
weights give the published outputs only this way.

Order inside an operation is ReLU, convolution, normalization; convolutions have no bias.
Sources: the paper's section A.4 and TF-slim's nasnet_utils.py for the operations of NASNet-A; the
others follow the same group's AmoebaNet code, since the paper does not describe them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.cell_plan import RELU
from nasnet_det.depthwise import depthwise_conv2d, gains_from_parts
from nasnet_det.errors import InputError
from nasnet_det.genotype import nearest
from nasnet_det.normalization import NormLayer
from nasnet_det.plan import POOL_PADDINGS

# Older ones can't say so.
_is_torch_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def _is_exporting() -> bool:
    """Where a padding that depends on the size has to be an operation of its own."""
    return _is_torch_exporting() or torch.onnx.is_in_onnx_export()


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows (or columns) that TensorFlow's SAME rule adds before and after ``size``.

    That is max(0, (ceil(size / stride) - 1) * stride + kernel - size), written so that a traced
    ``size`` stays one: it is never negative where the kernel is as large as the stride.
    """
    if kernel < stride:
        return 0, 0  # only 1x1 kernels are, at stride 2
    if stride == 1:
        return (kernel - 1) // 2, kernel // 2  # whatever the size
    total = kernel - stride + -size % stride
    return total // 2, total - total // 2


class Conv2dSame(nn.Conv2d):
    """A convolution without bias whose padding follows the SAME rule at any input size."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            kernel_size,
            stride,
            groups=groups,
            dilation=dilation,
            bias=False,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride, dilation = self.stride, self.dilation
        return conv2d_same(
            x,
            self.weight,
            self.bias,
            (stride[0], stride[1]),
            (dilation[0], dilation[1]),
            self.groups,
        )


def conv2d_same(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> torch.Tensor:
    """A convolution that pads by itself where the padding is even, as at stride 1 and odd sizes."""
    extent = (weight.shape[2] - 1) * dilation[0] + 1, (weight.shape[3] - 1) * dilation[1] + 1
    padding = (extent[0] - 1) // 2, (extent[1] - 1) // 2
    if extent == (1, 1):
        return pointwise_conv2d(x, weight, bias, stride, groups)
    if stride != (1, 1):
        top, bottom = _same_padding(x.shape[2], extent[0], stride[0])
        left, right = _same_padding(x.shape[3], extent[1], stride[1])
        size_is_known = True  # one that is traced must not decide
        if not torch.jit.is_scripting():
            size_is_known = not (torch.jit.is_tracing() or torch.compiler.is_compiling())
        if size_is_known and top == bottom and left == right:
            padding = top, left
        else:
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    if not torch.jit.is_scripting():
        is_depthwise = bias is None and weight.shape[1] == 1 and weight.shape[0] == groups
        if is_depthwise and gains_from_parts(x, weight, dilation):
            return depthwise_conv2d(x, weight, stride, padding)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def pointwise_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, int],
    groups: int,
) -> torch.Tensor:
    """A 1x1 convolution.

    On one thread and with fewer than 16 images PyTorch computes it on a way of its own, which in
    channels-last order takes up to 1.2 times as long as oneDNN (benchmarks/cpu_operations.py). A
    dilation, which means nothing to a 1x1 kernel, makes it take oneDNN.
    """
    if stride != (1, 1):
        # oneDNN's own subsampling writes past its memory in the backward pass, with few channels
        # and channels last (its issue 6035).
        x = x[:, :, :: stride[0], :: stride[1]]
    dilation = 1
    computes_here = True  # and not in another runtime
    if not torch.jit.is_scripting():
        computes_here = not (torch.jit.is_tracing() or torch.compiler.is_compiling())
    if computes_here and x.device.type == "cpu" and x.stride(1) == 1:
        x = x.contiguous(memory_format=torch.channels_last)  # a subsample of odd size is not
        dilation = 2
    return F.conv2d(x, weight, bias, dilation=dilation, groups=groups)


torch.fx.wrap("conv2d_same")  # what it does depends on the input


class Pool2dSame(nn.Module):
    """Average or max pooling with SAME padding.

    Args:
        kind: ``avg`` or ``max``.
        kernel_size: an odd number of pixels.
        stride: 1 or 2.
        padding: a key of :data:`~nasnet_det.plan.POOL_PADDINGS`. With ``tf``, and always at stride
            1, the padding never enters the average or the maximum.
    """

    def __init__(self, kind: str, kernel_size: int, stride: int, padding: str = "tf") -> None:
        super().__init__()
        if padding not in POOL_PADDINGS:
            raise InputError(f"unknown pool padding {padding!r}, {nearest(padding, POOL_PADDINGS)}")
        self.kind, self.kernel_size, self.stride, self.padding = kind, kernel_size, stride, padding
        self.pads_with_zeros = stride > 1 and kind in POOL_PADDINGS[padding]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top, bottom = _same_padding(x.shape[2], self.kernel_size, self.stride)
        left, right = _same_padding(x.shape[3], self.kernel_size, self.stride)
        pads = self.pads_with_zeros
        if not torch.jit.is_scripting():
            pads = pads or (self.stride > 1 and _is_exporting())
        if pads:
            return self._pool_padded(x, (left, right, top, bottom))
        # ceil_mode supplies the one row or column more that SAME adds after an even size.
        if self.kind == "max" and self.stride == 1 and self.kernel_size > 3:
            # The maximum of columns' maxima, which looks at 14 pixels in place of 49.
            k = self.kernel_size
            return F.max_pool2d(F.max_pool2d(x, (k, 1), 1, (top, 0)), (1, k), 1, (0, left))
        if self.kind == "max":
            return F.max_pool2d(x, self.kernel_size, self.stride, (top, left), ceil_mode=True)
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, (top, left), True, count_include_pad=False
        )

    def _pool_padded(self, x: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
        """The same with a padding of its own, which may depend on a size that is not known yet."""
        is_onnx = False
        if not torch.jit.is_scripting():
            is_onnx = torch.onnx.is_in_onnx_export()
        if is_onnx and self.kind == "max" and not self.pads_with_zeros:
            # The border's own values change no maximum, and leave a range that int8 can hold.
            padded = F.pad(x, padding, mode="replicate")
            return F.max_pool2d(padded, self.kernel_size, self.stride)
        if self.kind == "max":
            value = 0.0 if self.pads_with_zeros else -math.inf
            return F.max_pool2d(F.pad(x, padding, value=value), self.kernel_size, self.stride)
        mean = F.avg_pool2d(F.pad(x, padding), self.kernel_size, self.stride)
        if self.pads_with_zeros:
            return mean
        ones = F.pad(x.new_ones((1, 1, x.shape[2], x.shape[3])), padding)
        return mean / F.avg_pool2d(ones, self.kernel_size, self.stride)

    def extra_repr(self) -> str:
        return (
            f"{self.kind}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}"
        )


def to_fast_order(x: torch.Tensor) -> torch.Tensor:
    """Channels last on a CPU, where PyTorch pools and normalizes 3 to 20 times as fast in it.

    What is computed from it keeps the order.
    """
    is_for_here = True  # and not for another runtime
    if not torch.jit.is_scripting():
        is_for_here = not (torch.jit.is_tracing() or _is_exporting())
    if is_for_here and x.device.type == "cpu":
        return x.contiguous(memory_format=torch.channels_last)
    return x


torch.fx.wrap("to_fast_order")  # what it does depends on the input


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
