"""The numbers of one run, as ``report.json`` holds them.

Scores are in percent, as Detectron2 writes them; None is what can't be known, for example APs where
the data set has no small object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from nasnet_det.report.detection.calibration import Calibration, compute_calibration
from nasnet_det.report.detection.confusion import Confusion, find_confusion
from nasnet_det.report.detection.errors import ErrorSummary, summarize_errors
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.intervals import Estimate, estimate_score
from nasnet_det.report.detection.label_error_list import LabelErrorList, list_label_errors
from nasnet_det.report.detection.operating_points import OperatingPoints, find_operating_points
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.scores import METRICS
from nasnet_det.report.detection.slices import Slice, find_slices
from nasnet_det.runs.detector_files import DetectorCost, DetectorResults
from nasnet_det.runs.robustness import Robustness

OF_CATEGORY = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class TrainingSummary:
    """How far a training came; ``starts``: how often it was started."""

    iterations: int
    max_iterations: int | None
    starts: int


@dataclass(frozen=True)
class Provenance:
    """What made a run: its last start, and what was evaluated (iterations from 1)."""

    seed: int | None
    command: Sequence[str] | None
    git_commit: str | None
    device: str | None
    versions: Mapping[str, str]
    time: str | None
    evaluated_iteration: int | None
    evaluated_weights: str | None


@dataclass(frozen=True)
class DataSummary:
    """The data set of an evaluation, and the number of detections on it."""

    name: str
    json_file: str
    sha256: str
    images: int
    objects: int
    crowds: int
    categories: int
    detections: int


@dataclass(frozen=True)
class CategorySummary:
    """A category, its objects that are no crowds, and its scores by name."""

    id: Any
    name: str
    objects: int
    scores: dict[str, Estimate]


@dataclass(frozen=True)
class EvaluationSummary:
    """What detections are worth; ``categories`` in the order of their ids."""

    data: DataSummary
    scores: dict[str, Estimate]
    categories: tuple[CategorySummary, ...]
    errors: ErrorSummary
    confusion: Confusion | None
    calibration: Calibration
    operating_points: OperatingPoints
    slices: tuple[Slice, ...]
    label_errors: LabelErrorList


@dataclass(frozen=True)
class RunSummary:
    """One run on one data set; ``evaluation`` and ``cost`` are None where they are unknown.

    Training, cost and robustness stand with the first of several data sets alone.
    """

    name: str
    folder: str
    training: TrainingSummary | None
    provenance: Provenance
    cost: DetectorCost | None
    robustness: Robustness | None
    evaluation: EvaluationSummary | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, where the evaluation's parts stand beside the others."""
        data = asdict(self)
        notes = data.pop("notes")
        if self.robustness:
            data["robustness"] = self.robustness.to_dict()
        parts = data.pop("evaluation") or {f.name: None for f in fields(EvaluationSummary)}
        if parts["categories"]:
            parts["categories"] = [row | row.pop("scores") for row in parts["categories"]]
        return {**data, **parts, "notes": notes}


def summarize_run(
    name: str, run: DetectionRun, evaluation: Evaluation | None, notes: tuple[str, ...]
) -> RunSummary:
    """The numbers of one run."""
    last = run.starts[-1] if run.starts else {}
    results = run.results or DetectorResults(None, "", {})
    return RunSummary(
        name=name,
        folder=str(run.folder),
        training=TrainingSummary(run.num_iterations, run.max_iter or None, len(run.starts))
        if run.is_first
        else None,
        provenance=Provenance(
            **{key: last.get(key) for key in ("seed", "command", "git_commit", "device", "time")},
            versions=last.get("versions") or {},
            evaluated_iteration=None if results.iteration is None else results.iteration + 1,
            evaluated_weights=results.weights or None,
        ),
        cost=run.cost if run.is_first else None,
        robustness=run.robustness if run.is_first else None,
        evaluation=_summarize_evaluation(run.dataset, evaluation) if evaluation else None,
        notes=notes,
    )


def _summarize_evaluation(dataset: str, evaluation: Evaluation) -> EvaluationSummary:
    truth, matches, scores = evaluation.truth, evaluation.matches, evaluation.scores
    draws, num_images = evaluation.draws, matches.num_images
    objects = matches.num_objects[0].sum(axis=1)

    def of_category(k: int) -> dict[str, Estimate]:
        return {
            metric: estimate_score(
                scores.of_categories[metric][k, 0], draws.of_categories[metric][k], num_images
            )
            for metric in OF_CATEGORY
        }

    return EvaluationSummary(
        DataSummary(
            name=dataset,
            json_file=truth.path,
            sha256=truth.sha256,
            images=len(truth.image_ids),
            objects=int((~truth.is_crowd).sum()),
            crowds=int(truth.is_crowd.sum()),
            categories=len(truth.category_ids),
            detections=evaluation.num_detections,
        ),
        {m: estimate_score(scores.overall[m][0], draws.overall[m], num_images) for m in METRICS},
        tuple(
            CategorySummary(key, name, int(objects[k]), of_category(k))
            for k, (key, name) in enumerate(
                zip(truth.category_ids, truth.category_names, strict=True)
            )
        ),
        summarize_errors(truth, matches, evaluation.errors),
        find_confusion(truth, matches, evaluation.errors, evaluation.threshold),
        compute_calibration(matches),
        find_operating_points(matches),
        tuple(find_slices(truth, matches, evaluation.threshold, evaluation.brightness)),
        list_label_errors(evaluation),
    )
