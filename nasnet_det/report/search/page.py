"""The report of one or several searches: ``report.json``, ``report.html`` and the figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nasnet_det.drawing.cells import draw_cells
from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.report.html import render_page
from nasnet_det.report.search.compare import (
    Group,
    compare,
    find_differences,
    group_studies,
    warn_of_differences,
)
from nasnet_det.report.search.figures import (
    draw_fronts,
    draw_operations,
    draw_rewards,
    draw_top_means,
)
from nasnet_det.report.search.numbers import TOP_KS, summarize
from nasnet_det.report.tables import DASH, Table, make_table, number, tabulate, text
from nasnet_det.runs.files import write_content, write_json
from nasnet_det.runs.study_results import Study

MAX_RETRAINED = 10  # shown on the page; report.json has all


def write_search_report(studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    """Write a report into a folder.

    Args:
        studies: at least one.
        folder: is made; files of the same names are replaced.

    Returns:
        the content of ``report.json``.

    Raises:
        ValueError: the same search is there twice, or a file can't be written.
    """
    groups = group_studies(studies)
    studies = [study for group in groups for study in group.studies]
    names = _name_studies(studies)
    report = {
        "warning": warn_of_differences(studies),
        "config_differences": find_differences(studies),
        "studies": [summarize(study) for study in studies],
        "comparison": compare(groups),
    }
    figures = _draw_figures(studies, names, groups)
    folder.mkdir(parents=True, exist_ok=True)
    svgs = {}
    for name, figure in figures.items():
        svgs[name] = render_figure(figure, "svg", title=name.replace("_", " "))
        write_content(folder / f"{name}.svg", svgs[name])
        write_content(folder / f"{name}.png", render_figure(figure, "png"))
    write_json(folder / "report.json", report)
    write_content(folder / "report.html", make_search_page(report, names, svgs))
    return report


def _name_studies(studies: Sequence[Study]) -> list[str]:
    """A different name for each study, fit for files: ``controller_0``, its sampler and seed."""
    names: list[str] = []
    for study in studies:
        # A file of results may come from anywhere.
        name = base = re.sub(r"\W", "_", f"{study.sampler}_{study.seed}")[:80]
        number = 2
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names


def _draw_figures(
    studies: Sequence[Study], names: Sequence[str], groups: Sequence[Group]
) -> dict[str, Figure]:
    figures = {
        "rewards": draw_rewards(studies),
        "top_means": draw_top_means(groups),
        "accuracy_macs": draw_fronts(groups),
    }
    for study, name in zip(studies, names, strict=True):
        figures[f"operations_{name}"] = draw_operations(study)
        figures[f"cells_{name}"] = draw_cells(study.decode(study.chosen))
    return figures


def make_search_page(
    report: Mapping[str, Any], names: Sequence[str], svgs: Mapping[str, bytes]
) -> str:
    """The HTML page of a report.

    Args:
        report: what ``report.json`` holds.
        names: of the studies, in the report's order.
        svgs: the figures by name.
    """
    studies = report["studies"]
    return render_page(
        "search",
        title="Architecture search",
        warning_text=report["warning"],
        named_studies=list(zip(names, studies, strict=True)),
        num_children=report["comparison"]["num_children"],
        svgs=svgs,
        tables={
            "studies": tabulate(studies, STUDY_COLUMNS, is_sortable=False),
            "groups": _tabulate_groups(report["comparison"]["groups"]),
            **_tabulate_provenance(studies, report["config_differences"]),
            "failures": make_table(
                ["search", "reason", "children", "for example"],
                (
                    [study["title"], *failure.values()]
                    for study in studies
                    for failure in study["failures"]
                ),
                is_sortable=False,
            ),
        },
        retrained=[
            (
                study,
                tabulate(
                    study["retrained"]["children"][:MAX_RETRAINED],
                    RETRAINED_COLUMNS,
                    is_sortable=False,
                ),
            )
            for study in studies
            if study["retrained"]["children"] or study["retrained"]["failures"]
        ],
        percent=_percent,
        show_number=lambda value: number(value).text,
    )


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.2f}%"


STUDY_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "search": lambda s: s["title"],
    "folder": lambda s: s["folder"],
    "asked": lambda s: s["children"]["asked"],
    "finished": lambda s: s["children"]["finished"],
    "complete": lambda s: s["children"]["complete"],
    "failed": lambda s: s["children"]["failed"],
    "pruned": lambda s: s["children"]["pruned"],
    "under way": lambda s: s["children"]["under_way"],
    "duplicates": lambda s: s["children"]["duplicates"],
    "best": lambda s: _percent(s["best"]["reward"]),
    "mean of best 5": lambda s: _percent(s["top_means"]["top_5"]),
    "mean of best 25": lambda s: _percent(s["top_means"]["top_25"]),
    "hours of training": lambda s: f"{s['seconds']['sum'] / 3600:.2f}",
}
RETRAINED_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "child": lambda c: c["child"],
    "in the search": lambda c: _percent(c["reward"]),
    "retrained": lambda c: _percent(c["retrained"]),
    "multiply-adds": lambda c: c["macs"],
    "parameters": lambda c: c["params"],
}


def _tabulate_groups(groups: Mapping[str, Any]) -> Table:
    """Seeds of a sampler at the number of children that all have."""
    rows = (
        [title, len(group["seeds"])]
        + [_span(group["at_equal_number"][f"top_{k}"], len(group["seeds"])) for k in TOP_KS]
        for title, group in groups.items()
    )
    columns = ["best" if k == 1 else f"mean of best {k}" for k in TOP_KS]
    return make_table(["sampler", "seeds", *columns], rows, is_sortable=False)


def _span(top: Mapping[str, float | None], num_seeds: int) -> str:
    words = _percent(top["mean"])
    if num_seeds == 1 or top["mean"] is None:
        return words
    return f"{words} ({_percent(top['lowest'])} to {_percent(top['highest'])})"


def _tabulate_provenance(
    studies: Sequence[Mapping[str, Any]], differences: Mapping[str, Sequence[Any]]
) -> dict[str, Table]:
    """Versions, and the config: what differs for each study, and what is common."""
    titles = [study["title"] for study in studies]
    packages = sorted({package for study in studies for package in study["versions"]})
    versions = ([p, *(study["versions"].get(p) for study in studies)] for p in packages)
    different = ([key, *map(text, values)] for key, values in differences.items())
    config = studies[0]["config"].items()
    common = ([key, text(value)] for key, value in config if key not in differences)
    return {
        "versions": make_table(["version of", *titles], versions, is_sortable=False),
        "config_differences": make_table(["key", *titles], different, is_sortable=False),
        "config": make_table(["key", "value"], common, is_sortable=False),
    }
