"""Convolutions and pools with TensorFlow's SAME padding, computed from the input's size.

At stride 2 an odd size is padded evenly, and an even size gets one more row or column at the bottom
or right. Published weights give the published outputs only this way.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.depthwise import depthwise_conv2d, gains_from_parts
from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest
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
