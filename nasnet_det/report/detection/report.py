"""Writing a detection report: ``report.html``, ``report.md``, ``report.json`` and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nasnet_det.drawing.cells import draw_cells
from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.drawing.plan import draw_plan
from nasnet_det.report.detection.evaluation import Evaluation, evaluate_run
from nasnet_det.report.detection.figures import (
    draw_calibration,
    draw_cost,
    draw_errors,
    draw_precision_recall,
    draw_training,
)
from nasnet_det.report.detection.intervals import NUM_DRAWS
from nasnet_det.report.detection.markdown import write_markdown
from nasnet_det.report.detection.network_drawings import find_networks
from nasnet_det.report.detection.page import Drawings, make_detection_page
from nasnet_det.report.detection.pictures import choose_images, draw_image
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.summary import name_runs, summarize
from nasnet_det.runs.files import write_content, write_json


def write_detection_report(
    runs: Sequence[DetectionRun],
    folder: Path,
    *,
    num_draws: int = NUM_DRAWS,
    with_photos: bool = True,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Write a report of one or several runs.

    Args:
        runs: at least one.
        folder: is made; files of the same names are replaced.
        num_draws: of the bootstrap.
        with_photos: show images of the data sets.
        progress: is told what is done next.

    Returns:
        the content of ``report.json``.

    Raises:
        ValueError: a run is there twice, or a file can't be written.
    """
    names = name_runs(runs)
    evaluations: list[Evaluation | None] = []
    for name, run in zip(names, runs, strict=True):
        progress(f"scoring {name}")
        evaluations.append(evaluate_run(run, num_draws=num_draws))
    progress("drawing")
    drawings = Drawings()
    for names_of_network, network in find_networks(names, runs).items():
        drawings.networks[names_of_network] = (
            render_figure(draw_cells(network[1]), "svg", title="cells"),
            render_figure(draw_plan(*network), "svg", title="plan"),
        )
    if with_photos:
        for name, run, evaluation in zip(names, runs, evaluations, strict=True):
            if evaluation is not None:
                drawings.photos[name] = _draw_photos(run, evaluation)
    report = summarize(runs, names, evaluations)  # after everything that may leave a note
    figures = _draw_figures(report, names, runs, evaluations)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        drawings.figures[name] = render_figure(figure, "svg", title=name.replace("_", " "))
        write_content(folder / f"{name}.svg", drawings.figures[name])
    write_json(folder / "report.json", report)
    write_content(folder / "report.md", write_markdown(report))
    write_content(folder / "report.html", make_detection_page(report, drawings))
    return report


def _draw_photos(run: DetectionRun, evaluation: Evaluation) -> list[Any]:
    """The chosen images; a note if they are not there."""
    folder = Path(run.image_folder)
    if not run.image_folder or not folder.is_dir():
        where = run.image_folder or "no folder is named"
        run.notes.append(f"There are no pictures, since the images are not here ({where}).")
        return []
    photos = []
    for choice in choose_images(evaluation):
        try:
            photos.append((choice, draw_image(evaluation, choice, folder)))
        except ValueError as error:
            run.notes.append(f"A picture is missing: {error}.")
    return photos


def _draw_figures(
    report: dict[str, Any],
    names: Sequence[str],
    runs: Sequence[DetectionRun],
    evaluations: Sequence[Evaluation | None],
) -> dict[str, Figure]:
    scored = [(n, e) for n, e in zip(names, evaluations, strict=True) if e is not None]
    figures: dict[str, Figure | None] = {
        "training": draw_training(names, runs),
        "cost": draw_cost(report["runs"]),
    }
    if scored:
        scored_names = [name for name, _ in scored]
        rows = [run for run in report["runs"] if run["scores"]]
        figures |= {
            "precision_recall": draw_precision_recall(scored_names, [e for _, e in scored]),
            "errors": draw_errors(scored_names, [row["errors"] for row in rows]),
            "calibration": draw_calibration(scored_names, [row["calibration"] for row in rows]),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}
