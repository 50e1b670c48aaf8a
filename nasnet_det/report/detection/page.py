"""The HTML page of a detection report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nasnet_det
from nasnet_det.report.detection.examination_tables import tabulate_examinations
from nasnet_det.report.detection.intervals import LEVEL
from nasnet_det.report.detection.label_error_list import LabelErrorRow
from nasnet_det.report.detection.label_errors import KINDS
from nasnet_det.report.detection.pictures import CHOICES, Choice
from nasnet_det.report.detection.robustness_tables import MEANING
from nasnet_det.report.detection.scores import PRECISIONS, RECALLS
from nasnet_det.report.detection.summary import DetectionReport
from nasnet_det.report.detection.tables import make_tables, tabulate_categories
from nasnet_det.report.html import render_page

OVER_SEEDS = (
    "Trainings whose configs differ in nothing but the seed and the device: the mean of their "
    "scores, and in brackets the lowest and the highest. Their versions are under Provenance."
)
BETWEEN_SEEDS = (
    f"The mean difference of trainings with the same seed, in brackets its {LEVEL:.0%} interval "
    "(Student's): where it lies over very many seeds, on these images."
)


@dataclass(frozen=True)
class Drawings:
    """What a page shows beside numbers.

    Attributes:
        figures: name -> SVG; those that can't be drawn are missing.
        photos: name of a run -> choices with their JPEG.
        label_photos: name of a run -> likely label errors with their JPEG.
        networks: names of runs -> SVGs of the cells and the plan.
    """

    figures: Mapping[str, bytes]
    photos: Mapping[str, tuple[tuple[Choice, bytes], ...]]
    label_photos: Mapping[str, tuple[tuple[LabelErrorRow, bytes], ...]]
    networks: Mapping[str, tuple[bytes, bytes]]


def make_detection_page(report: DetectionReport, drawings: Drawings) -> str:
    """The page of a report."""
    return render_page(
        "detection",
        title="Detection report",
        report=report,
        drawings=drawings,
        tables=make_tables(report),
        categories=tabulate_categories(report),
        examined=tabulate_examinations(report),
        kinds=KINDS,
        metric_groups=(tuple(PRECISIONS), tuple(RECALLS)),
        choices=CHOICES,
        level=LEVEL,
        over_seeds=OVER_SEEDS,
        between_seeds=BETWEEN_SEEDS,
        on_corrupted=MEANING,
        version=nasnet_det.__version__,
    )
