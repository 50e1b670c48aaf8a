"""Convolutions whose weights lie in oneDNN's own order, for inference on a CPU.

PyTorch brings a convolution's weights into that order at each call. Here it is done once, and the
ReLU or the addition behind a convolution is done while its output is in the processor's cache. The
operations are those that PyTorch's own compiler uses.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.cell import BlockPaths
from nasnet_det.same_padding import Conv2dSame

WRAPPERS = "detectron2.layers.wrappers"  # where its Conv2d is
RELUS = (F.relu, F.relu_)
HAS_PACKED_CONVOLUTIONS = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_convolution_pointwise"
)


class PackedConv2d(nn.Module):
    """A convolution of stride 1, whose weights can be neither read nor moved.

    Args:
        conv: on a CPU, as ``fuse`` leaves it.
        padding: rows and columns on each side.
        relu: whether the ReLU of the output is wanted.
    """

    def __init__(self, conv: Any, padding: tuple[int, int], *, relu: bool = False) -> None:
        super().__init__()
        self.channels, self.dtype = conv.out_channels, conv.weight.dtype
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.activation = getattr(conv, "activation", None)  # of Detectron2's Conv2d
        if self.activation in RELUS:
            self.activation, relu = None, True
        self.epilogue = "relu" if relu else "none"
        self.numbers = list(padding), [1, 1], list(conv.dilation), conv.groups
        pads, strides, dilations, groups = self.numbers
        self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
            conv.weight.detach().to_mkldnn(), pads, strides, dilations, groups
        )

    def forward(self, x: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W), to which ``add`` is added."""
        x = x.to(self.dtype)  # as autocast does
        tensors = self.weight, self.bias
        if add is None:
            out = torch.ops.mkldnn._convolution_pointwise(
                x, *tensors, *self.numbers, self.epilogue, [], ""
            )
        else:
            out = torch.ops.mkldnn._convolution_pointwise.binary(
                x, add.to(self.dtype), *tensors, *self.numbers, "add", 1.0, None, [], None
            )
        return out if self.activation is None else self.activation(out)


class PackedBlock(nn.Module):
    """A block of a cell whose one path ends in a packed convolution, which adds the other.

    Args:
        values: see :class:`~nasnet_det.cell.BlockPaths`; drop path is for training.
        path, other: layers of both, in a row.
        source, other_source: numbers of the values that they read.
    """

    def __init__(
        self,
        values: nn.ModuleList,
        path: list[nn.Module],
        source: int,
        other: list[nn.Module],
        other_source: int,
    ) -> None:
        super().__init__()
        self.values = values
        self.start, self.end, self.source = nn.Sequential(*path[:-1]), path[-1], source
        self.other, self.other_source = nn.Sequential(*other), other_source

    def forward(self, values: list[torch.Tensor]) -> list[torch.Tensor]:
        """See :class:`~nasnet_det.cell.BlockPaths`."""
        for value in self.values:
            values.append(value(values))
        other = self.other(values[self.other_source])
        values.append(self.end(self.start(values[self.source]), other))
        return values


def pack(model: nn.Module) -> nn.Module:
    """Pack the convolutions of a fused network in place, where they are on a CPU.

    Returns:
        the network, which can be neither trained, exported, saved nor moved any more.
    """
    if HAS_PACKED_CONVOLUTIONS:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                setattr(module, name, _pack_block(child) or _pack_conv(child) or child)
    return model


def _pack_block(block: Any) -> PackedBlock | None:
    """Where the block's two paths are added and one of them ends in a convolution."""
    if not isinstance(block, BlockPaths) or block.combine is not None:
        return None
    left = _pack_layers(block.left), block.left_source
    right = _pack_layers(block.right), block.right_source
    for path, other in ((right, left), (left, right)):
        if path[0] and isinstance(path[0][-1], PackedConv2d):
            return PackedBlock(block.values, *path, *other)
    return None


def _pack_layers(operation: nn.Module) -> list[nn.Module]:
    """An operation's layers in a row, each convolution with the ReLU that follows it."""
    layers = [operation]
    while any(isinstance(layer, nn.Sequential) for layer in layers):
        layers = [
            inner
            for layer in layers
            for inner in (layer if isinstance(layer, nn.Sequential) else [layer])
        ]
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    packed: list[nn.Module] = []
    for i, layer in enumerate(layers):
        after = layers[i + 1] if i + 1 < len(layers) else None
        before = packed[-1] if packed else None
        if isinstance(layer, nn.ReLU) and getattr(before, "epilogue", None) == "relu":
            continue
        packed.append(_pack_conv(layer, relu=isinstance(after, nn.ReLU)) or layer)
    return packed


def _pack_conv(module: Any, *, relu: bool = False) -> PackedConv2d | None:
    """Where it is on a CPU, has stride 1 and no normalization of its own."""
    padding = _find_padding(module)
    if (
        padding is None
        or module.weight.device.type != "cpu"
        or module.weight.dtype not in (torch.float32, torch.bfloat16)
        or module.stride != (1, 1)
        or getattr(module, "norm", None) is not None
    ):
        return None
    return PackedConv2d(module, padding, relu=relu)


def _find_padding(module: Any) -> tuple[int, int] | None:
    """Of a convolution that pads evenly with zeros, whatever the size; else None."""
    if type(module) is Conv2dSame:
        extents = [(k - 1) * d for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        return None if extents[0] % 2 or extents[1] % 2 else (extents[0] // 2, extents[1] // 2)
    kind = type(module)
    is_plain = kind is nn.Conv2d or (issubclass(kind, nn.Conv2d) and kind.__module__ == WRAPPERS)
    if is_plain and module.padding_mode == "zeros" and isinstance(module.padding, tuple):
        return module.padding
    return None
