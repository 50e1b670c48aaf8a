"""Objects against the anchors and the input size of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasnet_det.doctor.annotations import Annotations
from nasnet_det.doctor.findings import Finding, Level

MIN_SIDE = 8.0  # pixels of the resized picture: two of the finest map's, whose stride is 4
WORTH_TELLING = 0.05  # of all boxes


@dataclass(frozen=True)
class Scale:
    """How a config sees pictures.

    Attributes:
        config: its file.
        short_side: to which the short side is resized, in pixels; 0 for none.
        max_side: what the long side is kept under.
        anchors: (A, 2), width and height in pixels; empty where the detector has none.
        min_iou: what an anchor must reach to count as an object.
    """

    config: str
    short_side: float
    max_side: float
    anchors: np.ndarray
    min_iou: float

    def find_factors(self, sizes: np.ndarray) -> np.ndarray:
        """By what pictures of these sizes, (N, 2), are enlarged: (N,)."""
        if not self.short_side:
            return np.ones(len(sizes))
        factors = self.short_side / sizes.min(axis=1)
        return np.minimum(factors, self.max_side / sizes.max(axis=1))


def fit_anchors(sides: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The IoU of each box with the best anchor, were it in the best place.

    Args:
        sides: (N, 2), width and height.
        anchors: (A, 2), A at least 1.
    """
    common = np.minimum(sides[:, None], anchors).prod(axis=2)
    union = sides.prod(axis=1)[:, None] + anchors.prod(axis=1) - common
    return (common / union).max(axis=1)


def check_scale(annotations: Annotations, scale: Scale) -> list[Finding]:
    """Boxes that no anchor fits, and boxes that are hardly there after the resize."""
    coco = annotations.coco
    objects = coco.objects
    known = np.isfinite(coco.sizes[objects.image]).all(axis=1)
    chosen = np.flatnonzero(objects.is_usable & known)
    if not len(chosen):
        return []
    factors = scale.find_factors(coco.sizes[objects.image[chosen]])
    sides = objects.boxes[chosen, 2:] * factors[:, None]
    findings = []

    def add(kind: str, which: np.ndarray, text: str, advice: str) -> None:
        number = int(which.sum())
        if number >= WORTH_TELLING * len(chosen):
            text = f"{number} of {len(chosen)} boxes {text}"
            ids: Sequence[object] = annotations.find_ids(chosen[which])
            findings.append(
                Finding(Level.WARNING, kind, coco.path, text, "annotations", ids, (), advice)
            )

    small = (sides < MIN_SIDE).any(axis=1)
    add(
        "small_at_input_size",
        small,
        f"have a side under {MIN_SIDE:g} pixels once {scale.config} has resized their picture",
        "raise INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST, or cut the pictures into tiles",
    )
    if len(scale.anchors):
        unfit = fit_anchors(sides, scale.anchors) < scale.min_iou
        add(
            "no_anchor",
            unfit,
            f"fit no anchor of {scale.config}: the best IoU is under {scale.min_iou:g}",
            _advise(sides[unfit], scale.anchors),
        )
    return findings


def _advise(sides: np.ndarray, anchors: np.ndarray) -> str:
    """Which key to change, by what most of the boxes are."""
    if not len(sides):
        return ""
    size, ratio = np.sqrt(sides.prod(axis=1)), sides[:, 1] / sides[:, 0]
    sizes, ratios = np.sqrt(anchors.prod(axis=1)), anchors[:, 1] / anchors[:, 0]
    kinds = {
        f"sizes under {sizes.min():.0f} in MODEL.ANCHOR_GENERATOR.SIZES": size < sizes.min(),
        f"sizes over {sizes.max():.0f} in MODEL.ANCHOR_GENERATOR.SIZES": size > sizes.max(),
        "more ratios in MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": (
            (ratio < ratios.min()) | (ratio > ratios.max())
        ),
    }
    return f"add {max(kinds, key=lambda kind: int(kinds[kind].sum()))}"
