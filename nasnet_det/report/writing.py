"""One report, whatever it is about: searches, or detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nasnet_det.config import parse_yaml
from nasnet_det.errors import InputError
from nasnet_det.report.detection.intervals import NUM_DRAWS
from nasnet_det.report.detection.report import write_detection_report
from nasnet_det.report.detection.run_folder import DetectionRun, RunError
from nasnet_det.report.search.page import write_search_report
from nasnet_det.runs.study_results import Study


def find_kind(path: Path) -> str:
    """What a path holds: ``results`` of searches in a file, a ``search`` for classifiers, one for
    detectors (``front``), or a ``detector``.

    Raises:
        RunError: there is nothing, or neither of these.
    """
    if path.is_file():
        return "results"
    if not path.is_dir():
        raise RunError(f"{path}: there is no such folder or file", where=path)
    try:
        text = (path / "config.yaml").read_text(encoding="utf-8")
        config = parse_yaml(text, "it")
    except FileNotFoundError:
        raise RunError(
            f"{path} holds no run: wanted the OUTPUT_DIR of nasnet-det train or nasnet-det search, "
            "with a config.yaml in it",
            where=path,
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path / 'config.yaml'} can't be read ({reason})", where=path) from None
    if not isinstance(config, dict) or "SEARCH" not in config:
        return "detector"
    child = config["SEARCH"].get("CHILD", {}) if isinstance(config["SEARCH"], dict) else {}
    return "front" if child.get("KIND") == "detector" else "search"


def write_report(
    runs: Sequence[DetectionRun | Study],
    folder: Path,
    *,
    num_draws: int = NUM_DRAWS,
    with_photos: bool = True,
    with_fiftyone: bool = False,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Write the report of some detectors, or of some searches.

    Args:
        runs: at least one; :func:`~nasnet_det.report.detection.run_folder.read_run` reads a
            detector's, :func:`~nasnet_det.runs.study_results.read_studies` a file of searches.
        folder: is made; files of the same names are replaced.
        num_draws: of the bootstrap of detectors' scores.
        with_photos: show images of detectors' data sets.
        with_fiftyone: write detectors' detections as FiftyOne datasets, too.
        progress: is told what is done next.

    Returns:
        the content of ``report.json``.

    Raises:
        InputError: searches and detectors together, a run twice, or a file can't be written.
    """
    studies = [run for run in runs if isinstance(run, Study)]
    detectors = [run for run in runs if isinstance(run, DetectionRun)]
    if studies and detectors:
        raise InputError("wanted searches or detectors for one report, got both")
    if studies:
        return write_search_report(studies, folder)
    return write_detection_report(
        detectors,
        folder,
        num_draws=num_draws,
        with_photos=with_photos,
        with_fiftyone=with_fiftyone,
        progress=progress,
    )
