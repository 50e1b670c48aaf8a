"""The tables of a run that say what to do next: confusions, thresholds, parts, label errors."""

from __future__ import annotations

from nasnet_det.report.detection.confusion import Confusion, choose_classes
from nasnet_det.report.detection.label_error_list import LabelErrorRow
from nasnet_det.report.detection.operating_points import WANTED, OperatingPoint
from nasnet_det.report.detection.run_summary import EvaluationSummary
from nasnet_det.report.detection.slices import Slice
from nasnet_det.report.detection.summary import DetectionReport
from nasnet_det.report.tables import Cell, Table, make_table, number

MAX_CLASSES = 15  # of a matrix on the page
MISSED, NOTHING = "missed", "(nothing)"


def tabulate_examinations(report: DetectionReport) -> dict[str, dict[str, Table]]:
    """Name of a run that has scores -> name of a table -> table."""
    return {run.name: _tabulate(run.evaluation) for run in report.runs if run.evaluation}


def _tabulate(found: EvaluationSummary) -> dict[str, Table]:
    names = [category.name for category in found.categories]
    points = found.operating_points
    return {
        "confusion": tabulate_confusion(found.confusion, names),
        "thresholds": make_table(
            ["category", *(f"{what} for {w:.0%}" for w in WANTED for what in ("score", "recall"))],
            (
                [name, *(cell for point in row for cell in _show_point(point))]
                for name, row in zip(
                    ["all", *names], [points.overall, *points.of_categories], strict=True
                )
            ),
        ),
        "slices": make_table(
            ["by", "part", "images", "objects", "AP", "found (percent)"],
            (
                [one.by, one.name, one.images, one.objects, number(one.ap, ".1f"), _show_found(one)]
                for one in found.slices
            ),
        ),
        "label_errors": make_table(
            ["rank", "kind", "confidence", "picture", "annotated", "found", "annotation"],
            (_list_label_error(rank, row) for rank, row in enumerate(found.label_errors.rows, 1)),
        ),
    }


def tabulate_confusion(confusion: Confusion | None, names: list[str]) -> Table:
    """True classes in rows, found ones in columns; those that are confused most of many."""
    if confusion is None:
        return make_table(["true"], ())
    shown = choose_classes(confusion, names, MAX_CLASSES)
    matrix = confusion.find_matrix(shown).tolist()
    labels = [*shown, NOTHING]
    rows = ([label, *row] for label, row in zip(labels, matrix, strict=True))
    return make_table(["true", *(f"found {name}" for name in shown), MISSED], rows)


def _show_point(point: OperatingPoint) -> tuple[Cell, Cell]:
    recall = None if point.recall is None else 100 * point.recall
    return number(point.threshold, ".3f"), number(recall, ".1f")


def _show_found(one: Slice) -> Cell:
    if one.found is None or one.interval is None:
        return number(None)
    low, high = one.interval
    return Cell(f"{one.found:.1f} ({low:.1f} to {high:.1f})", one.found, is_number=True)


def _list_label_error(rank: int, row: LabelErrorRow) -> list[object]:
    found = None if row.found is None else f"{row.found} {row.score:.2f}"
    annotation = None if row.annotation_id is None else str(row.annotation_id)
    confidence = number(row.confidence, ".2f")
    return [rank, row.kind, confidence, row.file_name, row.annotated, found, annotation]
