"""The search space: an ordered list of decisions, and its bijection with genotypes.

Each block takes five decisions, in the paper's order: the first and the second hidden state, the
operation on the first and on the second, and the combiner. The blocks of the normal cell come
first, then those of the reduction cell, so the paper's five blocks make 2 x 5 x 5 = 50 decisions
(arXiv 1707.07012, section 3 and appendix A.2). States that no block reads are concatenated, so
every list of decisions is a valid genotype: an input that no block reads is part of the output.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nasnet_det.canonical import IntBlock, canonical_numberings, count_cells
from nasnet_det.errors import InputError
from nasnet_det.genotype import (
    COMBINERS,
    FIRST_BLOCK,
    OPERATION_NAMES,
    Block,
    CellSpec,
    Genotype,
    loose_ends,
)
from nasnet_det.near_names import nearest

CELLS = ("normal", "reduction")
DECISIONS_PER_BLOCK = 5
PARTS = ("input_0", "input_1", "op_0", "op_1", "combine")

Choices = tuple[int, ...]
"""A list of decisions: for each decision the index of the choice that was made."""


class SpaceError(InputError):
    """A space, a list of decisions or a genotype that can't be; ``faults`` lists all reasons."""

    def __init__(self, what: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__(f"{what}: " + "; ".join(self.faults))


class Decision(NamedTuple):
    """One decision.

    Attributes:
        name: ``<cell>.<block>.<part>``, such as ``normal.0.op_1``; beside the cells any other.
        values: what can be chosen: states, operation names or combiners; beside the cells numbers.
    """

    name: str
    values: tuple[int | str, ...]


@dataclass(frozen=True)
class SearchSpace:
    """The paper's space, or a part of it.

    Attributes:
        num_blocks: B, blocks in each of the two cells.
        operations: names of the operations to choose from.
        combiners: ``add`` and ``concat``, or one of them.
        extras: decisions beside the cells, such as the number of channels; they come last.
    """

    num_blocks: int = 5
    operations: tuple[str, ...] = OPERATION_NAMES
    combiners: tuple[str, ...] = COMBINERS
    extras: tuple[Decision, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if isinstance(self.num_blocks, bool) or not isinstance(self.num_blocks, int):
            faults.append(f"num_blocks: wanted a whole number, got {self.num_blocks!r}")
        elif self.num_blocks < 1:
            faults.append(f"num_blocks: wanted at least 1, got {self.num_blocks}")
        for field, valid in (("operations", OPERATION_NAMES), ("combiners", COMBINERS)):
            names = tuple(getattr(self, field))
            object.__setattr__(self, field, names)
            if not names:
                faults.append(f"{field}: wanted at least one of {', '.join(valid)}, got none")
            if len(set(names)) != len(names):
                faults.append(f"{field}: a name is listed twice in {list(names)}")
            faults += [
                f"{field}: unknown {n!r}, {nearest(n, valid)}" for n in names if n not in valid
            ]
        if faults:
            raise SpaceError("impossible search space", faults)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions in order, ``2 * num_blocks * 5`` of cells and then the extras."""
        decisions = []
        for cell in CELLS:
            for k in range(self.num_blocks):
                states = tuple(range(FIRST_BLOCK + k))
                values: tuple[tuple[int | str, ...], ...] = (
                    states,
                    states,
                    self.operations,
                    self.operations,
                    self.combiners,
                )
                decisions += [
                    Decision(f"{cell}.{k}.{part}", v) for part, v in zip(PARTS, values, strict=True)
                ]
        return (*decisions, *self.extras)

    @property
    def num_choices(self) -> tuple[int, ...]:
        """Number of choices of each decision."""
        return tuple(len(decision.values) for decision in self.decisions)

    def count_decision_lists(self) -> int:
        """Number of lists of decisions."""
        return math.prod(self.num_choices)

    def count_architectures(self) -> int:
        """Number of different networks (see :mod:`nasnet_det.canonical`)."""
        cells = count_cells(self.num_blocks, len(self.operations), len(self.combiners))
        return cells**2 * math.prod(len(extra.values) for extra in self.extras)

    def sample(self, rng: random.Random) -> Choices:
        """A uniformly random list of decisions."""
        return tuple(rng.randrange(n) for n in self.num_choices)

    def decode(self, choices: Sequence[int], *, name: str = "unnamed") -> Genotype:
        """The genotype that a list of decisions describes; :meth:`get_extras` has the rest.

        Raises:
            SpaceError: not one choice for each decision, or a choice out of range.
        """
        cells = [
            tuple(
                Block((i, j), (self.operations[a], self.operations[b]), self.combiners[c])
                for i, j, a, b, c in cell
            )
            for cell in self._split(choices)
        ]
        normal, reduction = (CellSpec(blocks, loose_ends(blocks)) for blocks in cells)
        return Genotype(normal, reduction, name=name)

    def get_extras(self, choices: Sequence[int]) -> dict[str, int | str]:
        """What was chosen beside the cells, by name."""
        chosen = self.check(choices)[len(self.decisions) - len(self.extras) :]
        return {extra.name: extra.values[c] for extra, c in zip(self.extras, chosen, strict=True)}

    def encode(self, genotype: Genotype) -> Choices:
        """The list of decisions that describes a genotype; the inverse of :meth:`decode`.

        Of a space with extras it is the list's beginning.

        Raises:
            SpaceError: the genotype is not in this space. So are the published cells: their
                outputs are not exactly the states that no block reads.
        """
        faults: list[str] = []
        choices: list[int] = []
        for cell in CELLS:
            spec: CellSpec = getattr(genotype, cell)
            if len(spec.blocks) != self.num_blocks:
                faults.append(f"{cell}: wanted {self.num_blocks} blocks, got {len(spec.blocks)}")
            if spec.concat != loose_ends(spec.blocks):
                faults.append(
                    f"{cell}.concat: wanted {list(loose_ends(spec.blocks))}, the states that no "
                    f"block reads, got {list(spec.concat)}"
                )
            for block in spec.blocks:
                faults += [
                    f"{cell}: {value!r} is not among {', '.join(valid)}"
                    for value, valid in (
                        (block.ops[0], self.operations),
                        (block.ops[1], self.operations),
                        (block.combine, self.combiners),
                    )
                    if value not in valid
                ]
        if faults:
            raise SpaceError(f"genotype '{genotype.name}' is not in the search space", faults)
        for cell in CELLS:
            for block in getattr(genotype, cell).blocks:
                choices += block.inputs
                choices += (self.operations.index(op) for op in block.ops)
                choices.append(self.combiners.index(block.combine))
        return tuple(choices)

    def canonicalize(self, choices: Sequence[int]) -> Choices:
        """The one list of decisions that stands for all that describe the same network.

        Raises:
            SpaceError: not one choice for each decision, or a choice out of range.
        """
        cells = _join(canonical_numberings(cell)[0] for cell in self._split(choices))
        return (*cells, *choices[len(cells) :])

    def check(self, choices: Sequence[int]) -> Choices:
        """The list as a tuple.

        Raises:
            SpaceError: not one choice for each decision, or a choice out of range.
        """
        if len(choices) != len(self.decisions):
            raise SpaceError(
                "impossible list of decisions",
                [f"wanted {len(self.decisions)} decisions, got {len(choices)}"],
            )
        faults = [
            f"{decision.name}: wanted a choice from 0 to {len(decision.values) - 1}, got {choice}"
            for decision, choice in zip(self.decisions, choices, strict=True)
            if not 0 <= choice < len(decision.values)
        ]
        if faults:
            raise SpaceError("impossible list of decisions", faults)
        return tuple(choices)

    def _split(self, choices: Sequence[int]) -> list[tuple[IntBlock, ...]]:
        """The cells, as :mod:`nasnet_det.canonical` writes them."""
        checked = iter(self.check(choices)[: len(self.decisions) - len(self.extras)])
        blocks = list(zip(*[checked] * DECISIONS_PER_BLOCK, strict=True))
        return [tuple(blocks[: self.num_blocks]), tuple(blocks[self.num_blocks :])]


def _join(cells: Iterable[tuple[IntBlock, ...]]) -> Choices:
    return tuple(choice for cell in cells for block in cell for choice in block)
