"""SOURCE is a COCO JSON, or what convert-data reads. OUT gets train.json and val.json. Rare classes
are dealt out first, so that they are in both if they can be. With --images, pictures that look the
same stay together. The same seed gives the same parts.
"""

from __future__ import annotations

import argparse

SUMMARY = "Split a data set into train and val, by image."
EXAMPLES = (
    "annotations.json --images pictures --out parts",
    "annotations.json --images pictures --out parts --val 0.1 --seed 1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The source, the folder of pictures, the share and the seed."""
    parser.add_argument("source", metavar="SOURCE", help="what to split")
    parser.add_argument("--out", required=True, metavar="OUT", help="a new or an empty folder")
    parser.add_argument("--images", default="", metavar="FOLDER", help="where the pictures lie")
    parser.add_argument(
        "--val", type=float, default=0.2, metavar="SHARE", help="of the pictures (0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(0)")


def run(options: argparse.Namespace) -> None:
    """Split, and print what is in the parts."""
    from nasnet_det.data.splitting import PARTS, split_data

    split = split_data(
        options.source,
        options.out,
        images=options.images,
        share=options.val,
        seed=options.seed,
    )
    for part, images, objects in zip(PARTS, split.num_images, split.num_objects, strict=True):
        print(f"{options.out}/{part}.json: {images:,} images, {objects:,} objects")
    if split.num_kept:
        print(f"{split.num_kept:,} images stay with another one that looks the same")
    elif not split.image_root:
        print("without --images, pictures that look the same are not looked for")
    if split.in_one:
        print(f"in one part alone: {', '.join(split.in_one)}")
