"""Where the features and the stem of torchvision's classifiers are, which say nothing of strides.

The network computes a picture once, and the sizes of the maps tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn


class _Call(NamedTuple):
    """A module that made a map: its name, and the binary logarithms of the strides around it."""

    name: str
    before: int | None
    after: int | None


@torch.no_grad()
def find_features(model: nn.Module, image: torch.Tensor) -> dict[str, str]:
    """The modules whose outputs are features: ``c<k>`` -> the last one with stride ``2**k``.

    A module that goes on by more than one stride, such as a sequence of stages, is looked into; a
    stage or a block, which goes on by one or none, is not.

    Args:
        model: a classifier.
        image: (1, 3, H, W), H and W different multiples of 32.
    """
    calls: list[_Call] = []

    def record(name: str) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            given = inputs[0] if inputs else None
            calls.append(_Call(name, _find_stride(image, given), _find_stride(image, output)))

        return hook

    _run(model, image, {name: record(name) for name, _ in model.named_modules() if name})
    whole = {call.name for call in calls if _is_stage(call)}
    features = {}
    for call in calls:
        parts = call.name.split(".")
        outer = {".".join(parts[:n]) for n in range(1, len(parts))}
        if call.name in whole and not outer & whole:
            features[f"c{call.after}"] = call.name
    return features


def _is_stage(call: _Call) -> bool:
    return call.before is not None and call.after is not None and call.after - call.before <= 1


def _find_stride(image: torch.Tensor, value: Any) -> int | None:
    """The binary logarithm of a map's stride; None: it is no map (B, C, H, W)."""
    if not isinstance(value, torch.Tensor) or value.ndim != 4:
        return None
    sizes = {tuple(side // 2**k for side in image.shape[2:]): k for k in range(6)}
    return sizes.get(tuple(value.shape[2:]))


@torch.no_grad()
def find_stem(model: nn.Module, image: torch.Tensor) -> set[str]:
    """The parameters of the first convolution, and of the normalization right behind it."""
    order: list[str] = []

    def record(name: str) -> Any:
        return lambda *_: order.append(name)

    leaves = {n: m for n, m in model.named_modules() if not list(m.children())}
    _run(model, image, {name: record(name) for name in leaves})
    first = next(i for i, name in enumerate(order) if isinstance(leaves[name], nn.Conv2d))
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    behind = order[first + 1 : first + 2]
    stem = [order[first], *(name for name in behind if isinstance(leaves[name], norms))]
    return {f"{name}.{n}" for name in stem for n, _ in leaves[name].named_parameters()}


def _run(model: nn.Module, image: torch.Tensor, hooks: Mapping[str, Any]) -> None:
    """Compute a picture in evaluation mode, with a hook on each of the modules."""
    handles = [model.get_submodule(n).register_forward_hook(hook) for n, hook in hooks.items()]
    was_training = model.training
    model.eval()(image)
    model.train(was_training)
    for handle in handles:
        handle.remove()
