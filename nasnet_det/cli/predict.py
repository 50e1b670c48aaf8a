"""The folder --output gets each picture with its boxes drawn, and predictions.json, a COCO-format
file whose annotations carry scores (all of them, whatever the threshold for drawing is).
"""

from __future__ import annotations

import argparse
import os
import sys

from nasnet_det.cli.arguments import add_config_arguments

SUMMARY = "Find objects in pictures with a trained detector."
EXAMPLES = (
    "--config-file output/config.yaml --input photo.jpg --output found "
    "MODEL.WEIGHTS output/model_best.pth",
    "--config-file output/config.yaml --input photos/ more.png --output found "
    "--confidence-threshold 0.7 MODEL.WEIGHTS output/model_best.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``config_file``, ``input``, ``output``, ``confidence_threshold`` and ``opts``."""
    add_config_arguments(parser, required=True)
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="pictures, folders"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, metavar="P", help="for drawing"
    )


def run(options: argparse.Namespace) -> int:
    """Write the predictions; 1 where a picture can't be read."""
    from nasnet_det.detection import get_config, predict

    pictures, pairs = split_pairs(options.input)
    found = predict(
        get_config(options.config_file, [*pairs, *options.opts]),
        pictures,
        options.output,
        threshold=options.confidence_threshold,
    )
    for sentence in found.unreadable:
        print(f"nasnet-det predict: {sentence}", file=sys.stderr)
    print(f"{found.num_pictures} pictures and predictions.json are in {options.output}")
    return 1 if found.unreadable else 0


def split_pairs(words: list[str]) -> tuple[list[str], list[str]]:
    """Pictures, and the KEY VALUE pairs after them, which ``--input`` takes too."""

    def is_key(word: str) -> bool:
        head = word.split(".")[0]
        return head.isupper() and head.isidentifier() and not os.path.exists(word)

    start = next((i for i, word in enumerate(words) if is_key(word)), len(words))
    return words[:start], words[start:]
