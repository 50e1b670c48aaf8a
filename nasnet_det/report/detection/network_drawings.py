"""The networks of runs, and drawings of their cells and plans."""

from __future__ import annotations

from collections.abc import Sequence

from nasnet_det.drawing.cells import draw_cells
from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.drawing.plan import draw_plan
from nasnet_det.genotype import Genotype
from nasnet_det.network_config import get_spec_overrides, resolve_network
from nasnet_det.plan import NetworkSpec, find_differences
from nasnet_det.report.detection.run_folder import DetectionRun

Network = tuple[NetworkSpec, Genotype]
PREFIX = "MODEL.NASNET."


def find_network(run: DetectionRun) -> tuple[Network | None, list[str]]:
    """The spec and the cells of a run, None if it has no NASNet; a note if it lost them."""
    if "nasnet" not in str(run.config.get("MODEL.BACKBONE.NAME")):
        return None, []
    config = {k.removeprefix(PREFIX): v for k, v in run.config.items() if k.startswith(PREFIX)}
    try:
        sizes = get_spec_overrides(config)
        return resolve_network(str(config.get("VARIANT")), config.get("GENOTYPE"), **sizes), []
    except (ValueError, OSError) as error:
        return None, [f"Its network can't be drawn: {error}."]


def draw_networks(networks: Sequence[tuple[str, Network]]) -> dict[str, tuple[bytes, bytes]]:
    """SVGs of the cells and the plan of each different network, by the names of its runs."""
    found: list[tuple[list[str], Network]] = []
    for name, network in networks:
        same = [names for names, other in found if not find_differences(*other, *network)]
        if same:
            same[0].append(name)
        else:
            found.append(([name], network))
    return {
        ", ".join(names): (
            render_figure(draw_cells(genotype), "svg", title="cells"),
            render_figure(draw_plan(spec, genotype), "svg", title="plan"),
        )
        for names, (spec, genotype) in found
    }
