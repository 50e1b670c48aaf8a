"""Sizes that a file claims, compared with those in the headers of the pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasnet_det.data.broken_pictures import describe_broken
from nasnet_det.data.pictures import PictureError, read_size


@dataclass(frozen=True)
class SizeComparison:
    """What the headers of pictures say.

    Attributes:
        other: index -> width and height in pixels of each upright picture that has another size.
        broken: index -> name and reason of each picture that can't be read.
    """

    other: dict[int, tuple[int, int]]
    broken: dict[int, str]


def compare_sizes(paths: Sequence[str | os.PathLike[str]], sizes: np.ndarray) -> SizeComparison:
    """Read the header of each picture: several thousand a second, whatever their sizes.

    Args:
        paths: of N pictures.
        sizes: (N, 2), width and height; NaN where unknown, which no picture contradicts.
    """
    other: dict[int, tuple[int, int]] = {}
    broken: dict[int, str] = {}
    for index, (path, claimed) in enumerate(zip(paths, sizes.tolist(), strict=True)):
        try:
            size = read_size(path)
        except PictureError as error:
            broken[index] = describe_broken(os.fspath(path), error)
            continue
        if any(a != b for a, b in zip(size, claimed, strict=True) if b == b):  # NaN is not itself
            other[index] = size
    return SizeComparison(other, broken)
