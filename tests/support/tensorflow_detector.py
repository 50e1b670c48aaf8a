"""What TensorFlow's Object Detection API makes of a Faster R-CNN's outputs, in numpy.

Nothing here uses torch or nasnet_det: these functions are what the detector is compared with. Boxes
are y0, x0, y1, x1, and tensors are laid out as in a checkpoint of TensorFlow's. Sources:
grid_anchor_generator.py, faster_rcnn_box_coder.py, faster_rcnn_meta_arch.py, post_processing.py,
the documentation of ``tf.image.crop_and_resize``.
"""

from __future__ import annotations

import numpy as np
import reference_ops


def make_anchors(height: int, width: int) -> np.ndarray:
    """(height * width * 12, 4): at each position the scales of the first ratio, then the next."""
    anchors = []
    for i in range(height):
        for j in range(width):
            for ratio in (0.5, 1.0, 2.0):  # width to height
                for scale in (0.25, 0.5, 1.0, 2.0):
                    h, w = 256 * scale / np.sqrt(ratio), 256 * scale * np.sqrt(ratio)
                    y, x = 16 * i, 16 * j
                    anchors.append((y - h / 2, x - w / 2, y + h / 2, x + w / 2))
    return np.array(anchors)


def clip(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """To the image."""
    height, width = image_size
    return np.clip(boxes, 0, [height, width, height, width])


def area(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) -> (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def decode(codes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Both (..., 4); codes are y, x, height, width, scaled by 10, 10, 5, 5."""
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + size / 2 + codes[..., :2] / 10 * size
    size = np.exp(codes[..., 2:] / 5) * size
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: int) -> list[int]:
    """Indices of the kept, the best first."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) == limit:
            break
        corner = np.maximum(boxes[i, :2], boxes[kept, :2])
        other = np.minimum(boxes[i, 2:], boxes[kept, 2:])
        common = np.prod(np.maximum(other - corner, 0), axis=1)
        union = area(boxes[kept]) + area(boxes[i : i + 1]) - common
        if not (common > threshold * union).any():
            kept.append(int(i))
    return kept


def propose(
    features: np.ndarray, arrays: dict[str, np.ndarray], image_size: tuple[int, int], limit: int
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """The first stage behind the features.

    Args:
        features: (1, C, H, W).
        arrays: the checkpoint.
        image_size: height and width in pixels.
        limit: the most proposals.

    Returns:
        boxes, their probabilities, and how often the rules that this compares had a say.
    """
    weight, bias = (arrays[f"Conv/{v}"] for v in ("weights", "biases"))
    x = reference_ops.conv_same(features, weight.transpose(3, 2, 0, 1))
    x = np.moveaxis(x, 1, -1)[0] + bias
    cut_at_6 = int((x > 6).sum())
    x = np.clip(x, 0, 6)

    def predict(name: str) -> np.ndarray:
        layer = f"FirstStageBoxPredictor/{name}Predictor"
        return x @ arrays[f"{layer}/weights"][0, 0] + arrays[f"{layer}/biases"]

    scores = softmax(predict("Class").reshape(-1, 2))[:, 1]
    anchors = clip(make_anchors(*x.shape[:2]), image_size)
    boxes = decode(predict("BoxEncoding").reshape(-1, 4), anchors)
    kept = suppress(boxes, scores, 0.7, limit)
    clipped = clip(boxes[kept], image_size)
    whole = area(clipped) > 0
    counts = {"above 6": cut_at_6, "kept": len(kept), "without area": int((~whole).sum())}
    return clipped[whole], scores[kept][whole], counts


def crop_and_resize(
    feature: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], size: int
) -> np.ndarray:
    """(C, H, W) and (R, 4) -> (R, C, size, size)."""
    channels, height, width = feature.shape
    crops = np.zeros((len(boxes), channels, size, size))
    for r, (y0, x0, y1, x1) in enumerate(boxes / np.tile(image_size, 2)):
        for i in range(size):
            y = min(y0 + i / (size - 1) * (y1 - y0), 1) * (height - 1)
            for j in range(size):
                x = min(x0 + j / (size - 1) * (x1 - x0), 1) * (width - 1)
                top, left = int(np.floor(y)), int(np.floor(x))
                bottom, right = int(np.ceil(y)), int(np.ceil(x))
                above = feature[:, top, left] + (x - left) * (
                    feature[:, top, right] - feature[:, top, left]
                )
                below = feature[:, bottom, left] + (x - left) * (
                    feature[:, bottom, right] - feature[:, bottom, left]
                )
                crops[r, :, i, j] = above + (y - top) * (below - above)
    return crops


def detect(
    pooled: np.ndarray,
    arrays: dict[str, np.ndarray],
    proposals: np.ndarray,
    image_size: tuple[int, int],
    categories: list[int],
    limit: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The second stage behind the box head.

    Args:
        pooled: (R, C), averages of the box head's maps.
        arrays: the checkpoint.
        proposals: (R, 4).
        image_size: height and width in pixels.
        categories: ids of those to detect.
        limit: the most detections, of each class and in all.

    Returns:
        boxes, scores, and category ids, the best first; the probabilities (R, 91).
    """

    def predict(name: str) -> np.ndarray:
        layer = f"SecondStageBoxPredictor/{name}Predictor"
        return pooled @ arrays[f"{layer}/weights"] + arrays[f"{layer}/biases"]

    scores = softmax(predict("Class"))
    boxes = decode(predict("BoxEncoding").reshape(len(pooled), -1, 4), proposals[:, None])
    found = []
    for category in categories:
        kept = suppress(boxes[:, category - 1], scores[:, category], 0.6, limit)
        found += [(scores[r, category], category, r) for r in kept]
    found.sort(key=lambda item: -item[0])
    best = clip(np.array([boxes[r, category - 1] for _, category, r in found]), image_size)
    whole = area(best) > 0
    values, ids, _ = (np.array(column) for column in zip(*found, strict=True))
    return best[whole][:limit], values[whole][:limit], ids[whole][:limit], scores
