"""The report of one or several searches: ``report.json``, ``report.html`` and the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nasnet_det.drawing.cells import draw_cells
from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.report import html_page as page
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
from nasnet_det.runs.files import write_content, write_json
from nasnet_det.runs.study_results import Study

TITLE = "Architecture search"
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
        name = base = f"{study.sampler}_{study.seed}"
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
    warning = [page.warning(report["warning"])] if report["warning"] else []
    parts = [*_list_studies(studies), *warning]
    parts += [*_compare_groups(report["comparison"], svgs["top_means"])]
    parts += [
        page.heading("Rewards"),
        page.picture(
            svgs["rewards"],
            "The reward of every child, the best so far and the moving mean of each search.",
            "Every child in the order in which it was proposed. The moving mean says whether a "
            "sampler learns; the best so far also grows by chance. A pruned child has the accuracy "
            "at which its training was ended.",
        ),
        page.heading("Accuracy against multiply-adds"),
        page.picture(
            svgs["accuracy_macs"],
            "Accuracy over multiply-adds of all children, with the Pareto front of each sampler.",
            "Each point is a child. On the line of a sampler are those that none of its other "
            "children beats in both.",
        ),
        *_list_retrained(studies),
        page.heading("Best cells"),
    ]
    for study, name in zip(studies, names, strict=True):
        best = study["chosen"]
        accuracy = best["retrained"]
        longer = "" if accuracy is None else f" ({_percent(accuracy)} when retrained)"
        parts.append(
            page.picture(
                svgs[f"cells_{name}"],
                f"The normal and the reduction cell of child {best['child']} of {study['title']}.",
                f"{study['title']}: child {best['child']}, {_percent(best['reward'])} of held-out "
                f"images{longer}, {page.format_value(best['macs'])} multiply-adds, "
                f"{page.format_value(best['params'])} parameters.",
            )
        )
    parts.append(page.heading("What was proposed over time"))
    for study, name in zip(studies, names, strict=True):
        parts.append(
            page.picture(
                svgs[f"operations_{name}"],
                f"The share of each operation among the children of {study['title']} over time.",
                f"{study['title']}: the share of each operation. A sampler that chooses uniformly "
                "stays in the grey band in about 95 of 100 windows.",
            )
        )
    parts += [*_list_failures(studies), *_list_provenance(report)]
    return page.make_page(TITLE, parts)


def _percent(value: float | None) -> str:
    return page.format_value(None if value is None else f"{100 * value:.2f}%")


def _list_studies(studies: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table at the top of the page."""
    columns: dict[str, Callable[[Mapping[str, Any]], object]] = {
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
    return [
        page.paragraph(
            "The reward of a child is the accuracy of a short training on images that were held "
            "out, not that of a full training."
        ),
        page.table(list(columns), [[get(study) for get in columns.values()] for study in studies]),
    ]


def _compare_groups(comparison: Mapping[str, Any], svg: bytes) -> list[str]:
    number = comparison["num_children"]
    rows = [
        [title, len(group["seeds"])]
        + [_span(group["at_equal_number"][f"top_{k}"], len(group["seeds"])) for k in TOP_KS]
        for title, group in comparison["groups"].items()
    ]
    header = ["sampler", "seeds", *("best" if k == 1 else f"mean of best {k}" for k in TOP_KS)]
    return [
        page.heading("The best over the number of children"),
        page.picture(
            svg,
            "The best reward and the mean of the best 5 and 25 over the number of children.",
            "Means over the seeds of a sampler; the band goes from the lowest to the highest seed. "
            "Equal architectures count once.",
        ),
        page.paragraph(f"After {number:,} children each (lowest to highest seed in brackets):"),
        page.table(header, rows),
    ]


def _span(top: Mapping[str, float | None], num_seeds: int) -> str:
    text = _percent(top["mean"])
    if num_seeds == 1 or top["mean"] is None:
        return text
    return f"{text} ({_percent(top['lowest'])} to {_percent(top['highest'])})"


def _list_retrained(studies: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best after the retraining, for the searches that have one."""
    parts = []
    for study in studies:
        retrained = study["retrained"]
        number, failed = len(retrained["children"]), len(retrained["failures"])
        if not number + failed:
            continue
        changes = ", ".join(f"{key} {value}" for key, value in retrained["config"].items())
        rows = [
            [child["child"], *(_percent(child[key]) for key in ("reward", "retrained"))]
            + [child[key] for key in ("macs", "params")]
            for child in retrained["children"][:MAX_RETRAINED]
        ]
        header = ["child", "in the search", "retrained", "multiply-adds", "parameters"]
        parts += [
            page.paragraph(
                f"{study['title']}: {number + failed} of the best were retrained with "
                f"{changes or 'the same config'}; {failed} failed. The best after that:"
            ),
            page.table(header, rows),
        ]
    return [page.heading("Retrained"), *parts] if parts else []


def _list_failures(studies: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [study["title"], failure["kind"], failure["count"], failure["example"]]
        for study in studies
        for failure in study["failures"]
    ]
    if not rows:
        return [page.heading("Failures"), page.paragraph("No child failed.")]
    return [
        page.heading("Failures"),
        page.table(["search", "reason", "children", "for example"], rows),
    ]


def _list_provenance(report: Mapping[str, Any]) -> list[str]:
    """Versions, and the config: what differs for each study, then what is common."""
    studies, differences = report["studies"], report["config_differences"]
    titles = [study["title"] for study in studies]
    packages = sorted({package for study in studies for package in study["versions"]})
    parts = [
        page.heading("Provenance"),
        page.table(
            ["version of", *titles],
            [[p, *(study["versions"].get(p) for study in studies)] for p in packages],
        ),
    ]
    if differences:
        parts += [
            page.paragraph("Where the configs differ:"),
            page.table(
                ["key", *titles],
                [[key, *map(_write_value, values)] for key, values in differences.items()],
            ),
        ]
    common = [
        [key, _write_value(value)]
        for key, value in studies[0]["config"].items()
        if key not in differences
    ]
    intro = "What they have in common:" if len(studies) > 1 else "The config:"
    return [*parts, page.paragraph(intro), page.table(["key", "value"], common)]


def _write_value(value: object) -> str:
    return page.format_value(None if value is None else str(value))
