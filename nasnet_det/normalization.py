"""Normalization layers by name, and batch normalization that is frozen."""

# Without postponed annotations: TorchScript reads those of a class as types.

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest
from nasnet_det.plan import NORMS

NormLayer = Callable[[int], nn.Module]
"""Makes a normalization layer for a number of channels."""

MAX_GROUPS, MIN_GROUP_CHANNELS = 32, 4


def get_norm_layer(norm: str, *, eps: float = 1e-3, momentum: float = 0.1) -> NormLayer:
    """A factory of normalization layers.

    Args:
        norm: one of :data:`~nasnet_det.plan.NORMS`; for GN see :func:`count_groups`.
        eps: added to the variance; 1e-3 in the ImageNet networks, 1e-5 in the CIFAR ones.
        momentum: weight of the new batch in the running statistics (1 - TensorFlow's decay).

    Raises:
        InputError: an unknown name.
    """
    if norm == "BN":
        return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)
    if norm == "SyncBN":
        return partial(nn.SyncBatchNorm, eps=eps, momentum=momentum)
    if norm == "FrozenBN":
        return partial(FrozenBatchNorm2d, eps=eps)
    if norm == "GN":
        return partial(GroupNorm2d, eps=eps)
    raise InputError(f"unknown norm {norm!r}, {nearest(norm, NORMS)}")


class HalfBatchNorms(TorchFunctionMode):
    """Inside, batch normalizations train in bfloat16 on a CPU with gradients from float32.

    PyTorch's own takes up to four times as long in bfloat16 as in float32. This is no layer, so
    networks have PyTorch's layers, which its tools and others know.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and kwargs.get("training") and kwargs.get("weight") is not None:
            x, mean, var = args
            if x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.requires_grad:
                numbers = (kwargs[key] for key in ("momentum", "eps"))
                return _BatchNormOfHalf.apply(
                    x, kwargs["weight"], kwargs["bias"], mean, var, *numbers
                )
        return func(*args, **kwargs)


class _BatchNormOfHalf(torch.autograd.Function):
    """See :class:`HalfBatchNorms`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        bias, running_mean, running_var, momentum, ctx.eps = rest
        out, mean, deviation = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, momentum, ctx.eps
        )
        ctx.save_for_backward(x, weight, mean, deviation)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, deviation = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0].float(),
            x.float(),
            weight,
            None,
            None,
            mean,
            deviation,
            True,
            ctx.eps,
            [True, True, True],
        )
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None, None


def count_groups(channels: int) -> int:
    """Groups of a group normalization.

    As many as divide the channels, up to 32 (the GN paper's number, arXiv 1803.08494), with at
    least 4 channels in each; otherwise one. NASNet's widths (11, 22, 44, ...) are rarely multiples
    of 32. A group of one channel would normalize that channel alone, and on a map of one pixel
    leave nothing of it.
    """
    groups = range(1, min(MAX_GROUPS, channels // MIN_GROUP_CHANNELS) + 1)
    return max((g for g in groups if channels % g == 0), default=1)


class GroupNorm2d(nn.GroupNorm):
    """Group normalization whose weights know in how many groups they were trained.

    Weights of other groups have the same names and shapes and compute something else. So their
    number is a buffer, and loading another one, or a file from before there was one, whose groups
    were the most up to 32 that divide the channels, is an error wherever it happens.

    Args:
        channels: of the input; see :func:`count_groups`.
        eps: added to the variance.
    """

    groups: torch.Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(count_groups(channels), channels, eps=eps)
        self.register_buffer("groups", torch.tensor(self.num_groups))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        key = prefix + "groups"
        if prefix + "weight" in state_dict:
            channels = self.num_channels
            before = max(g for g in range(1, 33) if channels % g == 0)
            given = int(state_dict.setdefault(key, torch.tensor(before)))
            if given != self.num_groups:
                raise InputError(
                    f"{prefix}weight was trained with its {channels} channels in {given} groups, "
                    f"and NORM GN has {self.num_groups} now: train such a network anew",
                    where=prefix,
                    wanted=self.num_groups,
                    got=given,
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization with fixed statistics, weight and bias, all of them buffers.

    The buffers have the names of torchvision's and Detectron2's classes, so weights fit both ways.
    The input's precision is kept.

    Args:
        channels: of the input.
        eps: added to the variance.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> the same shape and precision."""
        return normalize_frozen(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.eps
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)  # of a batch normalization that trains
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def normalize_frozen(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Batch normalization with statistics that are given, in the input's precision."""
    if not x.requires_grad:  # one fused operation
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)
    # Behind it, backward would compute gradients of weight and bias too, and keep what these need.
    scale = weight * (var + eps).rsqrt()
    shift = bias - mean * scale
    return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


torch.fx.wrap("normalize_frozen")  # what it does depends on the input


def freeze_norms(module: nn.Module) -> nn.Module:
    """Put a :class:`FrozenBatchNorm2d` in the place of every batch normalization.

    Returns:
        ``module``, changed in place, or what takes its place where it is itself one.
    """
    if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        frozen = FrozenBatchNorm2d(module.num_features, module.eps).to(module.weight.device)
        frozen.load_state_dict(module.state_dict())
        return frozen.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, freeze_norms(child))
    return module
