"""SOURCE is a COCO JSON, or what convert-data reads; two give train and val. OUT gets a folder for
each class, on which nasnet-det search finds cells of your own, and train-classifier pre-trains a
trunk. A crop is the square around the box with its margin.
"""

from __future__ import annotations

import argparse

SUMMARY = "Cut every object out as a picture in the folder of its class."
EXAMPLES = (
    "train.json val.json --images pictures --out objects",
    "VOCdevkit/VOC2007 --out objects --margin 0.2 --min-size 32",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sources, the folder of pictures, margin and smallest size."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="what to cut out")
    parser.add_argument("--out", required=True, metavar="OUT", help="a new or an empty folder")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="where the pictures lie; one for all sources, or one each",
    )
    parser.add_argument(
        "--margin", type=float, default=0.1, metavar="SHARE", help="of the longer side (0.1)"
    )
    parser.add_argument(
        "--min-size", type=int, default=16, metavar="PIXELS", help="of the longer side (16)"
    )
    parser.add_argument(
        "--broken-images",
        choices=("skip", "stop"),
        default="skip",
        help="what happens at a picture that can't be read (skip)",
    )


def run(options: argparse.Namespace) -> None:
    """Cut out, and print how many of each class."""
    from nasnet_det.data.crops import crop_objects

    made = crop_objects(
        options.sources,
        options.out,
        images=options.images,
        margin=options.margin,
        min_size=options.min_size,
        broken_images=options.broken_images,
    )
    for split, crops in made.items():
        listed = ", ".join(f"{count:,} {name}" for name, count in crops.counts.most_common())
        print(f"{options.out}/{split}: {crops.counts.total():,} pictures: {listed or 'none'}")
        for line in crops.losses.describe():
            print(f"  left out: {line}")
