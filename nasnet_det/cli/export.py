"""The ending says the format: .onnx, .pt2 (torch.export) or .ts (TorchScript). A checkpoint gives
the classifier with the output logits, or with --backbone its trunk with the features c2, c3, ...; a
file of nasnet-det export-backbone is a trunk already. Images come in any number and size, as
floats, whitened with the mean and the deviation in the file's metadata. The export is compared with
the network on odd and even sizes, and is only written where no output differs by more than 1e-4 of
its largest value.

A detector's checkpoint becomes an ONNX file as a whole: a picture goes in, and boxes, scores,
classes and masks come out. It is compared on pictures of the test set. The config is that in the
checkpoint; --config-file names another one. --int8 makes it small and fast, with pictures like
those that it will see.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Export a trained detector or classifier, or its backbone, for other runtimes."
EXAMPLES = (
    "output/classification/cifar10_cpu/model_best.pth classifier.onnx",
    "output/classification/cifar10_cpu/model_best.pth backbone.pt2 --backbone",
    "backbone.safetensors backbone.onnx",
    "output/detector/model_best.pth detector.onnx",
    "output/detector/model_best.pth detector.onnx --int8 photos",
)
FORMATS = {".pt2": "torch.export", ".onnx": "ONNX", ".ts": "TorchScript"}
OPSET = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``weights``, ``output``, what is exported, and how."""
    parser.add_argument("weights", type=Path, help="a checkpoint, or a backbone")
    parser.add_argument("output", type=Path, help=f"ends with {', '.join(FORMATS)}")
    parser.add_argument("--backbone", action="store_true", help="the trunk of a checkpoint")
    parser.add_argument("--opset", type=int, default=OPSET, help=f"of ONNX; {OPSET} if not given")
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="of a detector; then KEY VALUE"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=argparse.SUPPRESS)
    parser.add_argument("--int8", metavar="PICTURES", help="a folder that calibrates a detector")


def run(options: argparse.Namespace) -> None:
    """Write the file, and print how it agrees with the network."""
    from nasnet_det.weights.file import is_detector

    if options.config_file or is_detector(options.weights):
        run_detector(options)
        return
    if options.opts or options.int8:
        options.parser.error(
            "wanted a detector's checkpoint or --config-file with KEY VALUE and --int8, "
            f"got {options.weights} alone"
        )
    if options.output.suffix not in FORMATS:
        options.parser.error(
            f"wanted an output that ends with {', '.join(FORMATS)}, got {options.output}"
        )
    from nasnet_det.classification import read_network
    from nasnet_det.runtime import export

    if options.opset != OPSET and options.output.suffix != ".onnx":
        options.parser.error(
            f"--opset: wanted an output that ends with .onnx, got {options.output}"
        )
    card, weights, is_trunk = read_network(options.weights)
    backbone = options.backbone or is_trunk
    exported = export(card, weights, options.output, backbone=backbone, opset=options.opset)
    for comparison in exported.comparisons:
        height, width = comparison.size
        print(f"{height}x{width}: largest difference {comparison.difference:.2g}")
    names = ", ".join(exported.names)
    print(f"{options.output}: {FORMATS[options.output.suffix]}, image -> {names}")


def run_detector(options: argparse.Namespace) -> None:
    """Export a detector."""
    if options.output.suffix != ".onnx" or options.backbone:
        options.parser.error(
            "wanted an output that ends with .onnx, and no --backbone, for a detector; "
            "torch.export and TorchScript hold classifiers and backbones"
        )
    from nasnet_det.detection.config import get_checkpoint_config, get_config
    from nasnet_det.detection.detector_file import export_detector_file

    weights = str(options.weights)
    if options.config_file:
        cfg = get_config(options.config_file, [*options.opts, "MODEL.WEIGHTS", weights])
    else:
        cfg = get_checkpoint_config(weights, options.opts)
    rows = export_detector_file(
        cfg, options.output, pictures=options.int8 or "", opset=options.opset
    )
    for row in rows:
        height, width = row.size
        print(f"{height}x{width}: of {row.num_found} objects the file finds {row.num_equal}")
    print(f"{options.output}: ONNX, image -> boxes, scores, classes")
