"""Make a small data set for object detection from pictures that come with scikit-learn.

    python tools/make_demo_data.py output/demo_data
    python tools/make_demo_data.py output/demo_data --num-classes 4 --seed 1 --overwrite

Real handwritten digits, on notes of random sizes and colours, lie on cuts of two photographs.
Training and test share neither a digit nor a part of a photograph. The result is in COCO's format:
``train/``, ``test/``, ``train.json``, ``test.json``; ``crops.npz`` has every digit of the pictures,
cut out, as a classification data set. It takes seconds and needs no network.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

try:
    import numpy as np
    from PIL import Image
except ImportError as error:
    sys.exit(f"make_demo_data.py: {error}; pip install scikit-learn pillow")

SPLITS = ("train", "test")
IMAGE_SIZE = (320, 240)  # width, height in pixels
CROP_SIZE = 32  # height and width of the digits in CROPS, in pixels
CROPS = "crops.npz"  # x_train (N, 32, 32, 3) uint8, y_train (N,), x_test, y_test, as Keras has them
DIGIT_SIZES = (24.0, 80.0)  # the height of a digit's canvas in pixels, drawn on a log scale
NUM_DIGITS = (6, 14)  # an image, both included
MAX_OVERLAP = 0.1  # of the smaller of two boxes
TEST_SHARE = 0.2  # of the handwritten digits
# Interpolation leaves a haze around the strokes: ink below INK[0] is none, above INK[1] is full.
INK = (0.35, 0.7)
# Other pictures from the same arguments need another number here, so that old ones are not reused.
MADE_BY = "tools/make_demo_data.py of nasnet_det, recipe 4"
LICENSES = [
    {"id": 1, "name": "CC BY 2.0", "url": "https://creativecommons.org/licenses/by/2.0/"},
]
CREDITS = (
    "Handwritten digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI "
    "Machine Learning Repository (CC BY 4.0). Photographs: china.jpg by danielbuechele, flower.jpg "
    "by vultilion, both on Flickr (CC BY 2.0). All as copied in scikit-learn, changed here."
)


@dataclass(frozen=True)
class DemoArguments:
    """What decides the content of the data set."""

    num_train: int = 400
    num_test: int = 80
    num_classes: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "num_train": (1, 100_000),
            "num_test": (1, 100_000),
            "num_classes": (1, 10),
            "seed": (0, 2**32),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: wanted a number from {low} to {high}, got {value}")


@dataclass(frozen=True)
class Sources:
    """The material: digits (n, 8, 8) in 0..1, their labels (n,), photographs (H, W, 3) uint8."""

    digits: np.ndarray
    labels: np.ndarray
    photographs: dict[str, np.ndarray]


def load_sources() -> Sources:
    """Read the pictures from the installed scikit-learn.

    Raises:
        ValueError: scikit-learn can't be imported.
    """
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError:
        raise ValueError(
            "the pictures come with scikit-learn, which can't be imported: pip install scikit-learn"
        ) from None
    digits, photographs = load_digits(), load_sample_images()
    names = [Path(name).name for name in photographs.filenames]
    return Sources(
        digits=digits.images / 16.0,
        labels=digits.target,
        photographs=dict(zip(names, photographs.images, strict=True)),
    )


def split_digits(labels: np.ndarray, *, num_classes: int, seed: int) -> dict[str, np.ndarray]:
    """Indices of the digits 0 to ``num_classes - 1`` of each split; no index is in both."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(labels < num_classes))
    num_test = int(len(order) * TEST_SHARE)
    return {"train": order[num_test:], "test": order[:num_test]}


def choose_cut(
    size: tuple[int, int], split: str, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part (x, y, width, height) of a photograph of a size (width, height).

    Training cuts lie in the left half, test cuts in the right one.
    """
    half, height = size[0] // 2, size[1]
    aspect = IMAGE_SIZE[0] / IMAGE_SIZE[1]
    cut_width = int(min(half, height * aspect) * rng.uniform(0.5, 1.0))
    cut_height = int(cut_width / aspect)
    x = int(rng.integers(half - cut_width + 1)) + (half if split == "test" else 0)
    y = int(rng.integers(height - cut_height + 1))
    return x, y, cut_width, cut_height


def render_digit(digit: np.ndarray, size: float) -> np.ndarray:
    """The ink of a digit, enlarged smoothly, with a margin of an eighth of its size.

    Args:
        digit: (8, 8) in 0..1.
        size: pixels that the eight rows take.

    Returns:
        float32 (n, n) in 0..1, n being ten eighths of ``size``.
    """
    padded = np.pad(digit, 1).astype(np.float32)
    side = round(size * padded.shape[0] / digit.shape[0])
    smooth = np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC))
    return np.clip((smooth - INK[0]) / (INK[1] - INK[0]), 0.0, 1.0)


def choose_place(
    size: tuple[int, int], boxes: Sequence[Sequence[int]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """A corner (x, y) for a box of a size (width, height), nearly free of others; None: no room."""
    width, height = size
    for _ in range(20):
        x = int(rng.integers(IMAGE_SIZE[0] - width + 1))
        y = int(rng.integers(IMAGE_SIZE[1] - height + 1))
        if all(overlap((x, y, width, height), box) <= MAX_OVERLAP for box in boxes):
            return x, y
    return None


def overlap(a: Sequence[int], b: Sequence[int]) -> float:
    """The common area of two boxes (x, y, width, height) as a share of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def choose_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random colours (3,) in 0..255 of light paper and of a dark pen."""
    paper = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.5), rng.uniform(0.75, 1.0))
    pen = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.45))
    return np.array(paper) * 255, np.array(pen) * 255


def make_background(
    sources: Sources, split: str, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, Any]]:
    """A cut of a photograph, float (240, 320, 3) in 0..255, and where it comes from."""
    name = sorted(sources.photographs)[int(rng.integers(len(sources.photographs)))]
    photograph = Image.fromarray(sources.photographs[name])
    x, y, width, height = choose_cut(photograph.size, split, rng)
    cut = photograph.resize(IMAGE_SIZE, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))
    is_flipped = bool(rng.random() < 0.5)
    pixels = np.asarray(cut, dtype=np.float64)
    origin = {"photograph": name, "cut": [x, y, width, height], "flipped": is_flipped}
    return pixels[:, ::-1].copy() if is_flipped else pixels.copy(), origin


def make_image(
    sources: Sources, split: str, indices: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, Any], list[dict[str, Any]]]:
    """One picture with its digits.

    Args:
        indices: the digits to choose from.

    Returns:
        uint8 pixels (240, 320, 3); fields of its COCO image; fields of its COCO annotations, whose
        ``digit`` is the index in scikit-learn's ``load_digits``.
    """
    pixels, origin = make_background(sources, split, rng)
    annotations: list[dict[str, Any]] = []
    for _ in range(int(rng.integers(NUM_DIGITS[0], NUM_DIGITS[1] + 1))):
        index = int(rng.choice(indices))
        size = float(np.exp(rng.uniform(*np.log(DIGIT_SIZES))))
        ink = render_digit(sources.digits[index], size)[..., None]
        height, width = ink.shape[:2]
        place = choose_place((width, height), [a["bbox"] for a in annotations], rng)
        if place is None:
            continue
        x, y = place
        paper, pen = choose_colors(rng)
        pixels[y : y + height, x : x + width] = paper * (1 - ink) + pen * ink
        box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
        category = int(sources.labels[index]) + 1
        annotations.append({**box, "category_id": category, "digit": index})
    return pixels.round().astype(np.uint8), origin, annotations


def make_split(
    folder: Path, split: str, arguments: DemoArguments, sources: Sources
) -> dict[str, Any]:
    """Write the pictures of a split to ``folder/<split>`` and return its COCO JSON."""
    indices = split_digits(sources.labels, num_classes=arguments.num_classes, seed=arguments.seed)[
        split
    ]
    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(1, getattr(arguments, f"num_{split}") + 1):
        # A stream for each picture: the first hundred are the same whatever the number is.
        rng = np.random.default_rng([arguments.seed, SPLITS.index(split), i])
        pixels, origin, boxes = make_image(sources, split, indices, rng)
        name = f"{i:06d}.jpg"
        Image.fromarray(pixels).save(folder / split / name, quality=92)
        size = {"width": IMAGE_SIZE[0], "height": IMAGE_SIZE[1]}
        images.append({"id": i, "file_name": name, **size, "license": 1, **origin})
        annotations += [
            {"id": len(annotations) + k, "image_id": i, **box} for k, box in enumerate(boxes, 1)
        ]
    return {
        "info": {
            "description": f"Handwritten digits on notes on photographs, {split} set. {CREDITS}",
            "made_by": MADE_BY,
            "arguments": asdict(arguments),
        },
        "licenses": LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": digit + 1, "name": str(digit), "supercategory": "digit"}
            for digit in range(arguments.num_classes)
        ],
    }


def make_crops(pictures: Path, data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Every box of a split, cut out and resized: (N, 32, 32, 3) uint8, and its digit (N,)."""
    opened = {image["id"]: Image.open(pictures / image["file_name"]) for image in data["images"]}
    crops, labels = [], []
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        crop = opened[annotation["image_id"]].resize(
            (CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC, box=(x, y, x + width, y + height)
        )
        crops.append(np.asarray(crop))
        labels.append(annotation["category_id"] - 1)
    return np.stack(crops), np.array(labels, dtype=np.uint8)


def read_arguments(folder: Path) -> dict[str, Any] | None:
    """The arguments that made a complete data set in ``folder``; None where none is there."""
    arguments = []
    for split in SPLITS:
        try:
            data = json.loads((folder / f"{split}.json").read_text())
            if data["info"]["made_by"] != MADE_BY:
                return None
            arguments.append(data["info"]["arguments"])
            names = {image["file_name"] for image in data["images"]}
            if not names <= set(os.listdir(folder / split)) or not (folder / CROPS).is_file():
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return arguments[0] if arguments[0] == arguments[1] else None


def is_there(folder: Path, arguments: DemoArguments, *, overwrite: bool) -> bool:
    """Whether nothing is left to do; False where the data set is to be made.

    Raises:
        ValueError: ``folder`` must not be replaced.
    """
    if not folder.exists() or (folder.is_dir() and not os.listdir(folder)):
        return False
    found, wanted = read_arguments(folder), asdict(arguments)
    if found is None:  # never remove what may be the user's own
        raise ValueError(
            f"{folder} holds something else than a complete demo data set; name another folder, "
            "or remove it yourself"
        )
    if overwrite:
        return False
    if found != wanted:
        differing = ", ".join(
            f"{key} {found.get(key)} instead of {value}"
            for key, value in wanted.items()
            if found.get(key) != value
        )
        raise ValueError(
            f"{folder} holds a data set of other arguments ({differing}); name another folder, or "
            "replace it with --overwrite"
        )
    return True


def put_in_place(made: Path, folder: Path) -> None:
    """Rename ``made`` to ``folder``; what was there moves beside ``made``."""
    if not folder.exists():
        made.rename(folder)
        return
    replaced = folder.rename(made.with_name("replaced"))
    try:
        made.rename(folder)
    except BaseException:  # a user's interrupt, too, must not cost the earlier data set
        replaced.rename(folder)
        raise


def make_demo_data(folder: Path, arguments: DemoArguments, *, overwrite: bool = False) -> bool:
    """Make the data set; ``folder`` appears when it is complete and not before.

    Args:
        folder: a new or empty folder, or one that an earlier call made.
        overwrite: replace the data set of an earlier call.

    Returns:
        Whether it was made; False where it was there already.

    Raises:
        ValueError: ``folder`` holds something else, or a data set of other arguments without
            ``overwrite``; or scikit-learn is missing.
    """
    if is_there(folder, arguments, overwrite=overwrite):
        return False
    sources = load_sources()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, since a rename is atomic within one file system only.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        crops: dict[str, Any] = {}
        for split in SPLITS:
            data = make_split(made, split, arguments, sources)
            (made / f"{split}.json").write_text(json.dumps(data))
            crops[f"x_{split}"], crops[f"y_{split}"] = make_crops(made / split, data)
        np.savez(made / CROPS, **crops)
        put_in_place(made, folder)
    return True


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Report ``message`` and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after a mistake of the user."""
    defaults = DemoArguments()
    parser = Parser(description="Make a small COCO-format data set of handwritten digits.")
    parser.add_argument("folder", type=Path, help="where to; made when it is not there")
    parser.add_argument("--num-train", type=int, metavar="N", default=defaults.num_train)
    parser.add_argument("--num-test", type=int, metavar="N", default=defaults.num_test)
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="K",
        default=defaults.num_classes,
        help="use the digits 0 to K - 1",
    )
    parser.add_argument("--seed", type=int, metavar="N", default=defaults.seed)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier data set")
    options = parser.parse_args(arguments)
    folder = Path(os.path.abspath(options.folder.expanduser()))
    try:
        demo = DemoArguments(options.num_train, options.num_test, options.num_classes, options.seed)
        is_new = make_demo_data(folder, demo, overwrite=options.overwrite)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{folder} can't be written: {error.filename}: {error.strerror}")
    print(f"{'made' if is_new else 'already there:'} {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
