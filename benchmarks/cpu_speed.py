"""How fast our networks are on a CPU beside what a user would take instead.

    python benchmarks/cpu_speed.py                      # every case, some of which take minutes
    python benchmarks/cpu_speed.py --cases "mobile trunk, training" --threads 1

The peers: timm's nasnetalarge, the same network as our nasnet_a_large, weight for weight; and the
trunk of torchvision's ResNet-18, for that of NASNet-A mobile. Both of a pair compute in turn, in
one process, without drop path (see pairs.py). Each is measured in both memory formats; the better
one counts. Each case has a process of its own, as what ran before changes how memory is given out.
Ours is fused and packed, as for predictions. Beside it stands what its convolutions take alone.
Compiled, both go through torch.compile with frozen weights, ours fused. Peak memory is that of two
training steps on four images, in a process of its own. With --precision bfloat16 inference has
weights and images of it, and training autocasts.

cpu_speed.json in benchmarks/results holds one row for each case and number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
import torchvision
import torchvision.models.feature_extraction
from convolutions import list_convolutions, time_convolutions
from pairs import Comparison, time_pairs, write_row
from torch import nn
from torch._inductor import config as inductor_config
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nasnet_det import create_model
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.packing import pack
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import resolve_variant

RESULTS = Path(__file__).resolve().parent / "results" / "cpu_speed.json"
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


class Case(NamedTuple):
    """A question.

    Attributes:
        ours, peer: build the networks.
        images: shape of the batch.
        trains: whether a training step is measured, instead of inference.
        fused: whether ours is fused; ResNet's batch normalizations are folded as well.
        compiled: whether both are compiled.
    """

    ours: Callable[[], nn.Module]
    peer: Callable[[], nn.Module]
    images: tuple[int, int, int, int]
    trains: bool
    fused: bool = False
    compiled: bool = False


def build_large(**options: Any) -> nn.Module:
    """Ours, without drop path."""
    return create_model("nasnet_a_large", drop_path_prob=0.0, dropout=0.0, **options)


def build_timm_large() -> nn.Module:
    """The same network of timm's."""
    return timm.create_model("nasnetalarge")


def build_mobile_trunk() -> nn.Module:
    """Features c2 to c5."""
    spec, genotype = resolve_variant("nasnet_a_mobile")
    return NASNetTrunk(spec, genotype)


def build_resnet18_trunk() -> nn.Module:
    """The features of the same strides."""
    nodes = [f"layer{i}" for i in range(1, 5)]
    return torchvision.models.feature_extraction.create_feature_extractor(
        torchvision.models.resnet18(), nodes
    )


LARGE, SMALL, ONE = (1, 3, 331, 331), (4, 3, 243, 323), (1, 3, 803, 1091)
CASES: dict[str, Case] = {
    "large, inference": Case(build_large, build_timm_large, LARGE, False),
    "large, fused inference": Case(build_large, build_timm_large, LARGE, False, True),
    "large, compiled inference": Case(build_large, build_timm_large, LARGE, False, True, True),
    "large, training": Case(build_large, build_timm_large, LARGE, True),
    "large, training with checkpointing": Case(
        lambda: build_large(activation_checkpointing=True),
        build_timm_large,
        LARGE,
        True,
    ),
    "mobile trunk, fused inference": Case(
        build_mobile_trunk, build_resnet18_trunk, SMALL, False, True
    ),
    "mobile trunk, fused inference of 803x1091": Case(
        build_mobile_trunk, build_resnet18_trunk, ONE, False, True
    ),
    "mobile trunk, training": Case(build_mobile_trunk, build_resnet18_trunk, SMALL, True),
}


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Our networks' speed on a CPU beside others'.")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--peak-memory-of", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_memory_of:
        print(measure_own_peak(*options.peak_memory_of))
        return 0
    if len(options.cases) > 1:
        words = ["--threads", options.threads, "--precision", options.precision]
        words += ["--pairs", options.pairs]
        for name in options.cases:
            command = [sys.executable, __file__, *map(str, words), "--cases", name]
            subprocess.run(command, check=True)
        return 0
    torch.set_num_threads(options.threads)
    (name,) = options.cases
    row = measure(name, options.precision, options.pairs)
    row["threads"] = options.threads
    which = f"{name}, {options.precision}, {options.threads} threads"
    write_row(RESULTS, which, row, torch, torchvision, timm)
    print(f"{which}: {row}", flush=True)
    return 0


def measure(name: str, precision: str, num_pairs: int) -> dict[str, Any]:
    """Times of both in milliseconds, their ratio, and where it is a training its peak memory."""
    case = CASES[name]
    best: dict[str, list[float]] = {}
    formats = {}
    for memory_format in FORMATS:
        torch.manual_seed(0)
        ours, peer = (build_step(case, who, memory_format, precision) for who in ("ours", "peer"))
        times = time_pairs(ours, peer, num_pairs)
        for who, values in times._asdict().items():
            if who not in best or statistics.median(values) < statistics.median(best[who]):
                best[who], formats[who] = values, memory_format
    found = Comparison(best["ours"], best["peer"])
    row = {**found.to_row(), "format": formats}
    if case.fused and not case.compiled:
        row["convolutions_ms"] = measure_convolutions(case, formats["ours"], precision, num_pairs)
    if case.trains:
        peaks = {who: measure_peak(name, who, formats[who], precision) for who in ("ours", "peer")}
        row |= {"peak_mb": peaks, "peak_ratio": peaks["ours"] / peaks["peer"]}
    return row


def measure_convolutions(case: Case, memory_format: str, precision: str, num_runs: int) -> float:
    """What the convolutions of our fused network take alone, in milliseconds: its floor."""
    dtype = getattr(torch, precision)
    network = pack(fuse(case.ours()).to(dtype))
    images = torch.randn(case.images, dtype=dtype)
    with torch.no_grad():
        images = images.contiguous(memory_format=FORMATS[memory_format])
        calls = list_convolutions(network, lambda: network(images))
        return time_convolutions(calls, num_runs)


def build_step(case: Case, who: str, memory_format: str, precision: str) -> Callable[[], None]:
    """One step of a network."""
    dtype = getattr(torch, precision)
    model = (case.ours if who == "ours" else case.peer)()
    images = torch.randn(case.images)
    if case.fused:
        model = fold_peer(model.eval()) if who == "peer" else fuse(model)
    if not case.trains:
        model, images = model.to(dtype), images.to(dtype)
    model.to(memory_format=FORMATS[memory_format])  # type: ignore[call-overload]
    if case.compiled:
        model = compile_frozen(model)
    elif case.fused and who == "ours":
        pack(model)
    images = images.contiguous(memory_format=FORMATS[memory_format])
    if not case.compiled:
        model.train(case.trains)

    def step() -> None:
        autocasts = case.trains and dtype != torch.float32
        with torch.set_grad_enabled(case.trains):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocasts):
                out = model(images)
            if case.trains:
                outs = out.values() if isinstance(out, dict) else [out]
                model.zero_grad()
                sum(o.float().square().mean() for o in outs).backward()  # type: ignore[union-attr]

    return step


def fold_peer(model: nn.Module) -> nn.Module:
    """What ``fuse`` does to ours, for ResNet; timm's NASNet stays as it is."""
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if isinstance(model, torch.fx.GraphModule):
        for name, norm in norms:
            before = name.replace("bn", "conv").replace("downsample.1", "downsample.0")
            conv = model.get_submodule(before)
            assert isinstance(conv, nn.Conv2d)
            fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
            for place, module in ((before, fused), (name, nn.Identity())):
                parent, _, child = place.rpartition(".")
                setattr(model.get_submodule(parent), child, module)
    return model


def compile_frozen(model: nn.Module) -> nn.Module:
    """Compiled for one size, with its weights as constants in the order that is fastest."""
    inductor_config.freezing = True
    compiled: Any = torch.compile(model.eval(), dynamic=False)
    return cast(nn.Module, compiled)


def measure_peak(*case: str) -> float:
    """MB that a process with two training steps needs more than one that only imports."""
    command = [sys.executable, __file__, "--peak-memory-of", *case]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def measure_own_peak(name: str, who: str, memory_format: str, precision: str) -> float:
    """In this process, on Linux."""

    def read_peak() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10

    before = read_peak()
    case = CASES[name]
    case = case._replace(images=(4, *case.images[1:]))
    step = build_step(case, who, memory_format, precision)
    step()
    step()
    return read_peak() - before


if __name__ == "__main__":
    sys.exit(main())
