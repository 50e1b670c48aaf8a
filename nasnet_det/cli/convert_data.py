"""SOURCE is a COCO JSON, a Pascal VOC folder or one of pictures with XMLs beside them, a data.yaml
of YOLO, a folder of labelme's JSONs, or a CSV. A part of one is named as VOC2007#val; without a
name all parts are converted. OUT gets the annotations, and report.txt and report.json, which say
what was lost: the written files are read again and compared. For COCO and CSV the pictures stay
where they are.
"""

from __future__ import annotations

import argparse

SUMMARY = "Convert annotations between COCO, Pascal VOC, YOLO, labelme and CSV."
EXAMPLES = (
    "VOCdevkit/VOC2007 --out voc_as_coco",
    "VOCdevkit/VOC2007#trainval --out voc_as_coco --keep-difficult",
    "train.json val.json --images pictures --to yolo --out as_yolo",
    "pets/data.yaml --out pets_as_coco",
)
FORMATS = ("coco", "csv", "labelme", "voc", "yolo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sources, the target, and how the sources are meant."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="what to convert")
    parser.add_argument("--out", required=True, metavar="OUT", help="a new or an empty folder")
    parser.add_argument("--to", choices=FORMATS, default="coco", help="(coco)")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="where the pictures lie; one for all sources, or one each",
    )
    parser.add_argument(
        "--pictures", choices=("copy", "link", "none"), default="copy", help="in OUT (copy)"
    )
    parser.add_argument(
        "--classes", default=None, metavar="A,B,C", help="all of them, in the order of their ids"
    )
    parser.add_argument(
        "--first-pixel", type=int, choices=(0, 1), default=None,
        help="the number of the first pixel in the source (VOC 1, CSV 0)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-difficult", action="store_true", default=None,
        help="VOC's difficult objects are trained and evaluated as all others",
    )  # fmt: skip
    parser.add_argument(
        "--size-mismatch", choices=("stop", "picture"), default="stop",
        help="where a picture has another size than its annotations say: stop, or take its own",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Convert, and print what was lost and how to go on."""
    from nasnet_det.data.conversion import convert_data

    converted = convert_data(
        options.sources,
        options.out,
        to=options.to,
        images=options.images,
        pictures=options.pictures,
        size_mismatch=options.size_mismatch,
        classes=options.classes and [name.strip() for name in options.classes.split(",")],
        first_pixel=options.first_pixel,
        keep_difficult=options.keep_difficult,
    )
    for split in converted:
        print(split.describe())
    print(f"written to {options.out}")
    if options.to == "coco":
        for split in converted:
            print(f"  {options.out}/{split.split}.json: the pictures are in {split.image_root}")
