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
    for first, second in _find_pairs(thumbnails):
        a, b = _find_root(parents, first), _find_root(parents, second)
        parents[max(a, b)] = min(a, b)
    return np.array([_find_root(parents, i) for i in range(len(paths))], dtype=np.int64)


def _find_root(parents: np.ndarray, index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return int(index)


def _read_thumbnail(path: str) -> np.ndarray | None:
    """Greys of 16x16, flat; None of what can't be read."""
    try:
        picture = read_picture(path)
    except PictureError:
        return None
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = picture.resize(size, resample=Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    return np.asarray(small, dtype=np.float32).ravel()


def _find_pairs(thumbnails: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    known = [(i, t) for i, t in enumerate(thumbnails) if t is not None]
    known = [(i, t) for i, t in known if t.std() >= _MIN_CONTRAST]
    if not known:
        return []
    known.sort(key=lambda item: float(item[1].mean()))
    vectors = np.stack([t for _, t in known])
    means = vectors.mean(axis=1)
    vectors = (vectors - means[:, None]) / vectors.std(axis=1, keepdims=True)
    vectors /= np.sqrt(vectors.shape[1])
    pairs = []
    for start in range(0, len(known), _BLOCK):
        stop = min(start + _BLOCK, len(known))
        end = int(np.searchsorted(means, means[stop - 1] + MAX_BRIGHTNESS_DIFFERENCE, "right"))
        products = vectors[start:stop] @ vectors[start:end].T
        for row, column in np.argwhere(np.triu(products, 1) >= MIN_CORRELATION).tolist():
            if means[start + column] - means[start + row] <= MAX_BRIGHTNESS_DIFFERENCE:
                pairs.append((known[start + row][0], known[start + column][0]))
    return pairs
