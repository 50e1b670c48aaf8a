"""FILE is what nasnet-det convert-weights wrote, a published file, or nasnet:// with a name. Both
networks get the same tensors and the same images, ours with the other's pools at the borders.
Printed is the largest difference of the logits and of every feature level, relative to the largest
value there; the status is 1 if one is over --tolerance. The images are resized to --size, by
default the one that the network was made for; Cadene's networks are right at that size only, where
ours follow the image's. The other implementations: pip install 'nasnet-det[peers]'.
"""

from __future__ import annotations

import argparse

from nasnet_det.errors import InputError

SUMMARY = "Run published weights in our network and in another implementation, and compare."
EXAMPLES = (
    "nasnet_a_large.safetensors --against timm --images photos/",
    "NASNet-mobile.h5 --against keras --images a.jpg b.jpg",
    "nasnet://nasnet_a_large.cadene --against cadene --images a.jpg",
)
PEERS = ("timm", "cadene", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``file``, ``against``, ``images``, ``size`` and ``tolerance``."""
    parser.add_argument("file", metavar="FILE", help="converted or published weights")
    parser.add_argument("--against", required=True, choices=PEERS)
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="PATH", help="pictures, folders"
    )
    parser.add_argument(
        "--size", nargs="+", type=int, metavar="PIXELS", help="height and width, or one for both"
    )
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="X", help="default: 1e-5")


def run(options: argparse.Namespace) -> None:
    """Print the differences; too large ones are an error."""
    size = options.size and (options.size[0], options.size[-1])
    if size and (len(options.size) > 2 or min(size) < 32):
        options.parser.error(
            f"--size: wanted one or two numbers of at least 32, got {options.size}"
        )
    from nasnet_det.weights import verify

    found = verify(options.file, options.against, options.images, size=size)
    print(
        f"{found.variant} of {found.origin} against {options.against}: {found.num_images} images "
        f"of {found.size[0]}x{found.size[1]}, largest relative differences:"
    )
    for name, value in found.differences.items():
        print(f"  {name:<8} {value:.1e}")
    over = [name for name, value in found.differences.items() if not value <= options.tolerance]
    if over:
        raise InputError(
            f"the networks differ by more than {options.tolerance:g} in {', '.join(over)}"
        )
    print(f"equal within {options.tolerance:g}")
