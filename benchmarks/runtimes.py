"""How long trunks take on a CPU, each in the runtime that suits it best.

    python benchmarks/runtimes.py
    python benchmarks/runtimes.py --cases "one of 803x1091" --threads 1
    python benchmarks/runtimes.py --variant nasnet_a_1@1536 --results box.json

NASNet-A mobile's trunk, or that of --variant, beside that of torchvision's ResNet-18, both with
their batch normalizations folded: in PyTorch (in both orders in memory), in ONNX Runtime and in
OpenVINO, in float32 and in int8 (calibrated on noise, for its time only). With one thread processor
time counts, so that what else the machine does disturbs less. All compute in turn, in one process,
after a warm-up. A case's number is the ratio of the medians of the two best, ours over the peer's:
below 1 ours is faster. Its spread is that of the quartiles of the pairs' ratios.

runtimes.json in benchmarks/results holds one row for each case, precision and number of threads.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
import torchvision
from torch import nn
from torch.fx.experimental import optimization

from nasnet_det.detection.cost import name_device
from nasnet_det.detection.onnx_backbone import TracedBackbone
from nasnet_det.runs.files import write_json
from nasnet_det.runtime.engines import RUNTIMES, start_engine
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.onnx_trace import trace_to_onnx
from nasnet_det.runtime.quantization import quantize
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import resolve_variant

RESULTS = Path(__file__).resolve().parent / "results" / "runtimes.json"
CASES = {"four of 243x323": (4, 3, 243, 323), "one of 803x1091": (1, 3, 803, 1091)}
ORDERS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
PRECISIONS = ("float32", "int8")
NUM_CALIBRATION = 4


def build_nasnet_trunk(variant: str) -> nn.Module:
    """Features c2 to c5, fused."""
    return fuse(NASNetTrunk(*resolve_variant(variant)))


class ResNet18Trunk(nn.Module):
    """The features of the same strides."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torchvision.models.resnet18()

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) -> the features."""
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        c2 = net.layer1(x)
        c3 = net.layer2(c2)
        c4 = net.layer3(c3)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": net.layer4(c4)}


def build_resnet18_trunk() -> nn.Module:
    """ResNet-18's, with its batch normalizations folded."""
    return optimization.fuse(ResNet18Trunk().eval()).requires_grad_(False)


MOBILE = "nasnet_a_mobile"


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Trunks in several runtimes.")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--variant", default=MOBILE, help="of ours")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--results", type=Path, default=RESULTS, help="of one machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for case in options.cases:
        for precision in options.precisions:
            name = f"{case}, {precision}, {options.threads} threads"
            if options.variant != MOBILE:
                name = f"{options.variant}, {name}"
            networks = {"ours": build_nasnet_trunk(options.variant), "peer": build_resnet18_trunk()}
            row = measure(networks, CASES[case], precision, options.pairs)
            rows = (
                json.loads(options.results.read_text())["rows"] if options.results.is_file() else {}
            )
            rows[name] = row
            versions = {m.__name__: m.__version__ for m in (torch, torchvision, onnxruntime)}
            versions["openvino"] = openvino.__version__
            machine = {
                "processor": name_device(torch.device("cpu")),
                "instructions": torch.backends.cpu.get_cpu_capability(),
            }
            write_json(options.results, {"machine": machine, "versions": versions, "rows": rows})
            print(f"{name}: {row}", flush=True)
    return 0


def measure(
    networks: Mapping[str, nn.Module], shape: tuple[int, ...], precision: str, num_pairs: int
) -> dict[str, Any]:
    """Milliseconds of each network in each runtime, and the ratio of the best ones."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    torch.manual_seed(0)
    images = torch.randn(shape)
    steps = {
        (who, runtime): step
        for who, network in networks.items()
        for runtime, step in build_steps(network, images, precision).items()
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for turn in range(num_pairs + 1):
        for key, step in steps.items():
            start = clock()
            step()
            if turn:  # the first is the warm-up
                times[key].append(1000 * (clock() - start))
    medians = {key: statistics.median(values) for key, values in times.items()}
    best = {
        who: min((key for key in medians if key[0] == who), key=medians.__getitem__)
        for who in networks
    }
    pairs = zip(times[best["ours"]], times[best["peer"]], strict=True)
    low, _, high = statistics.quantiles((a / b for a, b in pairs), n=4)
    return {
        "ms": {who: {r: m for (w, r), m in medians.items() if w == who} for who in networks},
        "best": {who: runtime for who, (_, runtime) in best.items()},
        "ratio": medians[best["ours"]] / medians[best["peer"]],
        "quartiles": [low, high],
        "pairs": num_pairs,
    }


def build_steps(
    trunk: nn.Module, images: torch.Tensor, precision: str
) -> dict[str, Callable[[], object]]:
    """Runtime -> one inference, with that precision; PyTorch has float32 alone."""
    steps: dict[str, Callable[[], object]] = {}
    if precision == "float32":
        for name, order in ORDERS.items():
            steps[f"torch, {name}"] = _build_torch_step(trunk, images, order)
    content = export_trunk(trunk)
    if precision == "int8":
        content = quantize(content, (images.numpy() for _ in range(NUM_CALIBRATION)))
    arrays = [np.ascontiguousarray(images.numpy())]
    for runtime in RUNTIMES[1:]:
        engine = start_engine(content, runtime, precision=precision, is_compared=True)
        steps[runtime] = lambda engine=engine: engine.run(arrays)  # type: ignore[misc]
    return steps


def _build_torch_step(
    trunk: nn.Module, images: torch.Tensor, order: torch.memory_format
) -> Callable[[], object]:
    placed = copy.deepcopy(trunk).to(memory_format=order)  # type: ignore[call-overload]
    given = images.contiguous(memory_format=order)

    def step() -> object:
        with torch.no_grad():
            return placed(given)

    return step


def export_trunk(trunk: nn.Module) -> bytes:
    """Its ONNX file, for images of any number and size."""
    image = torch.zeros(1, 3, 96, 128)
    with torch.no_grad():
        names = list(trunk(image))
    sizes = {0: "batch", 2: "height", 3: "width"}
    return trace_to_onnx(TracedBackbone(trunk).eval(), image, sizes=sizes, outputs=names, about={})


if __name__ == "__main__":
    sys.exit(main())
