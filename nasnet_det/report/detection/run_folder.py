"""What a training and an evaluation left behind in OUTPUT_DIR, read as it is.

=========================================  =================================================
``config.yaml``                            the final config
``run.json``                               each start: command, seed, versions, device
``metrics.json``                           a line of losses and scores every few iterations
``results.json``                           the last evaluation: iteration, data set, scores
``inference/coco_instances_results.json``  its detections (with several data sets, in a folder each)
``cost.json``                              parameters, multiply-adds, times, if it was measured
=========================================  =================================================

Only the first must be there. What else is missing or broken becomes a note, one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from nasnet_det.config import flatten, parse_yaml
from nasnet_det.errors import InputError
from nasnet_det.runs.detector_files import (
    DatasetResults,
    DetectorCost,
    DetectorResults,
    RecordError,
    read_cost,
    read_results,
)
from nasnet_det.runs.files import FileError
from nasnet_det.runs.metrics import METRICS, read_metrics
from nasnet_det.runs.record import read_starts
from nasnet_det.runs.robustness import Robustness

Record = TypeVar("Record")

PREDICTIONS = "coco_instances_results.json"
NO_RESULTS = DatasetResults(None, None, None, {})


class RunError(InputError):
    """A folder that holds no run; the message names it and says what was wanted."""


@dataclass(frozen=True)
class DetectionRun:
    """One run.

    Attributes:
        folder: where it was read from.
        config: key -> value, such as ``MODEL.BACKBONE.NAME``.
        starts: entries of ``run.json``; the last is the newest.
        metrics: lines of ``metrics.json`` by iteration.
        results: ``results.json``; None without.
        cost: ``cost.json``; None without.
        notes: what is missing or wrong, one sentence each.
        chosen: the name of the data set that is meant; "" for the first of ``results``.
        robustness: what it reaches on corrupted pictures, where that was asked for.
    """

    folder: Path
    config: dict[str, Any]
    starts: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    results: DetectorResults | None
    cost: DetectorCost | None
    notes: tuple[str, ...]
    chosen: str = ""
    robustness: Robustness | None = None

    @property
    def dataset(self) -> str:
        """The name of the data set of the evaluation; "" without one."""
        return self.chosen or (next(iter(self.results.datasets), "") if self.results else "")

    @property
    def is_first(self) -> bool:
        """Whether it is meant on the first of its data sets."""
        return self.dataset == replace(self, chosen="").dataset

    def split(self) -> list[DetectionRun]:
        """The run on each of its data sets; itself where there is one or none."""
        names = list(self.results.datasets) if self.results else []
        if len(names) < 2:
            return [self]
        return [
            replace(self, chosen=name, notes=() if i else self.notes)
            for i, name in enumerate(names)
        ]

    @property
    def evaluation(self) -> DatasetResults | None:
        """What ``results.json`` says of the data set; None without an evaluation."""
        return self.results.datasets[self.dataset] if self.results and self.dataset else None

    @property
    def predictions_path(self) -> Path | None:
        """The file of detections, if it is there."""
        folder = self.folder / "inference"
        for path in (folder / self.dataset.replace("/", "_") / PREDICTIONS, folder / PREDICTIONS):
            if path.is_file():
                return path
        return None

    @property
    def truth_path(self) -> str:
        """The data set's JSON that it was evaluated on; "" if unknown."""
        return str((self.evaluation or NO_RESULTS).json_file or "")

    @property
    def image_folder(self) -> str:
        """Where the images of the data set lay; "" if unknown."""
        named = (self.evaluation or NO_RESULTS).image_root
        return str(named or self.config.get("DATASETS.TEST_IMAGES") or "")

    @property
    def num_iterations(self) -> int:
        """How many iterations the training did, as far as it wrote them down."""
        done = max((int(line["iteration"]) + 1 for line in self.metrics), default=0)
        # After the last iteration a line with the evaluation follows, which is none.
        return min(done, self.max_iter or done)

    @property
    def max_iter(self) -> int:
        """How many iterations the training has, where it ended early those that it had; 0 if
        unknown."""
        last = self.starts[-1] if self.starts else {}
        end, numbers = last.get("end"), [last.get("max_iter"), self.config.get("SOLVER.MAX_ITER")]
        if isinstance(end, dict) and (self.folder / "model_final.pth").is_file():
            numbers.insert(0, end.get("num_iterations"))
        return next((number for number in numbers if isinstance(number, int)), 0)


def read_run(folder: Path) -> DetectionRun:
    """Read a folder.

    Raises:
        RunError: there is no such folder, or it holds no run of ``nasnet-det train``.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder")
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(
            f"{folder} holds no run: wanted the OUTPUT_DIR of nasnet-det train, with a "
            "config.yaml in it"
        )
    try:
        config = dict(flatten(parse_yaml(path.read_text(encoding="utf-8"), "it")))
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} can't be read ({' '.join(str(error).split())})") from None
    starts, start_notes = _read_starts(folder)
    metrics, metric_notes = _read_metrics(folder)
    results, result_notes = _read_record(read_results, folder)
    cost, cost_notes = _read_record(read_cost, folder)
    notes = [*start_notes, *metric_notes, *result_notes, *cost_notes]
    run = DetectionRun(folder, config, starts, metrics, results, cost, ())
    return replace(run, notes=(*notes, *_describe_datasets(run), *_describe_end(run)))


def _read_starts(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        found = [s for s in read_starts(folder) if isinstance(s.get("versions"), dict)]
    except FileError as error:
        return [], [f"{error}."]
    missing = "There is no run.json: its seed, command and versions are unknown."
    return found, [] if found else [missing]


def _read_metrics(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines that are whole; where an iteration was done again, its last line."""
    try:
        lines = read_metrics(folder / METRICS)
    except FileError:
        return [], ["There is no metrics.json, so there are no training curves."]
    found = {int(line["iteration"]): line for line in lines}
    return [found[iteration] for iteration in sorted(found)], []


def _read_record(
    read: Callable[[Path], Record | None], folder: Path
) -> tuple[Record | None, list[str]]:
    try:
        return read(folder), []
    except RecordError as error:
        return None, [f"{error}."]


def _describe_datasets(run: DetectionRun) -> list[str]:
    names = list(run.results.datasets) if run.results else []
    if not names:
        return [
            "It has no evaluation (no results.json), so it has no scores; --evaluate evaluates it."
        ]
    return []


def _describe_end(run: DetectionRun) -> list[str]:
    """Whether the training came to its end, and whether its end was evaluated."""
    wanted, done = run.max_iter, run.num_iterations
    notes = []
    if run.metrics and done < wanted and not (run.folder / "model_final.pth").is_file():
        notes.append(
            f"Its training was stopped: {done:,} of {wanted:,} iterations are done "
            "(nasnet-det train --resume goes on)."
        )
    iteration = run.results.iteration if run.results else None
    if iteration is not None and done and iteration + 1 < done:
        notes.append(
            f"Its last evaluation is of iteration {iteration + 1:,}, before the end at {done:,}."
        )
    return notes
