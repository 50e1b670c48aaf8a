"""When two cells are the same network, and how many different ones there are.

A cell is a graph: its nodes are the two inputs and the blocks, and each block reads two states
through one operation each. Neither the order of a block's two (state, operation) pairs nor the
numbers of the blocks are part of the graph:

* ``add`` is commutative, so swapped pairs give the same values, bit for bit;
* behind ``concat`` a 1x1 convolution reads both halves, so swapped pairs are the same network up to
  the order of that convolution's input channels;
* blocks in another order are the same network up to the order of the output's channels, which only
  1x1 convolutions and the classifier read (or, where a cell takes ``h_prev`` unprojected, a cell
  whose states all follow that order).

So two cells are the same exactly if their graphs are isomorphic with the two inputs kept in place.
Graphs that compute the same for another reason (sums of identities that are bracketed differently,
say) stay different.

A cell is here a tuple of blocks ``(input, input, operation, operation, combiner)`` of whole
numbers; states are numbered as in :mod:`nasnet_det.genotype`.
"""

from __future__ import annotations

from functools import lru_cache

from nasnet_det.genotype import FIRST_BLOCK, H_PREV, H

IntBlock = tuple[int, int, int, int, int]
Numbering = dict[int, int]
"""State of a cell -> state of its canonical form."""


def canonical_numberings(
    cell: tuple[IntBlock, ...],
) -> tuple[tuple[IntBlock, ...], list[Numbering]]:
    """The canonical form of a cell, and every renumbering of its blocks that leads there.

    The canonical form is the lexicographically smallest of all the ways to write the graph down.
    It is found block by block: whatever comes first is written as small as possible, and only ties
    are followed further. From a canonical form the numberings are its automorphisms.
    """
    canonical: list[IntBlock] = []
    numberings: list[Numbering] = [{H: H, H_PREV: H_PREV}]
    for new in range(FIRST_BLOCK, FIRST_BLOCK + len(cell)):
        options = [
            (_write_block(block, numbering), {**numbering, old: new})
            for numbering in numberings
            for old, block in enumerate(cell, FIRST_BLOCK)
            if old not in numbering and block[0] in numbering and block[1] in numbering
        ]
        smallest = min(written for written, _ in options)
        canonical.append(smallest)
        numberings = [numbering for written, numbering in options if written == smallest]
    return tuple(canonical), numberings


def _write_block(block: IntBlock, numbering: Numbering) -> IntBlock:
    """A block in new numbers, its smaller (state, operation) pair first."""
    left, right = sorted(((numbering[block[0]], block[2]), (numbering[block[1]], block[3])))
    return left[0], right[0], left[1], right[1], block[4]


@lru_cache
def count_cells(num_blocks: int, num_operations: int, num_combiners: int) -> int:
    """Number of different cells, exactly.

    The wirings (graphs without operations and combiners) are enumerated up to isomorphism: every
    wiring of k + 1 blocks is one of k blocks and one more block, as some block is read by no other.
    The ways to label a wiring are then counted up to its automorphisms by Burnside's lemma: their
    number is the mean, over the automorphisms, of the labelings that stay as they are.
    """
    wirings: set[tuple[IntBlock, ...]] = {()}
    for num_states in range(FIRST_BLOCK, FIRST_BLOCK + num_blocks):
        wirings = {
            canonical_numberings((*wiring, (i, j, 0, 0, 0)))[0]
            for wiring in wirings
            for j in range(num_states)
            for i in range(j + 1)
        }
    total = 0
    for wiring in wirings:
        _, automorphisms = canonical_numberings(wiring)
        unchanged = sum(
            _count_unchanged(wiring, automorphism, num_operations, num_combiners)
            for automorphism in automorphisms
        )
        total += unchanged // len(automorphisms)
    return total


def _count_unchanged(
    wiring: tuple[IntBlock, ...], automorphism: Numbering, num_operations: int, num_combiners: int
) -> int:
    """Number of ways to label a wiring's blocks that an automorphism leaves as they are.

    The label of one block of a cycle decides those of the others. Once around the cycle the block
    meets itself: its two edges are free if they return to themselves, and equal if they return
    swapped. The two edges of a block that reads one state twice are a multiset.
    """
    count, seen = 1, set()
    for state, (i, j, *_) in enumerate(wiring, FIRST_BLOCK):
        if state in seen:
            continue
        around, image_of_i = state, i
        while around not in seen:
            seen.add(around)
            around, image_of_i = automorphism[around], automorphism[image_of_i]
        if i == j:
            labels = num_operations * (num_operations + 1) // 2
        elif image_of_i == i:
            labels = num_operations**2
        else:
            labels = num_operations
        count *= labels * num_combiners
    return count
