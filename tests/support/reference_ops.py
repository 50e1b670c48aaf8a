"""Convolution and pooling with TensorFlow's SAME padding, in numpy, from TensorFlow's own rule.

Nothing here uses torch or nasnet_det: these functions are what the modules are compared with.
Arrays are (B, C, H, W).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Padding before and after, as TensorFlow's documentation of ``tf.nn`` words it."""
    rest = size % stride
    total = max(extent - (stride if rest == 0 else rest), 0)
    return total // 2, total - total // 2


def windows(
    x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], dilation: int, fill: float
) -> np.ndarray:
    """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride), *kernel)."""
    extent = [dilation * (k - 1) + 1 for k in kernel]
    padding = [same_padding(n, e, s) for n, e, s in zip(x.shape[2:], extent, stride, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *padding], constant_values=fill)
    view = sliding_window_view(padded, extent, axis=(2, 3))
    view = view[:, :, :: stride[0], :: stride[1], ::dilation, ::dilation]
    out = [math.ceil(n / s) for n, s in zip(x.shape[2:], stride, strict=True)]
    assert view.shape[2:4] == tuple(out), "the rule gives ceil(size / stride)"
    return view


def conv_same(
    x: np.ndarray,
    weight: np.ndarray,
    stride: int | tuple[int, int] = 1,
    *,
    dilation: int = 1,
    depthwise: bool = False,
) -> np.ndarray:
    """``weight`` is (out, in, kh, kw), or (channels, 1, kh, kw) for a depthwise convolution."""
    strides = (stride, stride) if isinstance(stride, int) else stride
    view = windows(x, weight.shape[2:], strides, dilation, 0.0)
    if depthwise:
        return np.einsum("bchwij,cij->bchw", view, weight[:, 0])
    return np.moveaxis(np.tensordot(view, weight, axes=([1, 4, 5], [1, 2, 3])), 3, 1)


def pool_same(
    kind: str, x: np.ndarray, kernel: int, stride: int, fill: float = np.nan
) -> np.ndarray:
    """Pool windows of the image and of padding with the value ``fill``.

    NaN is for padding that is absent: it enters neither the average (nor its count) nor the
    maximum.
    """
    view = windows(x, (kernel, kernel), (stride, stride), 1, fill)
    return {"avg": np.nanmean, "max": np.nanmax}[kind](view, axis=(4, 5))


def factorized_reduction(
    x: np.ndarray, first_weight: np.ndarray, second_weight: np.ndarray
) -> np.ndarray:
    """TF-slim's ``factorized_reduction`` at stride 2, before its normalization."""
    first = x[:, :, ::2, ::2]
    padded = np.pad(x, [(0, 0), (0, 0), (0, 1), (0, 1)])  # zeros at the bottom and right,
    second = padded[:, :, 1:, 1:][:, :, ::2, ::2]  # shifted by one, then subsampled
    return np.concatenate([conv_same(first, first_weight), conv_same(second, second_weight)], 1)
