"""Writing a detection report: ``report.html``, ``.md`` and ``.json``, figures, label errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.report.detection.fiftyone_dataset import write_run_for_fiftyone
from nasnet_det.report.detection.figures import draw_figures
from nasnet_det.report.detection.intervals import NUM_DRAWS
from nasnet_det.report.detection.label_error_list import make_coco
from nasnet_det.report.detection.markdown import write_markdown
from nasnet_det.report.detection.network_drawings import draw_networks
from nasnet_det.report.detection.page import Drawings, make_detection_page
from nasnet_det.report.detection.reported_run import examine_run, name_runs
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.summary import summarize
from nasnet_det.runs.files import write_content, write_json


def write_detection_report(
    runs: Sequence[DetectionRun],
    folder: Path,
    *,
    num_draws: int = NUM_DRAWS,
    with_photos: bool = True,
    with_fiftyone: bool = False,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Write a report of one or several runs.

    Args:
        runs: at least one.
        folder: is made; files of the same names are replaced.
        num_draws: of the bootstrap.
        with_photos: show images of the data sets.
        with_fiftyone: write the detections as FiftyOne datasets, too.
        progress: is told what is done next.

    Returns:
        the content of ``report.json``.

    Raises:
        ValueError: a run is there twice, or a file can't be written.
    """
    reported = []
    for name, run in zip(name_runs(runs), runs, strict=True):
        for part in run.split():
            own = f"{name} on {part.dataset}" if part.chosen else name
            progress(f"scoring {own}")
            reported.append(examine_run(own, part, num_draws=num_draws, with_photos=with_photos))
    progress("drawing")
    report = summarize(reported)
    drawings = Drawings(
        {
            name: render_figure(figure, "svg", title=name.replace("_", " "))
            for name, figure in draw_figures(reported).items()
        },
        {run.name: run.photos for run in reported},
        {run.name: run.label_photos for run in reported},
        draw_networks([(run.name, run.network) for run in reported if run.network]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawings.figures.items():
        write_content(folder / f"{name}.svg", svg)
    for one in reported:
        if one.evaluation:
            name = "label_errors" if len(reported) == 1 else f"label_errors_{one.name}"
            write_json(folder / f"{name.replace('/', '_')}.json", make_coco(one.evaluation))
        if one.evaluation and with_fiftyone:
            name = "fiftyone" if len(reported) == 1 else f"fiftyone_{one.name}"
            place = folder / name.replace("/", "_")
            progress(f"writing {place}")
            write_run_for_fiftyone(one, place)
    content = report.to_dict()
    write_json(folder / "report.json", content)
    write_content(folder / "report.md", write_markdown(report))
    write_content(folder / "report.html", make_detection_page(report, drawings))
    return content
