"""A detector's ONNX file as a function of pictures; needs neither Detectron2 nor a config.

``nasnet-det export`` writes such files. What they want of a picture and call their classes stands
in their metadata.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from nasnet_det.runs.files import FileError
from nasnet_det.runtime.detections import Detections
from nasnet_det.runtime.engines import EngineError, start_engine
from nasnet_det.runtime.onnx_trace import read_about

MASK_THRESHOLD = 0.5


class OnnxDetector:
    """A detector of a file.

    Args:
        content: of the file; see :meth:`read`.
        name: of it, for messages.
        runtime: ``onnxruntime`` or ``openvino``.
        precision: to compute in; int8 is the file's.

    Attributes:
        categories: ``id`` and ``name`` of each class.
        batch_size: 1, for the file takes one picture at a time.

    Raises:
        EngineError: it is no detector's file, or the runtime can't run it.
        MissingPackageError: the runtime is not installed.
    """

    def __init__(
        self,
        content: bytes,
        *,
        name: str,
        runtime: str = "onnxruntime",
        precision: str = "float32",
    ) -> None:
        about = read_about(content)
        if about.get("part") != "detector":
            raise EngineError(
                f"{name}: wanted a detector's file of nasnet-det export --config-file, got another"
            )
        self.name, self.batch_size = name, 1
        self.categories: list[dict[str, Any]] = about["categories"]
        self._about = about
        self._engine = start_engine(content, runtime, precision=precision)

    @classmethod
    def read(cls, path: str | os.PathLike[str], **options: str) -> OnnxDetector:
        """The detector of a file, with a ``runtime`` and a ``precision``; see the class.

        Raises:
            FileError: it can't be read.
        """
        try:
            return cls(Path(path).read_bytes(), name=str(path), **options)
        except OSError as error:
            raise FileError(f"{path} can't be read ({error.strerror})") from None

    def __call__(self, image: np.ndarray) -> Detections:
        """Find objects in a picture (H, W, 3) uint8, RGB."""
        height, width = image.shape[:2]
        seen = resize_picture(image, self._about["min_size"], self._about["max_size"])
        given = seen if self._about["format"] == "RGB" else seen[:, :, ::-1]
        arrays = self._engine.run([np.ascontiguousarray(given.transpose(2, 0, 1), np.float32)])
        outputs = dict(zip(self._engine.outputs, arrays, strict=True))
        scale = np.array([width / seen.shape[1], height / seen.shape[0]] * 2, np.float32)
        boxes = (outputs["boxes"] * scale).clip(0, np.array([width, height] * 2, np.float32))
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        kept = kept[np.argsort(-outputs["scores"][kept], kind="stable")]
        boxes, masks = boxes[kept], outputs.get("masks")
        return Detections(
            boxes,
            outputs["scores"][kept],
            outputs["classes"][kept],
            self.categories,
            masks=None if masks is None else paste_masks(masks[kept, 0], boxes, (height, width)),
        )

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find objects in several pictures, one after the other."""
        return [self(image) for image in images]


def resize_picture(image: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """The picture as Detectron2's ``ResizeShortestEdge`` makes it.

    Args:
        image: (H, W, 3) uint8.
        min_size: of its shorter side, in pixels; 0 changes nothing.
        max_size: that the longer side never exceeds.
    """
    height, width = image.shape[:2]
    if min_size == 0:
        return image
    scale = min_size / min(height, width)
    sides = (min_size, scale * width) if height < width else (scale * height, min_size)
    if max(sides) > max_size:
        scale = max_size / max(sides)
        sides = (sides[0] * scale, sides[1] * scale)
    size = int(sides[1] + 0.5), int(sides[0] + 0.5)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def paste_masks(masks: np.ndarray, boxes: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Masks of boxes as masks of the picture.

    Args:
        masks: (N, S, S) probabilities, each within its box.
        boxes: (N, 4) in pixels.
        size: height and width of the picture.

    Returns:
        (N, height, width) booleans.
    """
    pasted = np.zeros((len(masks), *size), dtype=bool)
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    for mask, (x0, y0, x1, y1), out in zip(masks, boxes, pasted, strict=True):
        x, y = 2 * (columns - x0) / (x1 - x0) - 1, 2 * (rows - y0) / (y1 - y0) - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None].float()
        values = F.grid_sample(torch.as_tensor(mask)[None, None], grid, align_corners=False)
        out[:] = values[0, 0].numpy() >= MASK_THRESHOLD
    return pasted
