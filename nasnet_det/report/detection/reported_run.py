"""A run with all that a report makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nasnet_det.report.detection.evaluation import Evaluation, evaluate_run
from nasnet_det.report.detection.label_error_list import LabelErrorRow
from nasnet_det.report.detection.label_error_pictures import draw_label_errors
from nasnet_det.report.detection.network_drawings import Network, find_network
from nasnet_det.report.detection.pictures import Choice, choose_images, draw_image
from nasnet_det.report.detection.run_folder import DetectionRun, RunError
from nasnet_det.report.detection.run_summary import RunSummary, summarize_run
from nasnet_det.report.detection.slices import measure_brightness


@dataclass(frozen=True)
class ReportedRun:
    """A run and what was found out about it.

    Attributes:
        name: in this report.
        run: what lies in its folder.
        evaluation: its detections, scored; None where that can't be done.
        network: its NASNet; None if it has none.
        photos: images that its scores chose, as JPEG.
        label_photos: likely label errors, as JPEG.
        notes: what is missing or wrong, one sentence each.
    """

    name: str
    run: DetectionRun
    evaluation: Evaluation | None
    network: Network | None
    photos: tuple[tuple[Choice, bytes], ...]
    label_photos: tuple[tuple[LabelErrorRow, bytes], ...]
    notes: tuple[str, ...]

    @cached_property
    def summary(self) -> RunSummary:
        """Its numbers."""
        return summarize_run(self.name, self.run, self.evaluation, self.notes)


def examine_run(name: str, run: DetectionRun, *, num_draws: int, with_photos: bool) -> ReportedRun:
    """Score a run and draw its pictures; what can't be done becomes a note."""
    evaluation, score_notes = evaluate_run(run, num_draws=num_draws)
    network, network_notes = find_network(run) if run.is_first else (None, [])
    photos: list[tuple[Choice, bytes]] = []
    label_photos: list[tuple[LabelErrorRow, bytes]] = []
    photo_notes: list[str] = []
    folder = Path(run.image_folder)
    if with_photos and evaluation:
        if run.image_folder and folder.is_dir():
            brightness = measure_brightness(evaluation.truth.file_names, folder)
            evaluation = replace(evaluation, brightness=brightness)
            photos, photo_notes = _draw_photos(folder, evaluation)
            label_photos, label_notes = draw_label_errors(evaluation, folder)
            photo_notes = list(dict.fromkeys([*photo_notes, *label_notes]))
        else:
            where = run.image_folder or "no folder is named"
            photo_notes = [f"There are no pictures, since the images are not here ({where})."]
    notes = (*run.notes, *score_notes, *network_notes, *photo_notes)
    return ReportedRun(name, run, evaluation, network, tuple(photos), tuple(label_photos), notes)


def _draw_photos(
    folder: Path, evaluation: Evaluation
) -> tuple[list[tuple[Choice, bytes]], list[str]]:
    photos, notes = [], []
    for choice in choose_images(evaluation):
        try:
            photos.append((choice, draw_image(evaluation, choice, folder)))
        except ValueError as error:
            notes.append(f"A picture is missing: {error}.")
    return photos, notes


def name_runs(runs: Sequence[DetectionRun]) -> list[str]:
    """A different name for each run: that of its folder, with its parents' where it must be.

    Raises:
        RunError: a run is there twice.
    """
    paths = [run.folder.resolve() for run in runs]
    twice = [run for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise RunError(f"{twice[0].folder}: give this run once")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths have different names")
