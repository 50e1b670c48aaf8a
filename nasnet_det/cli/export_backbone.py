"""The file holds the weights of the trunk (the moving average, where there is one) and a card:
genotype, network, preprocessing and accuracy. Whatever builds a detector compares the card with its
config, so that a backbone can't run with another one's preprocessing unnoticed. What has to stand
in that config is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Make a trained classifier the detector's backbone: one file for MODEL.WEIGHTS."
EXAMPLES = (
    "output/classification/cifar10_cpu/model_best.pth backbone.safetensors",
    "output/pipeline/classifier/model_final.pth exported/backbone.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``checkpoint``, ``output`` and ``half``."""
    parser.add_argument("checkpoint", type=Path, help="model_best.pth or another of a training")
    parser.add_argument("output", type=Path, help="a name that ends with .safetensors")
    parser.add_argument(
        "--half", action="store_true", help="convolutions in float16: half of the space"
    )


def run(options: argparse.Namespace) -> None:
    """Write the file, and print the lines of the detector's config."""
    if options.output.suffix != ".safetensors":
        options.parser.error(f"wanted an output that ends with .safetensors, got {options.output}")
    from nasnet_det.classification import export_backbone

    card = export_backbone(options.checkpoint, options.output, half=options.half)
    if card.score:
        print(f"top-1 {card.score['top1']:.4f} of the test images of {len(card.classes)} classes")
    settings = card.get_detector_settings().items()
    lines = [f"{key} {str(v)!r}" if isinstance(v, list) else f"{key} {v}" for key, v in settings]
    print("its detector's config needs:", *lines, f"MODEL.WEIGHTS {options.output}", sep="\n  ")
