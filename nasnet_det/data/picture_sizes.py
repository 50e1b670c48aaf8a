"""Sizes that a file claims, compared with those in the headers of the pictures.

The key ``DATASETS.SIZE_MISMATCH`` says what is done about other sizes: ``stop`` names the first;
``picture`` takes those of the pictures, and boxes stay the pixels that they are. A size that the
file does not say is always the picture's. Width and height exchanged are a picture that was
annotated before it was turned upright: its boxes lie elsewhere, so that it stops in either case.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasnet_det.data.broken_pictures import describe_broken
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import PictureError, read_size

SIZE_POLICIES = ("stop", "picture")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SizeComparison:
    """What the headers of pictures say.

    Attributes:
        other: index -> width and height in pixels of each upright picture that has another size.
        unknown: the same of each picture whose size is not claimed.
        broken: index -> name and reason of each picture that can't be read.
    """

    other: dict[int, tuple[int, int]]
    unknown: dict[int, tuple[int, int]]
    broken: dict[int, str]


def compare_sizes(paths: Sequence[str | os.PathLike[str]], sizes: np.ndarray) -> SizeComparison:
    """Read the header of each picture: several thousand a second, whatever their sizes.

    Args:
        paths: of N pictures.
        sizes: (N, 2), width and height; NaN where unknown.
    """
    found = SizeComparison({}, {}, {})
    for index, (path, claimed) in enumerate(zip(paths, sizes.tolist(), strict=True)):
        try:
            size = read_size(path)
        except PictureError as error:
            found.broken[index] = describe_broken(os.fspath(path), error)
            continue
        if any(side != side for side in claimed):
            found.unknown[index] = size
        elif size != tuple(claimed):
            found.other[index] = size
    return found


def fill_sizes(
    where: str, names: Sequence[str], sizes: np.ndarray, *, image_root: str
) -> np.ndarray:
    """Sizes with those of the pictures where they are unknown; NaN where a picture can't be read.

    Args:
        where: opens a line of the log.
        names: of N pictures, from ``image_root``.
        sizes: (N, 2), width and height; NaN where unknown.
        image_root: a folder.
    """
    places = np.flatnonzero(np.isnan(sizes).any(axis=1)).tolist()
    found = compare_sizes([os.path.join(image_root, names[i]) for i in places], sizes[places])
    filled = sizes.copy()
    for index, size in found.unknown.items():
        filled[places[index]] = size
    if found.unknown:
        logger.info(
            "%s: no size of %d of %d images; that of the picture is taken",
            *(where, len(found.unknown), len(names)),
            extra={"kind": "missing_size"},
        )
    return filled


def settle_sizes(
    where: str, names: Sequence[str], sizes: np.ndarray, *, image_root: str
) -> np.ndarray:
    """The sizes of the pictures, whatever is claimed.

    Args:
        where: opens a line of the log, or the sentence of a fault.
        names, sizes, image_root: as in :func:`fill_sizes`.

    Raises:
        DataError: width and height of a picture are exchanged.
    """
    settled = fill_sizes(where, names, sizes, image_root=image_root)
    found = compare_sizes([os.path.join(image_root, name) for name in names], settled)
    turned = {i: size for i, size in found.other.items() if size[::-1] == tuple(settled[i])}
    check_sizes(where, names, settled, turned)
    for index, size in found.other.items():
        settled[index] = size
    if found.other:
        logger.warning(
            "%s: %d of %d images have another size than the JSON says, the first %s; that of the "
            "picture is taken",
            *(where, len(found.other), len(names), names[next(iter(found.other))]),
        )
    return settled


def check_sizes(
    where: str, names: Sequence[str], sizes: np.ndarray, other: Mapping[int, tuple[int, int]]
) -> None:
    """Refuse sizes that pictures don't have.

    Args:
        where: opens the sentence.
        names, sizes: of the pictures, as claimed.
        other: of :class:`SizeComparison`.

    Raises:
        DataError: there is one.
    """
    if not other:
        return
    first, (width, height) = next(iter(other.items()))
    claimed = "x".join(f"{side:g}" for side in sizes[first])
    is_turned = (height, width) == tuple(sizes[first])
    advice = (
        "annotate the images as they are shown, take the EXIF orientation out of them if they have "
        "one, or exchange width and height in the JSON where the boxes are right"
        if is_turned
        else "correct the sizes, or set DATASETS.SIZE_MISMATCH (--size-mismatch) to picture where "
        "the boxes are right"
    )
    raise DataError(
        f"{where}: {len(other)} of {len(names)} images have another size than the JSON says, the "
        f"first: {names[first]} is {width}x{height} as it is shown instead of {claimed}; "
        f"{advice}"
    )
