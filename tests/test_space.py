"""Decisions and genotypes: bijection, canonical form, counts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import networkx
import pytest

from nasnet_det.genotype import (
    COMBINERS,
    FIRST_BLOCK,
    OPERATION_NAMES,
    Block,
    CellSpec,
    Genotype,
    loose_ends,
)
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.space import CELLS, Choices, Decision, SearchSpace, SpaceError

SPACE = SearchSpace()
NUM_SAMPLES = 10_000


def sample_lists(space: SearchSpace, number: int) -> Iterator[Choices]:
    rng = random.Random(number)
    return (space.sample(rng) for _ in range(number))


def rewrite(genotype: Genotype, rng: random.Random) -> Genotype:
    """The same graphs, their blocks in another possible order and their pairs swapped at random."""
    return Genotype(*(rewrite_cell(getattr(genotype, cell), rng) for cell in CELLS))


def rewrite_cell(cell: CellSpec, rng: random.Random) -> CellSpec:
    old_blocks = dict(enumerate(cell.blocks, FIRST_BLOCK))
    number = {0: 0, 1: 1}
    blocks: list[Block] = []
    while old_blocks:
        ready = [old for old, block in old_blocks.items() if set(block.inputs) <= set(number)]
        old = rng.choice(ready)
        block = old_blocks.pop(old)
        sides = [(number[state], op) for state, op in zip(block.inputs, block.ops, strict=True)]
        rng.shuffle(sides)
        (left, left_op), (right, right_op) = sides
        blocks.append(Block((left, right), (left_op, right_op), block.combine))
        number[old] = len(number)
    return CellSpec(tuple(blocks), loose_ends(blocks))


def graph_of(genotype: Genotype, cell: str) -> networkx.DiGraph:
    """A cell for networkx: states are nodes, and so is each of a block's two operations."""
    graph = networkx.DiGraph()
    graph.add_node(0, label="h")
    graph.add_node(1, label="h_prev")
    for state, block in enumerate(getattr(genotype, cell).blocks, FIRST_BLOCK):
        graph.add_node(state, label=block.combine)
        for side, (source, op) in enumerate(zip(block.inputs, block.ops, strict=True)):
            graph.add_node((state, side), label=op)
            graph.add_edge(source, (state, side))
            graph.add_edge((state, side), state)
    return graph


def are_isomorphic(one: Genotype, other: Genotype) -> bool:
    return all(
        networkx.is_isomorphic(
            graph_of(one, cell),
            graph_of(other, cell),
            node_match=lambda a, b: a["label"] == b["label"],
        )
        for cell in CELLS
    )


def test_space_has_the_papers_decisions() -> None:
    assert len(SPACE.decisions) == 50
    assert SPACE.num_choices[:25] == SPACE.num_choices[25:]
    assert SPACE.num_choices[0:25:5] == (2, 3, 4, 5, 6)
    assert SPACE.num_choices[1:25:5] == (2, 3, 4, 5, 6)
    assert SPACE.decisions[0] == ("normal.0.input_0", (0, 1))
    assert SPACE.decisions[3] == ("normal.0.op_1", OPERATION_NAMES)
    assert SPACE.decisions[49] == ("reduction.4.combine", COMBINERS)
    assert len({decision.name for decision in SPACE.decisions}) == 50


def test_decode_reads_the_decisions_in_order() -> None:
    genotype = SearchSpace(num_blocks=2).decode(
        [0, 1, 0, 12, 1] + [2, 2, 9, 4, 0] + [1, 1, 0, 0, 0] + [0, 1, 3, 3, 0]
    )
    assert genotype.normal.blocks == (
        Block((0, 1), ("identity", "sep_conv_7x7"), "concat"),
        Block((2, 2), ("conv_3x3", "avg_pool_3x3"), "add"),
    )
    assert genotype.normal.concat == (3,)
    assert genotype.reduction.concat == (2, 3)


def test_every_list_of_decisions_is_a_valid_genotype_and_comes_back() -> None:
    unread_inputs = 0
    for choices in sample_lists(SPACE, NUM_SAMPLES):
        genotype = SPACE.decode(choices).validate()
        assert SPACE.encode(genotype) == choices
        unread_inputs += 0 in genotype.normal.concat
    assert unread_inputs > 100, "cells that do not read h were among them"


def test_canonical_form_is_one_of_the_ways_to_write_the_network() -> None:
    rng = random.Random(1)
    num_changed = 0
    for choices in sample_lists(SPACE, NUM_SAMPLES):
        canonical = SPACE.canonicalize(choices)
        assert SPACE.canonicalize(canonical) == canonical
        rewritten = SPACE.encode(rewrite(SPACE.decode(choices), rng))
        assert SPACE.canonicalize(rewritten) == canonical
        num_changed += rewritten != choices
    assert num_changed > 0.9 * NUM_SAMPLES


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(1, ("identity", "conv_1x1")),
        SearchSpace(3, ("identity",), ("add",)),
        SearchSpace(4, ("identity",), ("add",)),
        SearchSpace(2, ("identity", "conv_1x1"), ("add",)),
    ],
    ids=str,
)
def test_equal_canonical_forms_are_exactly_the_isomorphic_graphs(space: SearchSpace) -> None:
    """By networkx, which torch brings along, on pairs that differ in one decision or none."""
    rng = random.Random(2)
    outcomes = []
    for choices in sample_lists(space, 400):
        other = list(space.encode(rewrite(space.decode(choices), rng)))
        if rng.random() < 0.8:
            place = rng.randrange(len(other))
            other[place] = rng.randrange(space.num_choices[place])
        same = space.canonicalize(choices) == space.canonicalize(other)
        assert same == are_isomorphic(space.decode(choices), space.decode(other))
        outcomes.append(same)
    assert 40 < sum(outcomes) < 360, "both outcomes were tried"


@pytest.mark.parametrize(
    ("num_blocks", "num_operations", "num_combiners"),
    [(1, 13, 2), (2, 1, 1), (2, 3, 2), (3, 1, 1), (3, 2, 1), (3, 1, 2), (4, 1, 1)],
)
def test_count_equals_an_enumeration(
    num_blocks: int, num_operations: int, num_combiners: int
) -> None:
    space = SearchSpace(num_blocks, OPERATION_NAMES[:num_operations], COMBINERS[:num_combiners])
    half = len(space.decisions) // 2
    rest = (0,) * half
    normal_cells = itertools.product(*map(range, space.num_choices[:half]))
    forms = {space.canonicalize(cell + rest)[:half] for cell in normal_cells}
    assert space.count_architectures() == len(forms) ** 2


def test_counts_of_the_papers_space() -> None:
    # (2 * 3 * 4 * 5 * 6) squared for the inputs, 13**10 operations, 2**5 combiners; two cells.
    assert SPACE.count_decision_lists() == (720**2 * 13**10 * 2**5) ** 2
    assert SPACE.count_architectures() == 148549594346018066759911011777924
    assert SearchSpace(1, ("identity",), ("add",)).count_architectures() == 3**2


def test_impossible_space_names_every_fault() -> None:
    with pytest.raises(SpaceError) as caught:
        SearchSpace(0, ("identity", "sep_conv_5", "identity"), ())
    text = str(caught.value)
    assert "num_blocks: wanted at least 1, got 0" in text
    assert "'sep_conv_5', did you mean 'sep_conv_5x5'?" in text
    assert "operations: a name is listed twice" in text
    assert "combiners: wanted at least one of add, concat, got none" in text


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        ([0] * 49, "wanted 50 decisions, got 49"),
        ([2] + [0] * 49, "normal.0.input_0: wanted a choice from 0 to 1, got 2"),
        ([0] * 49 + [-1], "reduction.4.combine: wanted a choice from 0 to 1, got -1"),
    ],
)
def test_impossible_decisions_are_refused(choices: list[int], fault: str) -> None:
    for function in (SPACE.decode, SPACE.canonicalize):
        with pytest.raises(SpaceError, match=fault):
            function(choices)


def test_genotypes_outside_the_space_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"normal.concat: wanted \[2, 3, 4, 5, 6\], the states"):
        SPACE.encode(GENOTYPES["nasnet_a"])
    add_only = SearchSpace(combiners=("add",), operations=("identity",))
    genotype = SPACE.decode([0, 0, 1, 1, 1] * 10)
    with pytest.raises(SpaceError) as caught:
        add_only.encode(genotype)
    assert "normal: 'conv_1x3_3x1' is not among identity" in str(caught.value)
    assert "reduction: 'concat' is not among add" in str(caught.value)
    with pytest.raises(SpaceError, match="normal: wanted 2 blocks, got 5"):
        SearchSpace(num_blocks=2).encode(genotype)


def test_extras_are_decisions_beside_the_cells() -> None:
    cells = SearchSpace(2)
    space = SearchSpace(2, extras=(Decision("channels", (16, 32)), Decision("size", (64, 96, 128))))
    assert space.decisions == (*cells.decisions, *space.extras)
    assert space.count_architectures() == 6 * cells.count_architectures()
    choices = (*cells.sample(random.Random(0)), 1, 2)
    assert space.decode(choices) == cells.decode(choices[:-2])
    assert space.get_extras(choices) == {"channels": 32, "size": 128}
    assert space.canonicalize(choices) == (*cells.canonicalize(choices[:-2]), 1, 2)
    assert space.encode(space.decode(choices)) == choices[:-2]
    with pytest.raises(SpaceError, match="size: wanted a choice from 0 to 2, got 3"):
        space.check((*choices[:-1], 3))
