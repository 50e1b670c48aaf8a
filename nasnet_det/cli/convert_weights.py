"""SOURCE is a file of timm's or Cadene's (.pth, .safetensors), of Keras's (.h5, .keras), or the
common beginning of the names of a TensorFlow checkpoint's files: TF-slim's, or that of the Object
Detection API's faster_rcnn_nas, which becomes a whole detector. It is recognised from its tensors;
one that is left over or missing is an error. Before their names may stand what wrappers and
training tools leave. The network may lie in another one, whose own tensors are left out and named.
The result carries the network, the pools that it was trained with, the preprocessing, the order of
the classes, and the source's SHA-256.
"""

from __future__ import annotations

import argparse

SUMMARY = "Convert a published checkpoint to this project's names."
EXAMPLES = (
    "nasnetalarge-dc4a7b8b.pth --out nasnet_a_large.safetensors",
    "NASNet-mobile.h5 --out nasnet_a_mobile.safetensors",
    "nasnet-a_large/model.ckpt --out nasnet_a_large.pth",
    "faster_rcnn_nas/model.ckpt --out faster_rcnn_nas.safetensors",
)
ORIGINS = ("timm", "cadene", "keras", "tf_slim", "tf_detection")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``source``, ``out``, ``origin`` and ``ema``."""
    parser.add_argument("source", metavar="SOURCE", help="the published file")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="FILE.safetensors, or FILE.pth for Detectron2"
    )
    parser.add_argument(
        "--origin",
        choices=ORIGINS,
        default="",
        help="whose pools the network has at its borders, where the source does not tell: timm's "
        "and Cadene's files have the same names",
    )
    parser.add_argument(
        "--ema",
        action="store_true",
        help="of a training's checkpoint take the average of the weights, not the last ones",
    )


def run(options: argparse.Namespace) -> None:
    """Write the file, and print the lines of a detector's config."""
    from nasnet_det.weights import convert

    converted = convert(options.source, options.out, origin=options.origin, average=options.ema)
    about = converted.metadata
    head = f"{about['num_classes']} classes" if about["num_classes"] else "no classifier"
    print(f"{about['variant']} of {about['origin']}: {len(converted.weights)} tensors, {head}")
    if about.get("taken"):
        others = f"; --ema takes {about['left']}" if about["left"] and not options.ema else ""
        print(f"taken: {about['taken']}{others}")
    if about.get("left_out"):
        print(f"not of the network, and left out: {about['left_out']}")
    if about["origin"] == "tf_detection":
        print(f"written to {options.out}, a whole detector; its config:")
        print("  COCO-Detection/faster_rcnn_nasnet_a_large_C4_1200_tf.yaml")
        print(f"  MODEL.WEIGHTS {options.out}")
        return
    print(f"written to {options.out}; in a detector's config:")
    print(f"  MODEL.WEIGHTS {options.out} MODEL.NASNET.VARIANT {about['variant']}")
    print(f"  MODEL.NASNET.POOL_PADDING {about['pool_padding']} INPUT.FORMAT RGB")
    print("  MODEL.PIXEL_MEAN [127.5,127.5,127.5] MODEL.PIXEL_STD [127.5,127.5,127.5]")
