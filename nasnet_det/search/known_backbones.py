"""Known backbones that a search for detectors compares its own with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from yacs.config import CfgNode

from nasnet_det.published_cells import load_genotype
from nasnet_det.runs.candidates import Candidate
from nasnet_det.space import SearchSpace

Item = TypeVar("Item")


def list_known(cfg: CfgNode) -> list[Candidate]:
    """The known backbones to compare with, at each size of pictures."""
    node = cfg.SEARCH.DETECTOR
    sizes = sorted(node.MIN_SIZES)
    known = [
        Candidate(f"resnet_{depth}_{size}", size, depth=depth, is_known=True)
        for size in sizes
        for depth in sorted(node.RESNETS)
    ]
    if node.NASNET_A:
        cells = load_genotype("nasnet_a")
        known += [
            Candidate(
                f"nasnet_a_{number}x{channels}_{size}",
                size,
                num_cells_per_stage=number,
                channels=channels,
                genotype=cells,
                is_known=True,
            )
            for size in sizes
            for number in sorted(node.NUM_CELLS_PER_STAGE)
            for channels in sorted(node.CHANNELS)
        ]
    return known


def find_ends(space: SearchSpace) -> tuple[Candidate, Candidate]:
    """NASNet-A's cells with the least and the most of what can be chosen beside the cells."""
    least: dict[str, Any] = {extra.name: min(extra.values) for extra in space.extras}
    most: dict[str, Any] = {extra.name: max(extra.values) for extra in space.extras}
    cells = load_genotype("nasnet_a")
    return Candidate("least", genotype=cells, **least), Candidate("most", genotype=cells, **most)


def spread(items: Sequence[Item], number: int) -> list[Item]:
    """So many items, evenly spread over all, the first always."""
    return [items[place * len(items) // number] for place in range(number)]
