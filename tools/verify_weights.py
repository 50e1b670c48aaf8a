"""Run published weights in our network and in another implementation, and compare.

    python tools/verify_weights.py nasnet_a_large.safetensors --against timm --images photos/
    python tools/verify_weights.py NASNet-mobile.h5 --against keras --images a.jpg b.jpg
    python tools/verify_weights.py nasnet://nasnet_a_large.cadene --against cadene --images a.jpg

FILE is what tools/convert_weights.py wrote, a published file, or nasnet:// with a name. Both
networks get the same tensors and the same images, ours with the other's pools at the borders.
Printed is the largest difference of the logits and of every feature level, relative to the largest
value there; exit status 1 if one is over --tolerance. The images are resized to --size, by default
the one that the network was made for; Cadene's networks are right at that size only, where ours
follow the image's. The other implementations: pip install 'nasnet-det[peers]'.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_picture
from nasnet_det.variants import resolve_variant
from nasnet_det.weights import load_published
from nasnet_det.weights.classifier import ConvertedWeights
from nasnet_det.weights.peers import PEERS, build_ours, build_peer, compare, run_ours


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``file``, ``against``, ``images``, ``size`` and ``tolerance``."""
    parser = argparse.ArgumentParser(
        prog="verify_weights.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="converted or published weights")
    parser.add_argument("--against", required=True, choices=PEERS)
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="PATH", help="pictures, folders"
    )
    parser.add_argument(
        "--size", nargs="+", type=int, metavar="PIXELS", help="height and width, or one for both"
    )
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="X", help="default: 1e-5")

    def error(message: str) -> NoReturn:
        parser.exit(2, f"verify_weights.py: {message}\n")

    parser.error = error  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.size and (len(options.size) > 2 or min(options.size) < 32):
        error(f"--size: wanted one or two numbers of at least 32, got {options.size}")
    return options


def read_image(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, height, width) in [-1, 1].

    Raises:
        PictureError: it can't be read as a picture.
    """
    resized = read_picture(path).resize(size[::-1])
    return (pil_to_tensor(resized)[None].float() / 255 - 0.5) / 0.5


def verify(
    converted: ConvertedWeights, against: str, paths: Sequence[Path], size: tuple[int, int]
) -> dict[str, float]:
    """The largest difference of each output over all images."""
    theirs = build_peer(against, converted, size)
    ours = build_ours(converted, against)
    differences: dict[str, list[float]] = {}
    for path in tqdm(paths, unit="image"):
        image = read_image(path, size)
        wanted = theirs(image)
        if not converted.metadata["num_classes"]:
            del wanted["logits"]
        for name, value in compare(run_ours(ours, image), wanted).items():
            differences.setdefault(name, []).append(value)
    return {name: float(np.max(values)) for name, values in differences.items()}  # or NaN


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 after a difference or a mistake, 2 after one in the arguments."""
    options = parse_arguments(arguments)
    try:
        paths = find_pictures(options.images)
        converted = load_published(options.file)
        about = converted.metadata
        native = resolve_variant(about["variant"])[0].input_size
        height, width = (options.size or [native])[0], (options.size or [native])[-1]
        largest = verify(converted, options.against, paths, (height, width))
    except (ValueError, OSError) as error:
        print(f"verify_weights.py: {error}", file=sys.stderr)
        return 1
    print(
        f"{about['variant']} of {about['origin']} against {options.against}: {len(paths)} images "
        f"of {height}x{width}, largest relative differences:"
    )
    for name, value in largest.items():
        print(f"  {name:<8} {value:.1e}")
    over = [name for name, value in largest.items() if not value <= options.tolerance]
    if over:
        print(
            f"verify_weights.py: the networks differ by more than {options.tolerance:g} in "
            f"{', '.join(over)}",
            file=sys.stderr,
        )
        return 1
    print(f"equal within {options.tolerance:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
