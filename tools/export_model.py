"""Export a trained classifier, or its backbone, for other runtimes.

    python tools/export_model.py output/classification/mine/model_best.pth classifier.onnx
    python tools/export_model.py output/classification/mine/model_best.pth backbone.pt2 --backbone
    python tools/export_model.py backbone.safetensors backbone.onnx

The ending says the format: .onnx, .pt2 (torch.export) or .ts (TorchScript). A checkpoint gives the
classifier with the output logits, or with --backbone its trunk with the features c2, c3, ...; a
file of tools/export_backbone.py is a trunk already. Images come in any number and size, as floats,
whitened with the mean and the deviation in the file's metadata. The export is compared with the
network on odd and even sizes, and is only written where no output differs by more than 1e-4 of its
largest value. A mistake is reported in one sentence and exit status 1 (2 for the arguments). For
the detector of this project: tools/export_backbone.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from nasnet_det.runtime.export import FORMATS, OPSET, ExportError, build_exportable, export_model
from nasnet_det.weights import read_weights
from nasnet_det.weights.backbone_file import BackboneCard, make_card, read_card


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``weights``, ``output``, ``backbone`` and ``opset``."""
    parser = argparse.ArgumentParser(
        prog="export_model.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("weights", type=Path, help="a classifier's checkpoint, or a backbone")
    parser.add_argument("output", type=Path, help=f"ends with {', '.join(FORMATS)}")
    parser.add_argument("--backbone", action="store_true", help="the trunk of a checkpoint")
    parser.add_argument("--opset", type=int, default=OPSET, help=f"of ONNX; {OPSET} if not given")

    def error(message: str) -> NoReturn:
        print(f"export_model.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.output.suffix not in FORMATS:
        error(f"wanted an output that ends with {', '.join(FORMATS)}, got {options.output}")
    return options


def read(path: Path) -> tuple[BackboneCard, dict[str, torch.Tensor], bool]:
    """Card and weights of a file, and whether it holds a trunk alone.

    Raises:
        ValueError: it can't be read, or says not what it is.
    """
    if path.suffix == ".safetensors":
        weights = read_weights(str(path))["model"]
        card = read_card(path)
        if card is None:
            raise ExportError(
                f"{path}: wanted a file of tools/export_backbone.py, got other weights"
            )
        return card, weights, True
    from nasnet_det.classification.checkpoint import get_evaluated_weights, load_checkpoint

    state = load_checkpoint(path)
    return make_card(state, str(path)), get_evaluated_weights(state), False


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if the file is written."""
    options = parse_arguments(arguments)
    try:
        card, weights, is_trunk = read(options.weights)
        model = build_exportable(card, weights, backbone=options.backbone or is_trunk)
        comparisons = export_model(model, options.output, card, opset=options.opset)
    except ValueError as error:
        print(f"export_model.py: {error}", file=sys.stderr)
        return 1
    for comparison in comparisons:
        height, width = comparison.size
        print(f"{height}x{width}: largest difference {comparison.difference:.2g}")
    names = ", ".join(model.names)
    print(f"{options.output}: {FORMATS[options.output.suffix]}, image -> {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
