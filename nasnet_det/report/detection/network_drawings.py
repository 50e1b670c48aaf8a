"""Drawings of a run's own network: its cells and its plan."""

from __future__ import annotations

from collections.abc import Sequence

from nasnet_det.genotype import Genotype, load_genotype
from nasnet_det.plan import NetworkSpec, override_spec
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.variants import resolve_variant

SIZE_KEYS = ("NUM_CELLS_PER_STAGE", "CHANNELS", "STEM", "STEM_MULTIPLIER")


def find_network(run: DetectionRun) -> tuple[NetworkSpec, Genotype] | None:
    """The spec and the cells of a run; None, and perhaps a note, if it has no NASNet or lost it."""
    config = {key.removeprefix("MODEL.NASNET."): value for key, value in run.config.items()}
    if "nasnet" not in str(config.get("MODEL.BACKBONE.NAME")):
        return None
    name = config.get("GENOTYPE")
    try:
        cells = load_genotype(name) if name else None
        spec, cells = resolve_variant(str(config.get("VARIANT")), cells)
        sizes = {key.lower(): config[key] for key in SIZE_KEYS if config.get(key)}
        return override_spec(spec, **sizes), cells
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
        same = [names for names, other in found if _is_same(other, network)]
        if same:
            same[0].append(name)
        else:
            found.append(([name], network))
    return {", ".join(names): network for names, network in found}


def _is_same(first: tuple[NetworkSpec, Genotype], second: tuple[NetworkSpec, Genotype]) -> bool:
    cells = [(genotype.normal, genotype.reduction) for _, genotype in (first, second)]
    return first[0] == second[0] and cells[0] == cells[1]
