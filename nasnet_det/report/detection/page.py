"""The HTML page of a detection report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasnet_det.report import html_page as page
from nasnet_det.report.detection.page_run import (
    list_costs,
    list_provenance,
    list_training,
    show_networks,
    show_photos,
)
from nasnet_det.report.detection.page_scores import (
    list_calibration,
    list_categories,
    list_differences,
    list_errors,
    list_scores,
    list_seeds,
    show_curves,
)
from nasnet_det.report.detection.pictures import Choice

TITLE = "Detection report"


@dataclass
class Drawings:
    """What a page shows beside numbers.

    Attributes:
        figures: name -> SVG; those that can't be drawn are missing.
        photos: name of a run -> choices with their JPEG.
        networks: names of runs -> SVGs of the cells and the plan.
    """

    figures: dict[str, bytes] = field(default_factory=dict)
    photos: dict[str, list[tuple[Choice, bytes]]] = field(default_factory=dict)
    networks: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)


def make_detection_page(report: Mapping[str, Any], drawings: Drawings) -> str:
    """The page of ``report.json``'s content."""
    runs = report["runs"]
    parts = [
        *(page.warning(f"{run['name']}: {note}") for run in runs for note in run["notes"]),
        *list_scores(report),
        *list_seeds(report["seeds"]),
        *list_differences(report["comparisons"]),
        *list_categories(report),
        *show_curves(drawings.figures),
        *list_errors(runs, drawings.figures),
        *list_calibration(runs, drawings.figures),
        *list_training(runs, drawings.figures),
        *list_costs(runs, drawings.figures),
        *show_photos(drawings.photos),
        *show_networks(drawings.networks),
        *list_provenance(report),
    ]
    return page.make_page(TITLE, parts)
