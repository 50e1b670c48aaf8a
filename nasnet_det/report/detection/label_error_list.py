"""Likely label errors as a list for people, and as a COCO JSON that labelling tools read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasnet_det.report.detection.boxes import Truth
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.label_errors import (
    KINDS,
    LIKELY,
    NO_DETECTION,
    NUM_LISTED,
    LabelError,
    find_category,
)
from nasnet_det.report.detection.matches import NO_OBJECT


@dataclass(frozen=True)
class LabelErrorRow:
    """A label that is likely wrong.

    Attributes:
        kind, confidence: see :class:`~nasnet_det.report.detection.label_errors.LabelError`.
        image_id, file_name: of the picture.
        annotation_id, annotated, annotated_box: what the data set has; None of a missing box.
        found, score, found_box: what the detector has; None of a spurious box. Boxes are x, y,
            width and height in pixels.
    """

    kind: str
    confidence: float
    image_id: Any
    file_name: str
    annotation_id: Any
    annotated: str | None
    annotated_box: list[float] | None
    found: str | None
    score: float | None
    found_box: list[float] | None


@dataclass(frozen=True)
class LabelErrorList:
    """The labels that are likely wrong.

    Attributes:
        counts: how many of each kind have a confidence of at least :data:`LIKELY`.
        rows: the first :data:`NUM_LISTED`, the most confident first.
    """

    counts: dict[str, int]
    rows: tuple[LabelErrorRow, ...]


def list_label_errors(evaluation: Evaluation) -> LabelErrorList:
    """The list of a run."""
    errors = evaluation.label_errors
    counts = Counter(error.kind for error in errors if error.confidence >= LIKELY)
    rows = tuple(_describe(evaluation, error) for error in errors[:NUM_LISTED])
    return LabelErrorList({kind: counts[kind] for kind in KINDS}, rows)


def _describe(evaluation: Evaluation, error: LabelError) -> LabelErrorRow:
    truth, matches = evaluation.truth, evaluation.matches
    is_annotated, is_found = error.object != NO_OBJECT, error.detection != NO_DETECTION
    return LabelErrorRow(
        error.kind,
        error.confidence,
        truth.image_ids[error.image],
        truth.file_names[error.image],
        _to_plain(truth.ids[error.object]) if is_annotated else None,
        truth.category_names[truth.category[error.object]] if is_annotated else None,
        _round(truth.boxes[error.object]) if is_annotated else None,
        truth.category_names[matches.category[error.detection]] if is_found else None,
        float(matches.score[error.detection]) if is_found else None,
        _round(matches.box[error.detection]) if is_found else None,
    )


def make_coco(evaluation: Evaluation) -> dict[str, Any]:
    """The likely errors as a data set: each an annotation as it would be right.

    A missing box and a moved one are where something is found, a wrong class is that which is
    found; a spurious box is as it is, to be removed. ``attributes`` say the kind, the rank, the
    confidence and the annotation's id.
    """
    truth, errors = evaluation.truth, evaluation.label_errors
    return {
        "info": {"description": "likely label errors", "annotations_of": truth.path},
        "images": [_make_image(truth, i) for i in sorted({error.image for error in errors})],
        "annotations": [_make_annotation(evaluation, i, e) for i, e in enumerate(errors, start=1)],
        "categories": [
            {"id": key, "name": name}
            for key, name in zip(truth.category_ids, truth.category_names, strict=True)
        ],
    }


def _make_image(truth: Truth, image: int) -> dict[str, Any]:
    entry = {"id": truth.image_ids[image], "file_name": truth.file_names[image]}
    if np.isfinite(truth.sizes[image]).all():
        entry |= dict(zip(("width", "height"), map(int, truth.sizes[image]), strict=True))
    return entry


def _make_annotation(evaluation: Evaluation, rank: int, error: LabelError) -> dict[str, Any]:
    truth, row = evaluation.truth, _describe(evaluation, error)
    is_found_box = error.kind in ("missing box", "moved box")
    box = row.found_box if is_found_box else row.annotated_box
    assert box is not None
    category = find_category(truth, evaluation.matches, error)
    return {
        "id": rank,
        "image_id": row.image_id,
        "category_id": truth.category_ids[category],
        "bbox": box,
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "attributes": {
            "kind": row.kind,
            "rank": rank,
            "confidence": round(row.confidence, 4),
            "annotation_id": row.annotation_id,
        },
    }


def _to_plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _round(box: np.ndarray) -> list[float]:
    return [round(value, 2) for value in box.tolist()]
