"""Make a trained classifier the detector's backbone: one file for MODEL.WEIGHTS.

    python tools/export_backbone.py output/classification/mine/model_best.pth backbone.safetensors

The file holds the weights of the trunk (the moving average, where there is one) and a card:
genotype, network, preprocessing and accuracy. Whatever builds a detector compares the card with its
config, so that a backbone can't run with another one's preprocessing unnoticed. What has to stand
in that config is printed. A mistake is reported in one sentence and exit status 1 (2 for the
arguments).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nasnet_det.classification.checkpoint import get_evaluated_weights, load_checkpoint
from nasnet_det.weights.backbone_file import BackboneCard, make_card, save_backbone

TRUNK = "trunk."


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``checkpoint`` and ``output``."""
    parser = argparse.ArgumentParser(
        prog="export_backbone.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", type=Path, help="model_best.pth or another of a training")
    parser.add_argument("output", type=Path, help="a name that ends with .safetensors")

    def error(message: str) -> NoReturn:
        print(f"export_backbone.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.output.suffix != ".safetensors":
        error(f"wanted an output that ends with .safetensors, got {options.output}")
    return options


def export(checkpoint: Path, output: Path) -> BackboneCard:
    """Write the backbone of a checkpoint.

    Raises:
        FileError: the checkpoint can't be read, or the output can't be written.
    """
    state = load_checkpoint(checkpoint)
    card = make_card(state, str(checkpoint))
    weights = get_evaluated_weights(state)
    save_backbone(output, {k: v for k, v in weights.items() if k.startswith(TRUNK)}, card)
    return card


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if the file is written."""
    options = parse_arguments(arguments)
    try:
        card = export(options.checkpoint, options.output)
    except ValueError as error:
        print(f"export_backbone.py: {error}", file=sys.stderr)
        return 1
    if card.score:
        print(f"top-1 {card.score['top1']:.4f} of the test images of {len(card.classes)} classes")
    settings = card.get_detector_settings().items()
    lines = [f"{key} {str(v)!r}" if isinstance(v, list) else f"{key} {v}" for key, v in settings]
    print("its detector's config needs:", *lines, f"MODEL.WEIGHTS {options.output}", sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
