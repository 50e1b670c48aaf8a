"""The published cells by name, and genotypes by name or from a file.

This module needs the standard library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from nasnet_det.errors import InputError
from nasnet_det.genotype import Block, CellSpec, Genotype, GenotypeError
from nasnet_det.near_names import nearest


def _cell(concat: Sequence[int], *blocks: tuple[str, int, str, int]) -> CellSpec:
    return CellSpec(
        tuple(Block((i, j), (left, right)) for left, i, right, j in blocks), tuple(concat)
    )


# Sources and cross-checks of the published cells: TF-slim nasnet_utils.py and pnasnet.py; the
# concat sets of NASNet-A are slim's (parameter counts match the paper only with them). The
# AmoebaNet-A cells are second-hand (DARTS' genotypes.py, renumbered), not from its authors' code.
_PNASNET_5_CELL = _cell(
    (2, 3, 4, 5, 6),
    ("sep_conv_5x5", 1, "max_pool_3x3", 1),
    ("sep_conv_7x7", 0, "max_pool_3x3", 0),
    ("sep_conv_5x5", 0, "sep_conv_3x3", 0),
    ("sep_conv_3x3", 4, "max_pool_3x3", 0),
    ("sep_conv_3x3", 1, "identity", 0),
)

GENOTYPES: dict[str, Genotype] = {
    genotype.name: genotype
    for genotype in (
        Genotype(
            name="nasnet_a",
            normal=_cell(
                (1, 2, 3, 4, 5, 6),
                ("sep_conv_5x5", 0, "sep_conv_3x3", 1),
                ("sep_conv_5x5", 1, "sep_conv_3x3", 1),
                ("avg_pool_3x3", 0, "identity", 1),
                ("avg_pool_3x3", 1, "avg_pool_3x3", 1),
                ("sep_conv_3x3", 0, "identity", 0),
            ),
            reduction=_cell(
                (3, 4, 5, 6),
                ("sep_conv_5x5", 0, "sep_conv_7x7", 1),
                ("max_pool_3x3", 0, "sep_conv_7x7", 1),
                ("avg_pool_3x3", 0, "sep_conv_5x5", 1),
                ("identity", 3, "avg_pool_3x3", 2),
                ("sep_conv_3x3", 2, "max_pool_3x3", 0),
            ),
            provenance={"source": "arXiv 1707.07012; TF-slim nasnet_utils.py"},
        ),
        Genotype(
            name="pnasnet_5",
            normal=_PNASNET_5_CELL,
            reduction=_PNASNET_5_CELL,
            provenance={"source": "arXiv 1712.00559; TF-slim pnasnet.py"},
        ),
        Genotype(
            name="amoebanet_a",
            normal=_cell(
                (4, 5, 6),
                ("avg_pool_3x3", 1, "max_pool_3x3", 0),
                ("sep_conv_3x3", 1, "sep_conv_5x5", 2),
                ("sep_conv_3x3", 1, "avg_pool_3x3", 3),
                ("sep_conv_3x3", 0, "identity", 0),
                ("identity", 1, "avg_pool_3x3", 0),
            ),
            reduction=_cell(
                (3, 4, 6),
                ("avg_pool_3x3", 1, "sep_conv_3x3", 0),
                ("max_pool_3x3", 1, "sep_conv_7x7", 2),
                ("sep_conv_7x7", 1, "avg_pool_3x3", 0),
                ("max_pool_3x3", 1, "max_pool_3x3", 0),
                ("conv_1x7_7x1", 1, "sep_conv_3x3", 5),
            ),
            provenance={"source": "arXiv 1802.01548 as listed in DARTS' genotypes.py"},
        ),
    )
}
"""The published cells by name."""


def load_genotype(name_or_path: str | os.PathLike[str]) -> Genotype:
    """A published genotype by name, or one from a JSON file.

    Raises:
        GenotypeError: the file is not valid (all faults, each with its place).
        InputError: neither a published name nor a readable JSON file.
    """
    text = os.fspath(name_or_path)
    if text in GENOTYPES:
        return GENOTYPES[text]
    path = Path(text)
    if not path.is_file():
        raise InputError(
            f"no genotype '{text}': it is neither a file nor a published cell, "
            + nearest(text, GENOTYPES)
        )
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise GenotypeError(f"file '{text}'", [f"it is not JSON ({error})"]) from None
    return Genotype.from_dict(data, source=f"file '{text}'")
