"""The convolutions that a network consists of, each alone: the floor of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def list_convolutions(network: nn.Module, run: Callable[[], object]) -> list[Callable[[], object]]:
    """Each convolution that a run computes, as a call on a map of the same shape and order.

    Args:
        network: the modules whose convolutions are meant.
        run: what computes with them.
    """
    calls: list[Callable[[], object]] = []
    maps: dict[Any, torch.Tensor] = {}

    def see(conv: nn.Module, inputs: Any) -> None:
        key = inputs[0].shape, inputs[0].stride(), inputs[0].dtype
        if key not in maps:
            maps[key] = torch.randn_like(inputs[0])  # keeps the order
        calls.append(lambda: conv.forward(maps[key]))

    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [conv.register_forward_pre_hook(see) for conv in convs]
    run()
    for handle in handles:
        handle.remove()
    return calls
