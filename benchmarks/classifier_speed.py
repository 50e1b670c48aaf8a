"""How many images a second our classifiers train on, beside timm's network of the same cells.

    python benchmarks/classifier_speed.py            # on the GPU where there is one
    python benchmarks/classifier_speed.py --batch-sizes 2 4 --steps 1      # on a CPU

timm has one NASNet, nasnetalarge, which is the same network as our nasnet_a_large, weight for
weight. For NASNet-A 6 @ 768, which CIFAR-10 is trained with, the nearest is timm's class with as
many cells of as many channels; it has the ImageNet stem, which makes the images an eighth as large,
so that it gets images of 256 pixels where ours gets 32: the 18 cells then see the same maps, and
timm's has two small cells more. A step is forward, cross-entropy, backward and SGD. The networks
take turns, each in every precision and memory format; each one's best time counts.

After each pair it writes classifier_speed.json and .md in benchmarks/results. Images a second are
of this machine; what carries over is the ratio.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.models.nasnet import NASNetALarge
from torch import nn

from nasnet_det import create_model
from nasnet_det.complexity import count_multiply_adds, count_parameters
from nasnet_det.runs.files import write_content, write_json

RESULTS = Path(__file__).resolve().parent / "results"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Network(NamedTuple):
    """One of a pair."""

    build: Callable[[], nn.Module]
    image_size: int
    num_classes: int


# Pair -> (ours, timm's).
PAIRS: dict[str, tuple[Network, Network]] = {
    "NASNet-A 6 @ 768": (
        Network(lambda: create_model("nasnet_a_cifar_6_768", 10, drop_path_prob=0.0), 32, 10),
        Network(lambda: NASNetALarge(num_classes=10, num_features=768, stem_size=32), 256, 10),
    ),
    "NASNet-A 6 @ 4032": (
        Network(lambda: create_model("nasnet_a_large", drop_path_prob=0.0), 331, 1000),
        Network(lambda: timm.create_model("nasnetalarge"), 331, 1000),
    ),
}


def main() -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description="Training speed beside timm's NASNet.")
    parser.add_argument("--batch-sizes", type=int, nargs=2, default=[128, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="in a round")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "rounds": options.rounds,
        "steps": options.steps,
        "pairs": {},
    }
    for (name, pair), batch_size in zip(PAIRS.items(), options.batch_sizes, strict=True):
        rows = dict(zip(("ours", "timm"), measure(pair, batch_size, options, device), strict=True))
        ratio = rows["ours"]["images_per_second"] / rows["timm"]["images_per_second"]
        report["pairs"][name] = {"batch_size": batch_size, **rows, "speed_ratio": ratio}
        write_json(RESULTS / "classifier_speed.json", report)
        write_content(RESULTS / "classifier_speed.md", to_markdown(report))
    print(to_markdown(report))
    return 0


def measure(
    pair: tuple[Network, Network],
    batch_size: int,
    options: argparse.Namespace,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Size and cost of both, in turns, so that what slows the machine slows both."""
    rows: list[dict[str, Any]] = []
    models = []
    for network in pair:
        model = network.build()
        image = torch.zeros(1, 3, network.image_size, network.image_size)
        models.append(model)
        rows.append(
            {
                "image_size": network.image_size,
                "parameters": count_parameters(model).trainable,
                "multiply_adds": count_multiply_adds(model, image),
                "settings": {},
            }
        )
    for precision, memory_format in itertools.product(PRECISIONS, FORMATS):
        steps = [
            make_step(
                model.train().to(device).to(memory_format=FORMATS[memory_format]),  # type: ignore[call-overload]
                make_batch(network, batch_size, FORMATS[memory_format], device),
                PRECISIONS[precision],
            )
            for model, network in zip(models, pair, strict=True)
        ]
        times: list[list[float]] = [[], []]
        for _ in range(options.rounds):
            for step, seconds in zip(steps, times, strict=True):
                seconds.append(time_steps(step, options.steps, device))
        for row, seconds in zip(rows, times, strict=True):
            row["settings"][f"{precision}, {memory_format}"] = batch_size / min(seconds)
    for row in rows:
        row["images_per_second"] = max(row["settings"].values())
    return rows


def make_batch(
    network: Network, batch_size: int, memory_format: torch.memory_format, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels."""
    shape = (batch_size, 3, network.image_size, network.image_size)
    images = torch.randn(shape, device=device).contiguous(memory_format=memory_format)
    return images, torch.randint(network.num_classes, (batch_size,), device=device)


def make_step(
    model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], precision: torch.dtype
) -> Callable[[], None]:
    """One training step, after two that are not measured."""
    images, labels = batch
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    step()
    return step


def time_steps(step: Callable[[], None], num_steps: int, device: torch.device) -> float:
    """Seconds of one step."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(num_steps):
        step()
    synchronize(device)
    return (time.perf_counter() - start) / num_steps


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def to_markdown(report: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| cells | network | image | parameters | multiply-adds | images a second | best in |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, pair in report["pairs"].items():
        for who in ("ours", "timm"):
            row = pair[who]
            best = max(row["settings"], key=row["settings"].get)
            lines.append(
                f"| {name} | {who} | {row['image_size']} | {row['parameters'] / 1e6:.1f} M | "
                f"{row['multiply_adds'] / 1e9:.2f} G | {row['images_per_second']:.3g} | {best} |"
            )
    ratios = ", ".join(
        f"{pair['speed_ratio']:.2f} at {name} (batches of {pair['batch_size']})"
        for name, pair in report["pairs"].items()
    )
    lines += [
        "",
        f"Ours over timm's: {ratios}. {report['device']}, torch {report['torch']}, timm "
        f"{report['timm']}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
