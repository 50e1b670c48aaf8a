"""Parameters and multiply-adds of modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class ParameterCount(NamedTuple):
    """Trainable parameters, and these together with the running statistics of normalizations.

    The paper's 88.9 M for NASNet-A large is the second number.
    """

    trainable: int
    with_statistics: int


def count_parameters(module: nn.Module) -> ParameterCount:
    """Count the parameters of a module."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    total += sum(b.numel() for b in module.buffers() if b.is_floating_point())
    return ParameterCount(trainable, total)


def count_multiply_adds(module: nn.Module, *inputs: Any) -> int:
    """Multiply-adds of convolutions and linear layers in one evaluation-mode forward pass.

    Args:
        module: its mode is restored afterwards.
        *inputs: what its ``forward`` takes, for example a (1, 3, 224, 224) tensor.
    """
    was_training = module.training
    try:
        with count_calls({"": [module]}) as counts, torch.no_grad():
            module.eval()(*inputs)
    finally:
        module.train(was_training)
    return counts[""]


@contextmanager
def count_calls(parts: Mapping[str, Sequence[nn.Module]]) -> Iterator[dict[str, int]]:
    """Count the multiply-adds of convolutions and linear layers while a model runs.

    This is what papers count as MACs. Normalizations, activations and pools are left out, as are
    products that no layer makes.

    Args:
        parts: name -> modules.

    Yields:
        name -> multiply-adds so far.
    """
    counts = dict.fromkeys(parts, 0)

    def count(part: str, layer: Any, inputs: Any, output: torch.Tensor) -> None:
        # Each weight is used once for each position that is made (transposed: that is read).
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        channels = places.shape[1] if places.dim() == 4 else places.shape[-1]
        counts[part] += layer.weight.numel() * (places.numel() // channels)

    handles = [
        layer.register_forward_hook(partial(count, part))
        for part, modules in parts.items()
        for module in modules
        for layer in module.modules()
        if isinstance(layer, COUNTED)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
