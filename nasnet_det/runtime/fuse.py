"""Networks for inference: batch normalizations folded into convolutions, sums into products."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nasnet_det.normalization import FrozenBatchNorm2d
from nasnet_det.operations import FactorizedReduction

HALF_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def fuse(model: nn.Module, *, precision: torch.dtype | None = None) -> nn.Module:
    """A copy of a network for inference, which computes the same but for rounding.

    Every batch normalization behind a convolution becomes part of it; whatever follows something
    else, and every group normalization, stays. The copy can't be trained, and its weights have
    other names and numbers: they are not to be saved.

    Args:
        model: any module. Besides ours, Detectron2's convolutions with a normalization are known.
        precision: that in which convolutions and linear layers keep their weights, so that
            ``torch.autocast`` need not cast them for each image; None: as they are.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(fused.modules()):
        for conv, norm in getattr(module, "norm_pairs", ()):
            _fold_pair(module, conv, norm)
        _fold_norms(module)
    if precision is not None:
        for module in fused.modules():
            if isinstance(module, HALF_LAYERS):
                module.to(precision)
    return fused


@torch.no_grad()
def find_norm_pairs(module: nn.Module, image: torch.Tensor) -> tuple[tuple[str, str], ...]:
    """The convolutions of a foreign module with a batch normalization right behind, by name.

    A module that has this as its ``norm_pairs`` is fused like the others. What follows what is not
    asked of the names: the module computes once.

    Args:
        module: in evaluation mode while it is asked.
        image: that it takes.
    """
    made_by: dict[int, str] = {}
    kept: list[torch.Tensor] = []  # so that no other tensor gets its id
    pairs: list[tuple[str, str]] = []
    calls: Counter[str] = Counter()

    def see_conv(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            calls[name] += 1
            made_by[id(output)] = name
            kept.append(output)

        return hook

    def see_norm(name: str) -> Any:
        def hook(_: nn.Module, inputs: Any) -> None:
            calls[name] += 1
            if id(inputs[0]) in made_by:
                pairs.append((made_by[id(inputs[0])], name))

        return hook

    handles = []
    for name, part in module.named_modules():
        if type(part) is nn.Conv2d or type(part).__name__ == "Conv2dSame":  # timm's
            handles.append(part.register_forward_hook(see_conv(name)))
        elif getattr(part, "running_mean", None) is not None:
            handles.append(part.register_forward_pre_hook(see_norm(name)))
    was_training = module.training
    module.eval()(image)
    module.train(was_training)
    for handle in handles:
        handle.remove()
    return tuple(pair for pair in pairs if all(calls[name] == 1 for name in pair))


def _fold_pair(module: nn.Module, conv: str, norm: str) -> None:
    parent, _, name = norm.rpartition(".")
    old = module.get_submodule(norm)
    _fold(old, [module.get_submodule(conv)])
    rest = list(old.children())  # timm's have an activation inside
    setattr(module.get_submodule(parent), name, nn.Sequential(*rest) if rest else nn.Identity())


def _fold_norms(module: Any) -> None:
    """Fold the batch normalizations that are directly in a module."""
    if isinstance(module, FactorizedReduction):
        if _can_fold(module.norm):
            convs = [conv for conv in (module.path_1, module.path_2) if conv is not None]
            _fold(module.norm, convs)
            module.norm = nn.Identity()
    elif isinstance(module, nn.Sequential):
        for (_, layer), (name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(layer, nn.Conv2d) and _can_fold(norm):
                _fold(norm, [layer])
                setattr(module, name, nn.Identity())
    elif isinstance(module, nn.Conv2d) and _can_fold(getattr(module, "norm", None)):
        _fold(module.norm, [module])  # Detectron2's Conv2d
        setattr(module, "norm", None)  # noqa: B010 - a module to mypy


def _can_fold(norm: Any) -> bool:
    """Batch normalizations of PyTorch's, ours or Detectron2's; not those without statistics."""
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
    is_frozen = type(norm).__name__ == "FrozenBatchNorm2d"
    # One with parts, such as timm's with an activation, does more than to normalize.
    is_known = (isinstance(norm, kinds) or is_frozen) and not list(norm.children())
    return is_known and norm.running_mean is not None


@torch.no_grad()
def _fold(norm: Any, convs: Sequence[Any]) -> None:
    """Fold a normalization into the convolutions whose concatenated outputs it reads."""
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    sizes = [conv.out_channels for conv in convs]
    for conv, factor, bias in zip(convs, scale.split(sizes), shift.split(sizes), strict=True):
        weight = conv.weight.double() * factor[:, None, None, None]
        if conv.bias is not None:
            bias = bias + factor * conv.bias.double()
        conv.weight.copy_(weight)
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
