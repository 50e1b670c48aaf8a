"""The folder --output gets each picture or video with its boxes drawn, and predictions.json in
COCO's format. Its annotations carry scores (all, whatever the threshold for drawing is), masks and
keypoints. No input is written over. A picture that can't be read is named; the others are done.

MODEL.WEIGHTS is a checkpoint, or the ONNX file of nasnet-det export, which needs no Detectron2. The
config is that in the checkpoint, or in its folder; --config-file names another one.
"""

from __future__ import annotations

import argparse
import os
import sys

from nasnet_det.cli.arguments import add_config_arguments, add_runtime_argument

SUMMARY = "Find objects in pictures and videos with a trained detector."
EXAMPLES = (
    "--input photo.jpg --output found MODEL.WEIGHTS output/model_best.pth",
    "--input photos/ more.png --output found --confidence-threshold 0.7 "
    "MODEL.WEIGHTS output/model_best.pth",
    "--input scan.tif --output found --tile 800 --overlap 0.2 MODEL.WEIGHTS output/model_best.pth",
    "--input photos/ --output found MODEL.WEIGHTS detector.onnx",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config, ``input``, ``output``, and how it is looked at."""
    add_config_arguments(parser)
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
    parser.add_argument(
        "--fiftyone", action="store_true", help="write what is found for FiftyOne, too"
    )
    add_runtime_argument(parser)
    parser.set_defaults(interrupted="predictions.json has what was found so far")


def run(options: argparse.Namespace) -> int:
    """Write the predictions; 1 where a picture can't be read."""
    from nasnet_det.detector import prepare_finder
    from nasnet_det.prediction import write_predictions

    pictures, pairs = split_pairs(options.input)
    tiles = {"TEST.TILES.SIZE": options.tile, "TEST.TILES.OVERLAP": options.overlap}
    given = [str(word) for pair in tiles.items() if pair[1] is not None for word in pair]
    opts = [*pairs, *options.opts, *given]
    named = dict(zip(opts[::2], opts[1::2], strict=False))
    open_finder = prepare_finder(
        named.get("MODEL.WEIGHTS", ""),
        batch_size=options.batch_size,
        runtime=options.runtime or "",
        config_file=options.config_file,
        opts=opts,
    )
    found = write_predictions(
        open_finder,
        pictures,
        options.output,
        threshold=options.confidence_threshold,
        frames_per_second=options.fps,
        json_file=options.json,
        with_fiftyone=options.fiftyone,
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
