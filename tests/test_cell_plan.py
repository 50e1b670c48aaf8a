"""Plans of cells: what is computed once, and that nothing changes by it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from random_genotypes import sample_genotype

from nasnet_det.cell import Cell
from nasnet_det.cell_plan import RELU, Value, first_step, plan_cell
from nasnet_det.genotype import FIRST_BLOCK, Block, CellSpec
from nasnet_det.normalization import get_norm_layer
from nasnet_det.operations import build_first_step
from nasnet_det.plan import NetworkSpec
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.trunk import NASNetTrunk

NASNET_A = GENOTYPES["nasnet_a"]


def test_nasnet_a_s_normal_cell() -> None:
    """Five ReLUs of its operations are two, four pools two, of which one is added to itself."""
    plan = plan_cell(NASNET_A.normal, 24, h_prev_channels=24, channels=4, stride=1)
    values = [value for block in plan.blocks for value in block.values]
    assert values == [
        Value(RELU, 0, 1),
        Value(RELU, 1, 1),
        Value("avg_pool_3x3", 0, 1),
        Value("avg_pool_3x3", 1, 1),
    ]
    doubled = plan.blocks[3]
    assert doubled.left.source == doubled.right.source
    assert (plan.projection, plan.output_projections) == ("1x1", {})


def test_nasnet_a_s_reduction_cell() -> None:
    """Its two strided maxima are one; the average of a block's output has stride 1."""
    plan = plan_cell(NASNET_A.reduction, 24, h_prev_channels=24, channels=8, stride=2)
    values = [value for block in plan.blocks for value in block.values]
    assert values.count(Value("max_pool_3x3", 0, 2)) == 1
    assert [value.stride for value in values if value.op == "avg_pool_3x3"] == [2, 1]
    assert len(values) == 6


def test_relu_of_an_input_that_is_not_projected_comes_with_it() -> None:
    for h_prev_channels in (None, 4):
        plan = plan_cell(NASNET_A.normal, 4, h_prev_channels=h_prev_channels, channels=4, stride=1)
        assert plan.projection == ""
        assert plan.blocks[0].right.source == 2
        assert Value(RELU, 1, 1) not in [v for block in plan.blocks for v in block.values]


def test_equal_operations_with_weights_stay_two() -> None:
    block = Block((0, 0), ("conv_3x3", "conv_3x3"))
    cell = Cell(
        CellSpec((block,), (2,)),
        8,
        h_prev_channels=8,
        channels=8,
        stride=1,
        norm_layer=get_norm_layer("BN"),
    )
    names = [name for name in cell.state_dict() if name.endswith("conv_1.conv.weight")]
    assert names == ["blocks.0.left.conv_1.conv.weight", "blocks.0.right.conv_1.conv.weight"]


def _run_without_plan(
    cell: Cell, h_prev: torch.Tensor, h: torch.Tensor, stride: int
) -> torch.Tensor:
    """Every operation from the genotype, on its own, with a ReLU and a pool of its own."""
    states = [cell.project_h(F.relu(h)), h_prev]
    if cell.projects_h_prev:
        states[1] = cell.project_h_prev(F.relu(h_prev))
    for block, paths in zip(cell.spec.blocks, cell.blocks, strict=True):
        outs = []
        for op, state, rest in zip(block.ops, block.inputs, (paths.left, paths.right), strict=True):
            s = stride if state < FIRST_BLOCK else 1
            x = states[state]
            step = first_step(op, x.shape[1], states[0].shape[1], s)
            outs.append(rest(build_first_step(step, s)(x)))
        joined = sum(outs) if paths.combine is None else paths.combine(torch.cat(outs, 1))
        states.append(joined)
    for state, project in cell.project_output.items():
        states[int(state)] = project(states[int(state)])
    return torch.cat([states[i] for i in cell.spec.concat], dim=1)


@pytest.mark.parametrize("seed", range(40))
def test_any_cell_computes_what_its_operations_compute_one_by_one(seed: int) -> None:
    torch.manual_seed(seed)
    genotype = sample_genotype(seed)
    prev_channels = (8, 5, None, 10)[seed % 4]
    for spec, stride in ((genotype.normal, 1), (genotype.reduction, 2)):
        cell = Cell(
            spec,
            6,
            h_prev_channels=prev_channels,
            channels=8,
            stride=stride,
            norm_layer=get_norm_layer("BN"),
            h_prev_stride=2 if prev_channels == 10 else 1,
        ).double()
        h = torch.randn(2, 6, 5, 6).double().requires_grad_()
        prev = h
        if prev_channels is not None:
            size = (9, 12) if prev_channels == 10 else (5, 6)
            prev = torch.randn(2, prev_channels, *size).double().requires_grad_()
        found, wanted = cell(prev, h), _run_without_plan(cell, prev, h, stride)
        torch.testing.assert_close(found, wanted)
        given = cell(prev, h, F.relu(prev), F.relu(h))
        torch.testing.assert_close(given, wanted)
        weight = torch.randn_like(wanted)
        leaves = [h, *cell.parameters()]
        for mine, theirs in zip(
            torch.autograd.grad((found * weight).sum(), leaves),
            torch.autograd.grad((wanted * weight).sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def test_cells_of_a_network_share_the_relu_between_them() -> None:
    """Each output's ReLU is computed once, for two cells and a feature."""
    spec = NetworkSpec(2, 8, stem="cifar", norm="FrozenBN")
    trunk = NASNetTrunk(spec, NASNET_A).eval()
    seen: list[torch.Tensor] = []
    cells = trunk.cells
    for module in (cells["cell_4"].project_h, cells["cell_5"].project_h_prev):
        module[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trunk(torch.randn(1, 3, 16, 16))
    assert seen[0] is seen[1], "the output of cell_3"
