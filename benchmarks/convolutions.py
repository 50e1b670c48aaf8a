"""The convolutions that a network consists of, each alone: the floor of its time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nasnet_det.runtime.packing import PackedConv2d


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

    kinds = (nn.Conv2d, PackedConv2d)
    convs = [module for module in network.modules() if isinstance(module, kinds)]
    handles = [conv.register_forward_pre_hook(see) for conv in convs]
    run()
    for handle in handles:
        handle.remove()
    return calls


def time_convolutions(calls: list[Callable[[], object]], num_runs: int) -> float:
    """Milliseconds of all, each with its map in the cache, as the step before leaves it there."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def measure(call: Callable[[], object]) -> float:
        call()
        start = clock()
        call()
        return 1000 * (clock() - start)

    return sum(statistics.median(measure(call) for _ in range(num_runs)) for call in calls)
