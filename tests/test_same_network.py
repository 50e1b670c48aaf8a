"""Equal canonical forms are equal networks: one computes the other's outputs with its weights."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from nasnet_det.canonical import canonical_numberings
from nasnet_det.cell import Cell
from nasnet_det.genotype import FIRST_BLOCK, CellSpec
from nasnet_det.network import NASNet
from nasnet_det.plan import NetworkSpec, plan_cells
from nasnet_det.space import CELLS, DECISIONS_PER_BLOCK, Choices, SearchSpace

SPACE = SearchSpace()
SPEC = NetworkSpec(num_cells_per_stage=1, channels=4, stem="cifar", input_size=8)


def numbering_of(choices: Choices, cell: str) -> dict[int, int]:
    """State -> state in the canonical form."""
    start = CELLS.index(cell) * SPACE.num_blocks * DECISIONS_PER_BLOCK
    numbers = iter(choices[start : start + SPACE.num_blocks * DECISIONS_PER_BLOCK])
    blocks = tuple(zip(*[numbers] * DECISIONS_PER_BLOCK, strict=True))
    return canonical_numberings(blocks)[1][0]


def output_channels(spec: CellSpec, other: CellSpec, numbering: dict[int, int]) -> list[int]:
    """For each channel of ``other``'s output, that channel of ``spec``'s (one a state)."""
    new_of = [numbering[state] for state in spec.concat]
    return [new_of.index(state) for state in other.concat]


def copy_weights(
    source: nn.Module, target: nn.Module, channels: torch.Tensor | None = None
) -> None:
    """Copy a module; ``channels`` reorders the input channels of its convolutions."""
    state = source.state_dict()
    if channels is not None:
        state = {k: v[:, channels] if v.dim() == 4 else v for k, v in state.items()}
    target.load_state_dict(state)


def copy_block(source: nn.Module, target: nn.Module, swapped: bool) -> None:
    sides = ("right", "left") if swapped else ("left", "right")
    for side, target_side in zip(sides, ("left", "right"), strict=True):
        copy_weights(getattr(source, side), getattr(target, target_side))
    if source.combine is not None:
        width = source.combine.path_1.in_channels
        halves = torch.arange(width).roll(width // 2 if swapped else 0)
        copy_weights(source.combine, target.combine, halves)


def copy_cell(source: Cell, target: Cell, numbering: dict[int, int]) -> None:
    for old, block in enumerate(source.spec.blocks, FIRST_BLOCK):
        new = numbering[old] - FIRST_BLOCK
        twin = target.spec.blocks[new]
        sides = [(numbering[i], op) for i, op in zip(block.inputs, block.ops, strict=True)]
        swapped = sides != list(zip(twin.inputs, twin.ops, strict=True))
        copy_block(source.blocks[old - FIRST_BLOCK], target.blocks[new], swapped)
    target.project_output.load_state_dict(source.project_output.state_dict())


def copy_network(choices: Choices, source: NASNet, target: NASNet) -> None:
    """Copy all weights, each cell's inputs in the order of the cells that they come from."""
    numberings = {cell: numbering_of(choices, cell) for cell in CELLS}
    order: dict[str | None, torch.Tensor | None] = {"stem": None, None: None}
    copy_weights(source.trunk.stem, target.trunk.stem)
    for row in source.trunk.plan:
        one, other = source.trunk.cells[row.name], target.trunk.cells[row.name]
        copy_weights(one.project_h, other.project_h, order[row.h])
        copy_weights(one.project_h_prev, other.project_h_prev, order[row.h_prev])
        copy_cell(one, other, numberings[row.kind])
        states = output_channels(one.spec, other.spec, numberings[row.kind])
        width = row.channels
        order[row.name] = torch.cat([torch.arange(width) + s * width for s in states])
    last = order[source.trunk.plan[-1].name]
    target.classifier.weight.data = source.classifier.weight.data[:, last]
    target.classifier.bias.data = source.classifier.bias.data


def randomize_norms(network: NASNet) -> None:
    """Normalizations that do something in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()


@pytest.mark.parametrize("seed", range(12))
def test_canonical_network_computes_the_same_with_the_same_weights(seed: int) -> None:
    rng = random.Random(seed)
    while True:
        choices = SPACE.sample(rng)
        canonical = SPACE.canonicalize(choices)
        genotype = SPACE.decode(choices)
        # Where a cell takes h_prev unprojected, the whole cell would have to be permuted.
        rows = plan_cells(SPEC, genotype)
        if canonical != choices and all(
            row.h_prev in (None, "stem")
            or row.h_prev_stride != 1
            or row.h_prev_channels != row.channels
            for row in rows
        ):
            break
    one = NASNet(SPEC, genotype, num_classes=3)
    other = NASNet(SPEC, SPACE.decode(canonical), num_classes=3)
    randomize_norms(one)
    images = torch.randn(2, 3, 8, 8)
    one.eval(), other.eval()
    with torch.inference_mode():
        assert not torch.allclose(one(images), other(images), atol=1e-3)
        copy_network(choices, one, other)
        wanted = one(images)
        torch.testing.assert_close(other(images), wanted, rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in other.parameters())


def test_another_architecture_computes_something_else() -> None:
    """One operation changed for another one without weights: every weight can be copied."""
    space = SearchSpace(1, ("avg_pool_3x3", "max_pool_3x3"), ("add",))
    one_choices, other_choices = (0, 0, 0, 0, 0) * 2, (0, 0, 0, 1, 0) * 2
    assert space.canonicalize(one_choices) != space.canonicalize(other_choices)
    networks = [
        NASNet(SPEC, space.decode(c), num_classes=3).eval() for c in (one_choices, other_choices)
    ]
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert not torch.allclose(networks[0](images), networks[1](images), rtol=1e-2)
