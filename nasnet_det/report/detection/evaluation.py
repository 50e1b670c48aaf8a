"""One run's detections, matched and scored, or the reason why they can't be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nasnet_det.data.error import DataError
from nasnet_det.report.detection.boxes import Truth, read_detections, read_truth
from nasnet_det.report.detection.errors import Errors, find_errors
from nasnet_det.report.detection.intervals import NUM_DRAWS, draw_images
from nasnet_det.report.detection.matches import Matches, match_boxes
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.scores import Scores, compute_scores

# results.json is of the same detections as the file if its AP, in percent, is as near as this.
SAME_AP = 0.01


@dataclass(frozen=True)
class Evaluation:
    """A run's detections against the objects of its data set.

    Attributes:
        truth: the data set.
        num_detections: in the file.
        matches: which belong together.
        scores: of all images once.
        draws: of the bootstrap's draws.
    """

    truth: Truth
    num_detections: int
    matches: Matches
    scores: Scores
    draws: Scores

    @cached_property
    def errors(self) -> Errors:
        """The type of each error."""
        return find_errors(self.truth, self.matches)


def evaluate_run(run: DetectionRun, *, num_draws: int = NUM_DRAWS) -> Evaluation | None:
    """Score a run; None, and a note in the run, where something for it is missing or wrong."""
    if not run.evaluation:
        return None
    path = run.predictions_path
    if path is None:
        run.notes.append(
            "Its detections (coco_instances_results.json) are gone, so it has no scores."
        )
        return None
    if not run.truth_path:
        run.notes.append("results.json does not say on which data set it was evaluated.")
        return None
    if not Path(run.truth_path).is_file():
        run.notes.append(
            f"Its data set {run.truth_path} is not here (a relative path counts from where the "
            "training ran), so it has no scores."
        )
        return None
    try:
        truth = read_truth(run.truth_path)
        detections = read_detections(path, truth)
    except DataError as error:
        run.notes.append(f"It has no scores: {error}.")
        return None
    recorded = run.evaluation.get("json_sha256")
    if recorded and recorded != truth.sha256:
        run.notes.append(
            f"{truth.path} has changed since the evaluation: the scores here are on what it holds "
            "now."
        )
    if not len(detections.scores):
        run.notes.append(
            "Its file of detections is empty: nothing was found, so its scores are 0, except where "
            "the data set has no object."
        )
    matches = match_boxes(truth, detections)
    scores = compute_scores(matches)
    draws = compute_scores(matches, draw_images(matches.num_images, num_draws))
    _check_results(run, scores, is_empty=not len(detections.scores))
    return Evaluation(truth, len(detections.scores), matches, scores, draws)


def _check_results(run: DetectionRun, scores: Scores, *, is_empty: bool) -> None:
    """Compare AP with what the evaluation wrote down; of no detections Detectron2 writes none."""
    written = ((run.evaluation.get("results") or {}).get("bbox") or {}).get("AP")
    value = 100 * float(scores.overall["AP"][0])
    if written is None or is_empty or np.isnan(value) or abs(written - value) <= SAME_AP:
        return
    run.notes.append(
        f"results.json says {written:.2f} AP, its detections have {value:.2f}: they are of "
        "different evaluations, and this report is of the detections."
    )


def find_data_difference(first: Truth, second: Truth) -> str:
    """Why the scores of two data sets can't be compared, or ""."""
    if first.category_names != second.category_names:
        only = [
            [name for name in a.category_names if name not in b.category_names]
            for a, b in ((first, second), (second, first))
        ]
        shown = [", ".join(names[:3]) + (", ..." if len(names) > 3 else "") for names in only]
        return (
            f"their categories differ ({len(first.category_names)} and "
            f"{len(second.category_names)}; only in the first: {shown[0] or 'none'}; only in the "
            f"second: {shown[1] or 'none'})"
        )
    if first.image_ids != second.image_ids:
        common = len(set(first.image_ids) & set(second.image_ids))
        return (
            f"they were evaluated on different images ({len(first.image_ids):,} and "
            f"{len(second.image_ids):,}, {common:,} of them with the same ids)"
        )
    same = all(
        np.array_equal(getattr(first, key), getattr(second, key))
        for key in ("image", "category", "boxes", "areas", "is_crowd")
    )
    return "" if same else "the true boxes of their data sets differ"
