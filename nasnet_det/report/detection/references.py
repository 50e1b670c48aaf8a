"""Published results on COCO, for the eye: other images, schedules and devices than a run's.

Each has its source. The NASNet paper gives no times, and Detectron2's zoo no multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "arXiv 1707.07012, section 4.3, COCO test-dev (29.6: mini-val)"
ZOO = "Detectron2 MODEL_ZOO.md, COCO val2017, one V100"


@dataclass(frozen=True)
class Reference:
    """A published detector.

    Attributes:
        name: short.
        ap: COCO AP in percent.
        source: where it is published, on which images, on which device.
        ms_per_image: as published; None if it is not.
        multiply_adds: of an image, counted here, as none are published; None if not counted.
        counted: how they were counted.
    """

    name: str
    ap: float
    source: str
    ms_per_image: float | None = None
    multiply_adds: float | None = None
    counted: str = ""


# Multiply-adds: the trunk up to stride 16 at the input's size, and the cells behind it on each of
# 300 regions of 17x17 (5.79 G each with the large network, 0.295 G with the mobile one); without
# RPN. tests/test_detection_models.py counts the regions.
_REGIONS = 300
REFERENCES = (
    Reference(
        "NASNet-A large, 800x800", 40.7, PAPER,
        multiply_adds=85.7e9 + _REGIONS * 5.79e9, counted="trunk at 800x800 and 300 regions",
    ),
    Reference(
        "NASNet-A large, 1200x1200", 43.1, PAPER,
        multiply_adds=192.9e9 + _REGIONS * 5.79e9, counted="trunk at 1200x1200 and 300 regions",
    ),
    Reference("NASNet-A mobile, 600x600", 29.6, PAPER),
    Reference("Faster R-CNN R50-C4 1x", 35.7, ZOO, ms_per_image=102),
    Reference("Faster R-CNN R50-FPN 1x", 37.9, ZOO, ms_per_image=38),
    Reference("Faster R-CNN R50-FPN 3x", 40.2, ZOO, ms_per_image=38),
    Reference("Faster R-CNN R101-FPN 3x", 42.0, ZOO, ms_per_image=51),
    Reference("RetinaNet R50-FPN 1x", 36.5, ZOO, ms_per_image=55),
)  # fmt: skip
