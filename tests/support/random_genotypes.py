"""Random genotypes of the full search space, for property tests."""

from __future__ import annotations

import random

from nasnet_det.genotype import COMBINERS, OPERATION_NAMES, Block, CellSpec, Genotype, loose_ends


def sample_cell(
    rng: random.Random, *, num_blocks: int = 5, explicit_concat: bool = False
) -> CellSpec:
    """A cell with uniform decisions.

    Args:
        rng: source of the decisions.
        num_blocks: number of blocks.
        explicit_concat: shuffle the loose ends and add some of the other states to them, instead
            of the paper's rule (the loose ends in order).
    """
    blocks = []
    for k in range(num_blocks):
        inputs = (rng.randrange(2 + k), rng.randrange(2 + k))
        ops = (rng.choice(OPERATION_NAMES), rng.choice(OPERATION_NAMES))
        blocks.append(Block(inputs, ops, rng.choice(COMBINERS)))
    concat = list(loose_ends(blocks))
    if explicit_concat:
        others = sorted(set(range(2 + num_blocks)) - set(concat))
        concat += rng.sample(others, rng.randint(0, len(others)))
        rng.shuffle(concat)
    return CellSpec(tuple(blocks), tuple(concat))


def sample_genotype(seed: int) -> Genotype:
    """Genotype number ``seed``: three of four are the paper's space, the fourth is wider.

    The wider ones have one to seven blocks, different numbers in the two cells, and explicit
    concat sets.
    """
    rng = random.Random(seed)
    if seed % 4:
        normal, reduction = sample_cell(rng), sample_cell(rng)
    else:
        normal, reduction = (
            sample_cell(rng, num_blocks=rng.randint(1, 7), explicit_concat=True) for _ in range(2)
        )
    return Genotype(normal, reduction, name=f"random_{seed}", provenance={"seed": seed})
