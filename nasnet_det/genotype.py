"""Cell architectures as values: blocks, cells and genotypes.

A cell combines hidden states. Their numbering is the same everywhere in this project:

====== =====================================================================
index  state
====== =====================================================================
0      ``h``, the cell's current input (the newest cell output)
1      ``h_prev``, the output of the cell before that
2 + k  the output of block ``k`` of this cell
====== =====================================================================

A block reads two states, applies one operation to each and combines the results by ``add`` or
``concat``. The cell's output is the depth concatenation of the states listed in ``concat``, in
that order. (DARTS and its descendants number the two inputs the other way round.)

This module needs the standard library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest

H, H_PREV, FIRST_BLOCK = 0, 1, 2

OPERATION_NAMES: tuple[str, ...] = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""The 13 operations of the paper's search space (section 3)."""

COMBINERS: tuple[str, ...] = ("add", "concat")


class GenotypeError(InputError):
    """A genotype that breaks the rules; ``faults`` lists every fault with its place."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__(f"{source} is not a valid genotype: " + "; ".join(self.faults))


@dataclass(frozen=True)
class Block:
    """One block: ``combine(ops[0](inputs[0]), ops[1](inputs[1]))``."""

    inputs: tuple[int, int]
    ops: tuple[str, str]
    combine: str = "add"


@dataclass(frozen=True)
class CellSpec:
    """A cell: its blocks and the states whose depth concatenation is its output."""

    blocks: tuple[Block, ...]
    concat: tuple[int, ...]

    @property
    def num_states(self) -> int:
        """Number of hidden states, the two inputs included."""
        return FIRST_BLOCK + len(self.blocks)

    def used_states(self) -> set[int]:
        """States that a block reads or that the output contains."""
        return {i for block in self.blocks for i in block.inputs} | set(self.concat)

    def faults(self, place: str) -> list[str]:
        """Every broken rule, each with its place below ``place``."""
        faults = []
        if not self.blocks:
            faults.append(f"{place}.blocks: wanted at least one block, got none")
        for k, block in enumerate(self.blocks):
            here = f"{place}.blocks[{k}]"
            for side, (state, op) in enumerate(zip(block.inputs, block.ops, strict=True)):
                if not 0 <= state < FIRST_BLOCK + k:
                    faults.append(
                        f"{here}.inputs[{side}]: wanted a state from 0 to {k + 1}, got {state}"
                    )
                if op not in OPERATION_NAMES:
                    faults.append(
                        f"{here}.ops[{side}]: unknown operation {op!r}, "
                        + nearest(op, OPERATION_NAMES)
                    )
            if block.combine not in COMBINERS:
                faults.append(
                    f"{here}.combine: unknown combiner {block.combine!r}, "
                    + nearest(block.combine, COMBINERS)
                )
        if not self.concat:
            faults.append(f"{place}.concat: wanted at least one state, got none")
        if len(set(self.concat)) != len(self.concat):
            faults.append(f"{place}.concat: a state is listed twice in {list(self.concat)}")
        for state in self.concat:
            if not 0 <= state < self.num_states:
                faults.append(
                    f"{place}.concat: wanted states from 0 to {self.num_states - 1}, got {state}"
                )
        used = self.used_states()
        if H not in used:
            faults.append(f"{place}: state 0 (h) is neither read by a block nor in concat")
        for k in range(len(self.blocks)):
            if FIRST_BLOCK + k not in used:
                faults.append(
                    f"{place}.blocks[{k}]: its output, state {FIRST_BLOCK + k}, "
                    "is neither read by a later block nor in concat"
                )
        return faults


def loose_ends(blocks: Sequence[Block]) -> tuple[int, ...]:
    """The paper's output rule: every state, inputs included, that no block reads."""
    read = {i for block in blocks for i in block.inputs}
    return tuple(i for i in range(FIRST_BLOCK + len(blocks)) if i not in read)


@dataclass(frozen=True)
class Genotype:
    """An architecture: the normal cell, the reduction cell, and where it came from.

    Attributes:
        normal: the cell that keeps the size of its input.
        reduction: the cell that halves height and width (operations on its two inputs have
            stride 2).
        name: a short name for tables and file names.
        provenance: JSON-able facts about the origin (paper, or study, trial and seed).
    """

    normal: CellSpec
    reduction: CellSpec
    name: str = "unnamed"
    provenance: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def validate(self, source: str = "") -> Genotype:
        """Return ``self``, or raise :class:`GenotypeError` listing all faults at once."""
        faults = self.normal.faults("normal") + self.reduction.faults("reduction")
        if faults:
            raise GenotypeError(source or f"genotype '{self.name}'", faults)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, read back by :meth:`from_dict`."""

        def cell(spec: CellSpec) -> dict[str, Any]:
            return {
                "blocks": [
                    {"inputs": list(b.inputs), "ops": list(b.ops), "combine": b.combine}
                    for b in spec.blocks
                ],
                "concat": list(spec.concat),
            }

        return {
            "name": self.name,
            "normal": cell(self.normal),
            "reduction": cell(self.reduction),
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: Any, source: str = "genotype") -> Genotype:
        """Build and validate a genotype from its JSON form.

        Raises:
            GenotypeError: listing all faults, those of form first.
        """
        faults: list[str] = []
        if not isinstance(data, dict):
            raise GenotypeError(source, [f"wanted a JSON object, got {type(data).__name__}"])
        unknown = sorted(set(data) - {"name", "normal", "reduction", "provenance"})
        faults += [f"unknown key {key!r}" for key in unknown]
        cells = {key: _parse_cell(data.get(key), key, faults) for key in ("normal", "reduction")}
        name, provenance = data.get("name", "unnamed"), data.get("provenance", {})
        if not isinstance(name, str):
            faults.append(f"name: wanted a string, got {name!r}")
        if not isinstance(provenance, dict):
            faults.append(f"provenance: wanted an object, got {provenance!r}")
        if not faults:
            return cls(cells["normal"], cells["reduction"], name, provenance).validate(source)
        for key, cell in cells.items():
            faults += cell.faults(key) if cell.blocks else []
        raise GenotypeError(source, faults)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the genotype as JSON, atomically."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        os.replace(partial, path)


def _parse_cell(data: Any, place: str, faults: list[str]) -> CellSpec:
    """Read one cell leniently, noting each fault of form; rules are checked by the caller."""
    if not isinstance(data, dict) or not isinstance(data.get("blocks"), list):
        faults.append(f"{place}: wanted an object with 'blocks' and 'concat', got {data!r:.60}")
        return CellSpec((), ())
    faults += [f"{place}: unknown key {k!r}" for k in sorted(set(data) - {"blocks", "concat"})]
    blocks = []
    for k, item in enumerate(data["blocks"]):
        here = f"{place}.blocks[{k}]"
        if not isinstance(item, dict):
            faults.append(f"{here}: wanted an object, got {item!r:.60}")
            continue
        faults += [
            f"{here}: unknown key {key!r}"
            for key in sorted(set(item) - {"inputs", "ops", "combine"})
        ]
        inputs, ops = item.get("inputs"), item.get("ops")
        if not (isinstance(inputs, list) and len(inputs) == 2 and all(map(_is_int, inputs))):
            faults.append(f"{here}.inputs: wanted two whole numbers, got {inputs!r}")
        elif not (isinstance(ops, list) and len(ops) == 2 and all(isinstance(o, str) for o in ops)):
            faults.append(f"{here}.ops: wanted two operation names, got {ops!r}")
        else:
            blocks.append(
                Block((inputs[0], inputs[1]), (ops[0], ops[1]), item.get("combine", "add"))
            )
    concat = data.get("concat")
    if not (isinstance(concat, list) and all(map(_is_int, concat))):
        faults.append(f"{place}.concat: wanted a list of whole numbers, got {concat!r}")
        concat = loose_ends(blocks)
    return CellSpec(tuple(blocks), tuple(concat))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
