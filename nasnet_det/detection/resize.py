"""How a picture is resized before a detector sees it in a test."""

from __future__ import annotations

import detectron2.data.transforms as T
import numpy as np
from detectron2.config import CfgNode
from fvcore.transforms.transform import Transform

from nasnet_det.config import ConfigError


class SquareTransform(Transform):
    """Distort a picture to a square as TensorFlow 1 does, and the Object Detection API with it.

    Bilinear, with the corner of the picture, not the centre of its first pixel, at the first
    sample (``tf.compat.v1.image.resize_bilinear``). The result has fractions.

    Args:
        height, width: of the picture, in pixels.
        side: of the square.
    """

    def __init__(self, height: int, width: int, side: int) -> None:
        super().__init__()
        self.height, self.width, self.side = height, width, side

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(height, width, C) -> (side, side, C) float32."""
        if self.height == self.width == self.side:
            return img.astype(np.float32)
        x0, x1, x_part = self._sample(self.width)
        y0, y1, y_part = self._sample(self.height)
        left, right = (img[:, columns].astype(np.float32) for columns in (x0, x1))
        rows = left + (right - left) * x_part[:, None]
        top, bottom = rows[y0], rows[y1]
        return top + (bottom - top) * y_part[:, None, None]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) points x, y of the picture -> of the square."""
        return coords * [self.side / self.width, self.side / self.height]

    def _sample(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pixels beside each sample, and its distance from the first as a part of theirs."""
        position = np.arange(self.side, dtype=np.float32) * np.float32(size / self.side)
        before = position.astype(int)
        return before, np.minimum(before + 1, size - 1), position - before.astype(np.float32)


class SquareResize(T.Augmentation):
    """:class:`SquareTransform` for pictures of any size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def get_transform(self, image: np.ndarray) -> SquareTransform:
        """The transform of a picture (H, W, C)."""
        height, width = image.shape[:2]
        return SquareTransform(height, width, self.side)


def build_test_resize(cfg: CfgNode) -> T.Augmentation:
    """What ``INPUT`` says of test pictures.

    Raises:
        ConfigError: ``INPUT.SQUARE_TEST`` is no size.
    """
    side = cfg.INPUT.SQUARE_TEST
    if side < 0:
        raise ConfigError(f"INPUT.SQUARE_TEST: wanted a number of pixels, or 0, got {side}")
    if side:
        return SquareResize(side)
    return T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
