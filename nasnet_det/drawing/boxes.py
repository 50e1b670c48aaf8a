"""Boxes, masks and keypoints drawn on a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from torchvision.utils import draw_bounding_boxes, draw_keypoints, draw_segmentation_masks

FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
) -> np.ndarray:
    """Draw labelled boxes in one colour for each class.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) as x0, y0, x1, y1 in pixels.
        labels: N indices into ``class_names``.
        class_names: names of all classes.
        scores: N probabilities to print, if any.
        masks: (N, H, W), if any.
        keypoints: (N, K, 2) as x, y in pixels, if any.
    """
    texts = [class_names[label] for label in labels]
    if scores is not None:
        texts = [f"{text} {score:.0%}" for text, score in zip(texts, scores, strict=True)]
    colors = [class_color(label, len(class_names)) for label in labels]
    scale = max(1.0, 640 / max(image.shape[:2]))  # text needs pixels
    size = [round(scale * n) for n in image.shape[:2]]
    canvas = F.interpolate(
        torch.as_tensor(image.transpose(2, 0, 1)[None].astype("float32")), size, mode="bilinear"
    )[0].byte()
    if masks is not None and len(masks):
        resized = F.interpolate(torch.as_tensor(masks)[None].float(), size)[0] > 0.5
        canvas = draw_segmentation_masks(canvas, resized, alpha=0.4, colors=colors)
    if len(boxes):
        canvas = draw_bounding_boxes(
            canvas,
            torch.as_tensor(boxes) * scale,
            labels=texts,
            colors=colors,
            width=2,
            font=FONT,
            font_size=14,
            label_colors="black",
            label_background_colors=colors,
            fill_labels=True,
        )
    for points, color in zip(() if keypoints is None else keypoints, colors, strict=False):
        canvas = draw_keypoints(canvas, torch.as_tensor(points)[None] * scale, colors=color)
    return canvas.permute(1, 2, 0).numpy()


def class_color(label: int, num_classes: int) -> tuple[int, int, int]:
    """A bright colour, the hues of neighbouring classes far apart."""
    hue = (label * 0.618) % 1.0 if num_classes > 1 else 0.3
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.7, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
