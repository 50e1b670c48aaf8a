"""Pictures that are there twice, byte for byte or saved anew: groups that must not be parted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from nasnet_det.data.pictures import PictureError, read_picture

THUMBNAIL_SIDE = 16
# Of photographs that were shrunk and compressed hard nearly all correlate so; different pictures of
# one slide under a microscope stay under 0.992.
MIN_CORRELATION = 0.997
MAX_BRIGHTNESS_DIFFERENCE = 6.0  # of 255
_MIN_CONTRAST = 4.0  # standard deviation; flat pictures are all alike
_BLOCK = 512


def group_alike(paths: Sequence[str], *, num_threads: int = 2) -> np.ndarray:
    """Number the groups of pictures that look the same.

    Args:
        paths: of N pictures; those that can't be read are alone, and so are flat ones.
        num_threads: to read with.

    Returns:
        (N,) int64, the first index of each picture's group.
    """
    parents = np.arange(len(paths))
    with ThreadPoolExecutor(num_threads) as pool:
        thumbnails = list(pool.map(_read_thumbnail, paths))
    for first, second in find_alike(thumbnails):
        a, b = _find_root(parents, first), _find_root(parents, second)
        parents[max(a, b)] = min(a, b)
    return np.array([_find_root(parents, i) for i in range(len(paths))], dtype=np.int64)


def _find_root(parents: np.ndarray, index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return int(index)


def _read_thumbnail(path: str) -> np.ndarray | None:
    try:
        return make_thumbnail(read_picture(path))
    except PictureError:
        return None


def make_thumbnail(picture: Image.Image) -> np.ndarray:
    """(16, 16) uint8, grey."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BILINEAR))


def find_alike(thumbnails: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    """Pairs of pictures that look the same, the first one first; flat ones never do.

    Args:
        thumbnails: see :func:`make_thumbnail`; None of what can't be read.
    """
    known = np.array([i for i, one in enumerate(thumbnails) if one is not None], dtype=np.int64)
    if not known.size:
        return []
    vectors = np.stack([one.ravel() for one in thumbnails if one is not None]).astype(np.float32)
    means, contrasts = vectors.mean(axis=1), vectors.std(axis=1)
    order = np.flatnonzero(contrasts >= _MIN_CONTRAST)
    order = order[np.argsort(means[order], kind="stable")]
    vectors = (vectors[order] - means[order, None]) / contrasts[order, None]
    vectors /= np.sqrt(vectors.shape[1])
    means, known = means[order], known[order]
    pairs = []
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        end = int(np.searchsorted(means, means[stop - 1] + MAX_BRIGHTNESS_DIFFERENCE, "right"))
        products = vectors[start:stop] @ vectors[start:end].T
        for row, column in np.argwhere(np.triu(products, 1) >= MIN_CORRELATION).tolist():
            if means[start + column] - means[start + row] <= MAX_BRIGHTNESS_DIFFERENCE:
                first, second = sorted((int(known[start + row]), int(known[start + column])))
                pairs.append((first, second))
    return pairs
