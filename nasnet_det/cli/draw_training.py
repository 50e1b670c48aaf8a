"""The config is that of a training. The sheet has the first pictures of the training with the
config's SEED, after mosaic, copy-paste and all augmentations, with their boxes and masks. No file
but the sheet is written.
"""

from __future__ import annotations

import argparse

from nasnet_det.cli.arguments import add_config_arguments

SUMMARY = "Draw the pictures that a detector's training sees."
EXAMPLES = (
    "--config-file my.yaml --out sheet.jpg",
    "--config-file my.yaml --out sheet.jpg --pictures 48 INPUT.MOSAIC.PROB 1.0",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config, the sheet, and how many pictures."""
    add_config_arguments(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the sheet: .jpg, .png ...")
    parser.add_argument("--pictures", type=int, default=24, metavar="N", help="(24)")


def run(options: argparse.Namespace) -> None:
    """Draw, and say what is drawn."""
    from nasnet_det.detection import draw_training, get_config

    cfg = get_config(options.config_file, options.opts)
    num_pictures, num_objects = draw_training(cfg, options.out, num_pictures=options.pictures)
    print(f"{options.out}: {num_pictures} pictures with {num_objects} objects")
