"""The folder --output gets each picture or video with its boxes drawn, and predictions.json in
COCO's format. Its annotations carry scores (all, whatever the threshold for drawing is), masks and
keypoints. No input is written over. A picture that can't be read is named; the others are done.
"""

from __future__ import annotations

import argparse
import os
import sys

from nasnet_det.cli.arguments import (
    add_config_arguments,
    add_runtime_argument,
    list_runtime_pairs,
)

SUMMARY = "Find objects in pictures and videos with a trained detector."
EXAMPLES = (
    "--config-file output/config.yaml --input photo.jpg --output found "
    "MODEL.WEIGHTS output/model_best.pth",
    "--config-file output/config.yaml --input photos/ more.png --output found "
    "--confidence-threshold 0.7 MODEL.WEIGHTS output/model_best.pth",
    "--config-file output/config.yaml --input scan.tif --output found --tile 800 --overlap 0.2 "
    "MODEL.WEIGHTS output/model_best.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config, ``input``, ``output``, and how it is looked at."""
    add_config_arguments(parser, required=True)
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="pictures, folders, videos"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, metavar="P", help="for drawing"
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="pictures or tiles at a time"
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="look at large pictures in tiles of this side, too (TEST.TILES.SIZE)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="SHARE",
        help="of a tile's side with the next one, 0.2 if not given (TEST.TILES.OVERLAP)",
    )
    parser.add_argument(
        "--fps",
        type=float,
        default=0.0,
        metavar="N",
        help="the pictures are the frames of one video, with so many in a second",
    )
    parser.add_argument(
        "--json", default="", metavar="FILE", help="a COCO JSON whose ids the pictures keep"
    )
    add_runtime_argument(parser)
    parser.set_defaults(interrupted="predictions.json has what was found so far")


def run(options: argparse.Namespace) -> int:
    """Write the predictions; 1 where a picture can't be read."""
    from nasnet_det.detection import get_config, predict

    pictures, pairs = split_pairs(options.input)
    tiles = {"TEST.TILES.SIZE": options.tile, "TEST.TILES.OVERLAP": options.overlap}
    given = [str(word) for pair in tiles.items() if pair[1] is not None for word in pair]
    found = predict(
        get_config(
            options.config_file, [*pairs, *options.opts, *given, *list_runtime_pairs(options)]
        ),
        pictures,
        options.output,
        threshold=options.confidence_threshold,
        batch_size=options.batch_size,
        frames_per_second=options.fps,
        json_file=options.json,
    )
    for sentence in found.unreadable:
        print(f"nasnet-det predict: {sentence}", file=sys.stderr)
    print(f"{found.num_pictures} pictures and predictions.json are in {options.output}")
    return 1 if found.unreadable else 0


def split_pairs(words: list[str]) -> tuple[list[str], list[str]]:
    """Pictures, and the KEY VALUE pairs after them, which ``--input`` takes too.

    A camera's ``IMG_0001.JPG`` that is not there is a picture all the same.
    """
    from nasnet_det.data.pictures import has_picture_suffix
    from nasnet_det.data.video import is_video

    def is_key(word: str) -> bool:
        head = word.split(".")[0]
        is_file = os.path.exists(word) or has_picture_suffix(word) or is_video(word)
        return head.isupper() and head.isidentifier() and not is_file

    start = next((i for i, word in enumerate(words) if is_key(word)), len(words))
    return words[:start], words[start:]
