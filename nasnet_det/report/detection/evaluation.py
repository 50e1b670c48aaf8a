"""One run's detections, matched and scored, or the reason why they can't be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import parse_address
from nasnet_det.report.detection.boxes import Truth, read_detections, read_truth
from nasnet_det.report.detection.calibration import choose_threshold
from nasnet_det.report.detection.errors import Errors, find_errors
from nasnet_det.report.detection.intervals import NUM_DRAWS, draw_images
from nasnet_det.report.detection.label_errors import LabelError, find_label_errors
from nasnet_det.report.detection.matches import Matches, match_boxes
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.scores import Scores, compute_scores
from nasnet_det.runs.detector_files import DatasetResults

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
        brightness: of each image, from 0 to 255; None where it was not measured.
    """

    truth: Truth
    num_detections: int
    matches: Matches
    scores: Scores
    draws: Scores
    brightness: np.ndarray | None = None

    @cached_property
    def threshold(self) -> float | None:
        """The score with the best F1; None where nothing is right."""
        return choose_threshold(self.matches)

    @cached_property
    def errors(self) -> Errors:
        """The type of each error."""
        return find_errors(self.truth, self.matches)

    @cached_property
    def label_errors(self) -> list[LabelError]:
        """Annotations that are likely wrong, the most confident first."""
        return find_label_errors(self.truth, self.matches)


def evaluate_run(
    run: DetectionRun, *, num_draws: int = NUM_DRAWS
) -> tuple[Evaluation | None, list[str]]:
    """Score a run, if everything for it is there; and what is missing or wrong, a sentence each."""
    if run.evaluation is None:
        return None, []
    path = run.predictions_path
    if path is None:
        return None, [_describe_results(run.evaluation)]
    if not run.truth_path:
        return None, ["results.json does not say on which data set it was evaluated."]
    if not Path(parse_address(run.truth_path)[0]).exists():
        return None, [
            f"Its data set {run.truth_path} is not here (a relative path counts from where the "
            "training ran), so it has no scores."
        ]
    try:
        truth = read_truth(run.truth_path)
        detections = read_detections(path, truth)
    except DataError as error:
        return None, [f"It has no scores: {error}."]
    matches = match_boxes(truth, detections)
    scores = compute_scores(matches)
    draws = compute_scores(matches, draw_images(matches.num_images, num_draws))
    evaluation = Evaluation(truth, len(detections.scores), matches, scores, draws)
    return evaluation, _check_results(run.evaluation, evaluation)


def _describe_results(recorded: DatasetResults) -> str:
    """What is known without detections: an evaluation of another type than COCO's writes none."""
    results = recorded.results.get("bbox") or {}
    known = [
        f"{results[name]:.2f} {name}" for name in ("AP", "AP50") if results.get(name) is not None
    ]
    told = f"; results.json says {' and '.join(known)}" if known else ""
    return f"It has no detections (coco_instances_results.json), so no scores here{told}."


def _check_results(recorded: DatasetResults, evaluation: Evaluation) -> list[str]:
    """Compare with what the evaluation wrote down; of no detections Detectron2 writes no AP."""
    truth, notes = evaluation.truth, []
    if recorded.json_sha256 and recorded.json_sha256 != truth.sha256:
        notes.append(
            f"{truth.path} has changed since the evaluation: the scores here are on what it holds "
            "now."
        )
    if not evaluation.num_detections:
        notes.append(
            "Its file of detections is empty: nothing was found, so its scores are 0, except where "
            "the data set has no object."
        )
        return notes
    written = (recorded.results.get("bbox") or {}).get("AP")
    value = 100 * float(evaluation.scores.overall["AP"][0])
    if written is not None and abs(written - value) > SAME_AP:  # not if the value is NaN
        notes.append(
            f"results.json says {written:.2f} AP, its detections have {value:.2f}: they are of "
            "different evaluations, and this report is of the detections."
        )
    return notes
