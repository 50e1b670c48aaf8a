"""What single operations cost on one thread of a CPU, as PyTorch has them and as ours are.

    python benchmarks/cpu_operations.py

Maps are (2, 168, 42, 42), those of NASNet-A large's first stage. Both ways compute in turn; a
number is the least processor time of 9 runs, in milliseconds, so that what else the machine does
disturbs little. cpu_operations.json in benchmarks/results holds a row for each operation.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.depthwise import depthwise_conv2d
from nasnet_det.runs.files import write_json
from nasnet_det.same_padding import pointwise_conv2d

RESULTS = Path(__file__).resolve().parent / "results" / "cpu_operations.json"
SHAPE = (2, 168, 42, 42)
NUM_RUNS = 9


def main() -> int:
    """Measure and write."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = {}
    for name, (before, now) in {**list_orders(), **list_convolutions()}.items():
        times: list[list[float]] = [[], []]
        for run in range(NUM_RUNS + 2):
            for way, values in zip((before, now), times, strict=True):
                start = time.thread_time()
                way()
                if run >= 2:
                    values.append(1000 * (time.thread_time() - start))
        rows[name] = {"before": min(times[0]), "now": min(times[1])}
        print(name, rows[name], flush=True)
    write_json(RESULTS, {"shape": SHAPE, "runs": NUM_RUNS, "rows": rows})
    return 0


Ways = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def list_orders() -> Ways:
    """The same operation on contiguous maps and on channels-last ones."""
    contiguous = torch.randn(SHAPE)
    maps = contiguous, contiguous.contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(SHAPE[1])
    operations: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "average 3x3": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        "maximum 3x3": lambda x: F.max_pool2d(x, 3, 1, 1),
        "batch normalization in training": norm,
    }

    def on(which: int, operation: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        return lambda: operation(maps[which])

    return {name: (on(0, operation), on(1, operation)) for name, operation in operations.items()}


def list_convolutions() -> Ways:
    """On channels-last maps, by PyTorch and by ours; gradients are those of the kernel alone."""
    x = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
    ways: Ways = {}
    for kernel in (5, 7):
        weight = torch.randn(SHAPE[1], 1, kernel, kernel, requires_grad=True)
        padding = (kernel // 2, kernel // 2)
        outs = (
            F.conv2d(x, weight, None, 1, padding, 1, SHAPE[1]),
            depthwise_conv2d(x, weight, (1, 1), padding),
        )
        grad = torch.randn_like(outs[0])

        def backward(
            out: torch.Tensor, weight: torch.Tensor = weight, grad: torch.Tensor = grad
        ) -> Callable[[], object]:
            return lambda: torch.autograd.grad(out, weight, grad, retain_graph=True)

        ways[f"gradient of a depthwise {kernel}x{kernel} kernel"] = (
            backward(outs[0]),
            backward(outs[1]),
        )
    for channels in (264, 1008):
        wide = torch.randn(1, channels, 42, 42).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(168, channels, 1, 1)
        ways[f"1x1 convolution of {channels} channels, one image"] = (
            partial(F.conv2d, wide, weight),
            partial(pointwise_conv2d, wide, weight, None, (1, 1), 1),
        )
    return ways


if __name__ == "__main__":
    sys.exit(main())
