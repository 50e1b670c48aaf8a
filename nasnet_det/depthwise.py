"""Depthwise convolutions whose kernel's gradient is fast on CPUs.

oneDNN has a fast way to the gradient of a depthwise kernel of 3x3 at stride 1 only; that of a 5x5
or 7x7 one takes 6 to 40 times as long as the convolution itself. But each 3x3 part of a kernel sees
the input as a 3x3 kernel does that starts as many pixels further on, so its gradient is that of a
3x3 kernel on a shifted input: 4 of them make that of a 5x5 kernel, 9 that of a 7x7 one. At stride 2
every second row of a kernel sees every second row of the input, as a kernel of stride 1 does: so it
is four kernels of half the size on four subsampled inputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

PART = 3
MIN_NUMBERS = 2**17
"""Of a float32 map, for each thread: on smaller ones four small products take longer than one."""
Pair = tuple[int, int]

_convolution_backward = torch.ops.aten.convolution_backward


def gains_from_parts(x: torch.Tensor, weight: torch.Tensor, dilation: Pair) -> bool:
    """Whether a depthwise convolution is to be computed by :class:`DepthwiseConv2d`.

    It is on a CPU, where a gradient of the kernel is wanted, and in half precision or large.
    """
    is_half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return (
        (is_half or x.numel() >= MIN_NUMBERS * torch.get_num_threads())
        and weight.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and min(weight.shape[2:]) > PART
        and dilation == (1, 1)
        and x.numel() > 0
    )


def depthwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair
) -> torch.Tensor:
    """The same numbers as ``F.conv2d(x, weight, None, stride, padding, groups=channels)``."""
    if torch.is_autocast_enabled(x.device.type):  # a function of ours gets no casts
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    return DepthwiseConv2d.apply(x, weight, stride, padding)


class DepthwiseConv2d(torch.autograd.Function):
    """See the module."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair
    ) -> torch.Tensor:
        """(B, C, H, W), (C, 1, k, k) -> (B, C, ...)."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of the input by PyTorch, of the kernel in parts."""
        (grad,) = grads
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _differentiate_input(grad, x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            bottom, right = ctx.padding
            if bottom or right:
                x = F.pad(x, (right, right, bottom, bottom))
            grad_weight = torch.empty_like(weight)
            for rows, columns in _phases(ctx.stride):
                part = weight[:, :, rows, columns]
                grad_weight[:, :, rows, columns] = _sum_parts(grad, x[:, :, rows, columns], part)
        return grad_x, grad_weight, None, None


def _differentiate_input(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair
) -> torch.Tensor:
    """PyTorch's, which at stride 2 is slow in half precision."""
    dtype = x.dtype
    if stride != (1, 1) and dtype in (torch.bfloat16, torch.float16):
        grad, weight, x = grad.float(), weight.float(), torch.empty_like(x, dtype=torch.float32)
    return _backward(grad, x, weight, stride, padding, (True, False))[0].to(dtype)


def _phases(stride: Pair) -> list[tuple[slice, slice]]:
    """Rows and columns of kernel and input that meet each other."""
    return [
        (slice(row, None, stride[0]), slice(column, None, stride[1]))
        for row in range(stride[0])
        for column in range(stride[1])
    ]


def _sum_parts(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The gradient of a kernel of stride 1, from a padded input."""
    order = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
    height, width = (size - 1 + PART for size in grad.shape[2:])
    missing = height - x.shape[2], width - x.shape[3]  # where the kernel has less than 3 rows
    if max(missing) > 0:
        x = F.pad(x, (0, max(missing[1], 0), 0, max(missing[0], 0)))
    part = weight.new_zeros((len(weight), 1, PART, PART))
    rows = []
    for top, new_rows in _parts(weight.shape[2]):
        columns = []
        for left, new_columns in _parts(weight.shape[3]):
            seen = x[:, :, top : top + height, left : left + width]
            seen = seen.contiguous(memory_format=order)
            found = _backward(grad, seen, part, (1, 1), (0, 0), (False, True))[1]
            columns.append(found[:, :, new_rows, new_columns])
        rows.append(torch.cat(columns, dim=3))
    return torch.cat(rows, dim=2)


def _parts(size: int) -> list[tuple[int, slice]]:
    """(start, which of its rows are new) of each part of a kernel of ``size`` rows."""
    if size < PART:
        return [(0, slice(size))]
    starts = [*range(0, size - PART, PART), size - PART]
    return [
        (start, slice(PART - (start - before), PART))
        for before, start in zip([-PART, *starts[:-1]], starts, strict=True)
    ]


def _backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Pair,
    padding: Pair,
    wanted: tuple[bool, bool],
) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch's gradients of input and kernel."""
    found: tuple[torch.Tensor, torch.Tensor, None] = _convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), x.shape[1], (*wanted, False)
    )
    return found[:2]
