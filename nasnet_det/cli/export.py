"""The ending says the format: .onnx, .pt2 (torch.export) or .ts (TorchScript). A checkpoint gives
the classifier with the output logits, or with --backbone its trunk with the features c2, c3, ...; a
file of nasnet-det export-backbone is a trunk already. Images come in any number and size, as
floats, whitened with the mean and the deviation in the file's metadata. The export is compared with
the network on odd and even sizes, and is only written where no output differs by more than 1e-4 of
its largest value.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Export a trained classifier, or its backbone, for other runtimes."
EXAMPLES = (
    "output/classification/cifar10_cpu/model_best.pth classifier.onnx",
    "output/classification/cifar10_cpu/model_best.pth backbone.pt2 --backbone",
    "backbone.safetensors backbone.onnx",
)
FORMATS = {".pt2": "torch.export", ".onnx": "ONNX", ".ts": "TorchScript"}
OPSET = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``weights``, ``output``, ``backbone`` and ``opset``."""
    parser.add_argument("weights", type=Path, help="a classifier's checkpoint, or a backbone")
    parser.add_argument("output", type=Path, help=f"ends with {', '.join(FORMATS)}")
    parser.add_argument("--backbone", action="store_true", help="the trunk of a checkpoint")
    parser.add_argument("--opset", type=int, default=OPSET, help=f"of ONNX; {OPSET} if not given")


def run(options: argparse.Namespace) -> None:
    """Write the file, and print how it agrees with the network."""
    if options.output.suffix not in FORMATS:
        options.parser.error(
            f"wanted an output that ends with {', '.join(FORMATS)}, got {options.output}"
        )
    from nasnet_det.classification import read_network
    from nasnet_det.runtime import export

    card, weights, is_trunk = read_network(options.weights)
    backbone = options.backbone or is_trunk
    exported = export(card, weights, options.output, backbone=backbone, opset=options.opset)
    for comparison in exported.comparisons:
        height, width = comparison.size
        print(f"{height}x{width}: largest difference {comparison.difference:.2g}")
    names = ", ".join(exported.names)
    print(f"{options.output}: {FORMATS[options.output.suffix]}, image -> {names}")
