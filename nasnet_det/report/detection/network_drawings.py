"""Drawings of a run's own network: its cells and its plan."""

from __future__ import annotations

from collections.abc import Sequence

from nasnet_det.genotype import Genotype
from nasnet_det.network_config import get_spec_overrides, resolve_network
from nasnet_det.plan import NetworkSpec, find_differences
from nasnet_det.report.detection.run_folder import DetectionRun


def find_network(run: DetectionRun) -> tuple[NetworkSpec, Genotype] | None:
    """The spec and the cells of a run; None, and perhaps a note, if it has no NASNet or lost it."""
    config = {key.removeprefix("MODEL.NASNET."): value for key, value in run.config.items()}
    if "nasnet" not in str(config.get("MODEL.BACKBONE.NAME")):
        return None
    name = config.get("GENOTYPE")
    try:
        return resolve_network(str(config.get("VARIANT")), name, **get_spec_overrides(config))
    except (ValueError, OSError) as error:
        run.notes.append(f"Its network can't be drawn: {error}.")
        return None


def find_networks(
    names: Sequence[str], runs: Sequence[DetectionRun]
) -> dict[str, tuple[NetworkSpec, Genotype]]:
    """The different networks, by the names of the runs that have them."""
    found: list[tuple[list[str], tuple[NetworkSpec, Genotype]]] = []
    for name, run in zip(names, runs, strict=True):
        network = find_network(run)
        if network is None:
            continue
        same = [names for names, other in found if not find_differences(*other, *network)]
        if same:
            same[0].append(name)
        else:
            found.append(([name], network))
    return {", ".join(names): network for names, network in found}
