"""Find objects in pictures with a trained detector.

    python tools/predict.py --config-file output/config.yaml --input photo.jpg --output found \
        MODEL.WEIGHTS output/model_best.pth
    python tools/predict.py --config-file output/config.yaml --input photos/ more.png \
        --output found --confidence-threshold 0.7 MODEL.WEIGHTS output/model_best.pth

The folder --output gets each picture with its boxes drawn, and predictions.json, a COCO-format file
whose annotations carry scores (all of them, whatever the threshold for drawing is).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

try:
    import nasnet_det.detection as detection
except ImportError as error:
    sys.exit(f"predict.py: {error}")

from PIL import Image
from tqdm import tqdm

from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_pixels
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.run import check_names, use_available_device
from nasnet_det.runs.files import write_content


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 after a mistake or where a picture can't be read, 2 after a misuse."""
    options = parse_arguments(arguments)
    try:
        paths = find_pictures(options.input)
        predictor = Predictor(prepare(options))
        output = Path(options.output)
        output.mkdir(parents=True, exist_ok=True)
        unreadable = predict(predictor, paths, output, options.confidence_threshold)
    except (ValueError, OSError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 1
    print(f"{len(paths) - unreadable} pictures and predictions.json are in {output}")
    return 1 if unreadable else 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="predict.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def error(message: str) -> NoReturn:
        parser.exit(2, f"predict.py: {message}\n")

    parser.error = error  # type: ignore[method-assign]
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of the training")
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="pictures, folders"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, metavar="P", help="for drawing"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs of the config")
    # --input would swallow the pairs that follow it, so they start where a config key does.
    words = list(sys.argv[1:] if arguments is None else arguments)
    start = next((i for i, word in enumerate(words) if _is_key(word)), len(words))
    options = parser.parse_args(words[:start])
    options.opts = words[start:]
    return options


def _is_key(word: str) -> bool:
    """Whether a word starts the KEY VALUE pairs: it is in capitals, dotted, and no file."""
    head = word.split(".")[0]
    return head.isupper() and head.isidentifier() and not os.path.exists(word)


def prepare(options: argparse.Namespace) -> Any:
    """The config, on a device that is there."""
    cfg = detection.get_config(options.config_file, options.opts)
    check_names(cfg)
    detection.adopt_pools(cfg)
    with contextlib.suppress(DataError):  # the training's data may be elsewhere by now
        register_config_datasets(cfg)
    use_available_device(cfg)
    cfg.freeze()
    return cfg


def predict(predictor: Predictor, paths: Sequence[Path], output: Path, threshold: float) -> int:
    """Write pictures and predictions.json.

    Returns:
        how many pictures could not be read; each is named on stderr.
    """
    coco: dict[str, Any] = {
        "info": {"weights": predictor.cfg.MODEL.WEIGHTS},
        "images": [],
        "annotations": [],
        "categories": predictor.categories,
    }
    unreadable = 0
    for path in tqdm(paths, unit="image"):
        try:
            image = read_pixels(path)
        except ValueError as error:
            print(f"predict.py: {error}", file=sys.stderr)
            unreadable += 1
            continue
        instances = predictor(image)
        image_id = len(coco["images"]) + 1
        height, width = image.shape[:2]
        name = _free_name(output, path, {item["drawn"] for item in coco["images"]})
        coco["images"].append(
            {
                "id": image_id,
                "file_name": str(path),
                "drawn": name,
                "width": width,
                "height": height,
            }
        )
        coco["annotations"] += predictor.to_annotations(instances, image_id)
        drawn = predictor.draw(image, instances[instances.scores >= threshold])
        Image.fromarray(drawn).save(output / name)
    for number, annotation in enumerate(coco["annotations"], start=1):
        annotation["id"] = number
    write_content(output / "predictions.json", json.dumps(coco))
    return unreadable


def _free_name(output: Path, path: Path, taken: set[str]) -> str:
    """``photo.png``, or ``photo_2.png`` where two folders have a ``photo``."""
    names = (f"{path.stem}{'' if i == 1 else f'_{i}'}.png" for i in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


if __name__ == "__main__":
    sys.exit(main())
