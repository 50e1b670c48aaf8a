"""``report.json``, ``report.html`` and the figures of a search for detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nasnet_det.drawing.cells import draw_cells
from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.drawing.figure_style import INK, STYLES, add_legend, make_axes
from nasnet_det.report.detection.intervals import NUM_DRAWS
from nasnet_det.report.front.points import (
    UNITS,
    Pair,
    Point,
    choose_cost,
    collect_points,
    find_best_known,
    judge,
    pair_with_known,
)
from nasnet_det.report.front.ranks import RankAgreement, compare_rungs
from nasnet_det.report.html import render_page
from nasnet_det.report.tables import DASH, Table, make_table, number, quantity
from nasnet_det.runs.candidates import Candidate, Front, read_front
from nasnet_det.runs.files import write_content, write_json

AXES = {
    "latency_ms": "milliseconds for one picture",
    "macs": "multiply-adds for one picture (millions)",
    "params": "parameters (millions)",
}


def write_front_report(source: Path, folder: Path, *, num_draws: int = NUM_DRAWS) -> dict[str, Any]:
    """Write the report of a search for detectors.

    Args:
        source: its OUTPUT_DIR.
        folder: is made; files of the same names are replaced.
        num_draws: of the bootstrap.

    Returns:
        the content of ``report.json``.

    Raises:
        InputError: the search has not come to its end, or a file can't be written.
    """
    front = read_front(source)
    points = collect_points(front, source, num_draws=num_draws)
    cost, pairs, ranks = choose_cost(front), pair_with_known(points), compare_rungs(front)
    verdict = judge(points, pairs, cost)
    failures = {
        one.candidate.name: one.failure for rung in front.rungs for one in rung if one.failure
    }
    report = {
        "verdict": asdict(verdict),
        "goals": list(front.goals),
        "points": [_describe_point(point) for point in points],
        "pairs": [_describe_pair(pair) for pair in pairs],
        "ranks": [asdict(one) for one in ranks],
        "plan": dict(front.plan),
        "failures": failures,
    }
    found = [p for p in points if p.is_on_front and p.trained.candidate.genotype]
    figures = {"front": draw_front(points, cost)}
    for point in found:
        assert point.trained.candidate.genotype is not None
        figures[f"cells_{point.name}"] = draw_cells(point.trained.candidate.genotype)
    folder.mkdir(parents=True, exist_ok=True)
    svgs = {}
    for name, figure in figures.items():
        svgs[name] = render_figure(figure, "svg", title=name.replace("_", " "))
        write_content(folder / f"{name}.svg", svgs[name])
    write_json(folder / "report.json", report)
    page = render_page(
        "front",
        title="Search for detectors",
        verdict=verdict,
        svgs=svgs,
        drawn=[(p.name, _describe(p.trained.candidate)) for p in found],
        latency=next((p.trained.latency for p in points if p.trained.latency), None),
        num_pictures=next(
            (p.evaluations[0].matches.num_images for p in points if p.evaluations), 0
        ),
        iterations=front.iterations,
        num_seeds=max(len(point.trained.runs) for point in points),
        tables={
            "points": _tabulate_points(points),
            "pairs": _tabulate_pairs(pairs, cost),
            "ranks": _tabulate_ranks(ranks),
            "rungs": _tabulate_rungs(front),
            "failures": make_table(["candidate", "reason"], failures.items(), is_sortable=False),
            "config": make_table(["key", "value"], front.config.items(), is_sortable=False),
        },
    )
    write_content(folder / "report.html", page)
    return report


def _describe_point(point: Point) -> dict[str, Any]:
    one = point.trained
    return {
        "name": point.name,
        "is_known": one.candidate.is_known,
        "is_on_front": point.is_on_front,
        "ap": asdict(point.ap),
        **{key: value for key, value in one.values.items() if key != "ap"},
        "latency": one.latency and asdict(one.latency),
        "candidate": one.candidate.to_dict(),
    }


def _describe_pair(pair: Pair) -> dict[str, Any]:
    return {
        "found": pair.found.name,
        "known": pair.known.name,
        "difference": asdict(pair.difference),
        "cost": pair.cost,
    }


def _describe(candidate: Candidate) -> str:
    size = f"{candidate.min_size} pixels"
    if candidate.depth:
        return f"ResNet-{candidate.depth}, {size}"
    cells = "NASNet-A" if candidate.is_known else "own cells"
    return f"{cells}, N {candidate.num_cells_per_stage}, F {candidate.channels}, {size}"


def _tabulate_points(points: Sequence[Point]) -> Table:
    rows = []
    for point in points:
        one = point.trained
        interval = point.ap.interval
        latency = one.latency
        rows.append(
            [
                point.name,
                _describe(one.candidate),
                "yes" if point.is_on_front else "",
                number(point.ap.value, ".1f"),
                f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else DASH,
                number(latency.ms if latency else None, ".1f"),
                f"{latency.low:.1f} to {latency.high:.1f}" if latency else DASH,
                quantity(one.values["macs"]),
                quantity(one.values["params"]),
            ]
        )
    columns = [
        *("detector", "what it is", "on the front", "AP", "95% interval"),
        *("ms", "quartiles", "multiply-adds", "parameters"),
    ]
    return make_table(columns, rows)


def _tabulate_pairs(pairs: Sequence[Pair], cost: str) -> Table:
    rows = []
    for pair in pairs:
        interval = pair.difference.interval
        rows.append(
            [
                pair.found.name,
                pair.known.name,
                number(pair.difference.value, "+.1f"),
                f"{interval[0]:+.1f} to {interval[1]:+.1f}" if interval else DASH,
                number(pair.cost, ".2f"),
            ]
        )
    ratio = f"{UNITS.get(cost, 'cost')}, as a multiple"
    return make_table(["found", "beside", "AP more", "95% interval", ratio], rows)


def _tabulate_ranks(ranks: Sequence[RankAgreement]) -> Table:
    rows = (
        [
            f"{one.before} and {one.after}",
            one.who,
            one.number,
            number(one.spearman, ".2f"),
            number(one.kendall, ".2f"),
        ]
        for one in ranks
    )
    columns = ["rungs", "candidates", "number", "Spearman", "Kendall"]
    return make_table(columns, rows, is_sortable=False)


def _tabulate_rungs(front: Front) -> Table:
    """A row for each candidate that came further than the first rung."""
    scores = [
        {one.candidate.name: one.values.get("ap", one.values.get("accuracy")) for one in rung}
        for rung in front.rungs
    ]
    rows = (
        [name, *(number(_percent(rung.get(name)), ".1f") for rung in scores)] for name in scores[1]
    )
    heads = ["accuracy on crops", *(f"AP after {number_:,}" for number_ in front.iterations)]
    return make_table(["candidate", *heads], rows)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def draw_front(points: Sequence[Point], cost: str) -> Figure:
    """AP with its interval against the cost, found ones and known ones, each with its front."""
    figure, (panel,) = make_axes(1, num_columns=1, size=(6.4, 4.4))
    unit = 1 if cost in ("", "latency_ms") else 1e6
    for is_known, label, style in ((False, "found", STYLES[0]), (True, "known", STYLES[1])):
        own = [p for p in points if p.trained.candidate.is_known == is_known]
        if not own:
            continue
        x, y = [p.cost / unit for p in own], [p.ap.value or 0.0 for p in own]
        ends = [p.ap.interval or (p.ap.value or 0.0,) * 2 for p in own]
        spans = [
            [max(0.0, v - low) for v, (low, _) in zip(y, ends, strict=True)],
            [max(0.0, high - v) for v, (_, high) in zip(y, ends, strict=True)],
        ]
        panel.errorbar(
            x, y, yerr=spans, fmt=style["marker"], color=style["color"], markersize=5,
            markeredgecolor=INK, markeredgewidth=0.5, elinewidth=0.9, label=label,
        )  # fmt: skip
        for point, right, up in zip(own, x, y, strict=True):
            panel.annotate(
                point.name, (right, up), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    best = find_best_known(points)
    panel.plot(
        [p.cost / unit for p in best], [p.ap.value or 0.0 for p in best], drawstyle="steps-post",
        color=STYLES[1]["color"], linestyle="--", linewidth=1, label="front of the known",
    )  # fmt: skip
    panel.set_xlabel(AXES.get(cost, "no cost among the goals"), fontsize=9)
    panel.set_ylabel("AP on held-out pictures (%)", fontsize=9)
    add_legend(figure, panel)
    return figure
