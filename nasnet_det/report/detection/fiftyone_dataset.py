"""A run's data set and detections for FiftyOne."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import nasnet_det
from nasnet_det.data.fiftyone_dataset import PREDICTIONS, TRUTH, Box, Sample, write_fiftyone
from nasnet_det.data.pictures import read_size
from nasnet_det.report.detection.boxes import Truth
from nasnet_det.report.detection.matches import Matches
from nasnet_det.report.detection.reported_run import ReportedRun


def write_run_for_fiftyone(run: ReportedRun, folder: Path) -> None:
    """Write ``ground_truth`` and ``predictions``, with the scores that the report is of.

    Args:
        run: with an evaluation.
        folder: gets the files.

    Raises:
        PictureError: the data set does not say a size, and the picture can't be read.
        FileError: a file can't be written.
    """
    assert run.evaluation is not None
    truth, images = run.evaluation.truth, Path(run.run.image_folder)
    write_fiftyone(
        folder,
        _make_samples(truth, run.evaluation.matches, images),
        name=run.name.replace("/", " "),
        classes=truth.category_names,
        written_by=f"nasnet_det {nasnet_det.__version__}",
        run=str(run.run.folder),
        json_file=truth.path,
        json_sha256=truth.sha256,
    )


def _make_samples(truth: Truth, matches: Matches, folder: Path) -> Iterator[Sample]:
    number = len(truth.image_ids)
    of_truth, of_found = _group(truth.image, number), _group(matches.image, number)
    names = truth.category_names
    for i, file_name in enumerate(truth.file_names):
        known = [
            Box(
                names[truth.category[n]],
                truth.boxes[n],
                more={"iscrowd": int(truth.is_crowd[n]), "coco_id": truth.ids[n].item()},
            )
            for n in of_truth[i]
        ]
        found = [
            Box(names[matches.category[n]], matches.box[n], float(matches.score[n]))
            for n in of_found[i]
        ]
        found.sort(key=lambda box: -(box.score or 0))
        size = _find_size(truth.sizes[i], folder / file_name)
        yield Sample(folder / file_name, size, {TRUTH: known, PREDICTIONS: found})


def _group(image: np.ndarray, number: int) -> list[np.ndarray]:
    """The places of each image's boxes."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, number)))


def _find_size(size: np.ndarray, path: Path) -> tuple[float, float]:
    """Width and height that the data set says, or the picture."""
    return tuple(size.tolist()) if np.isfinite(size).all() else read_size(path)
