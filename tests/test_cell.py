"""The cell against straight-line numpy versions of the published cells, and its rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference_ops
import torch
from torch import nn

from nasnet_det.cell import Cell
from nasnet_det.drop_path import DropPathProgress
from nasnet_det.genotype import Block, CellSpec
from nasnet_det.normalization import get_norm_layer
from nasnet_det.published_cells import GENOTYPES

EPS = 1e-3
BATCH_NORM = get_norm_layer("BN", eps=EPS)
NASNET_A, PNASNET_5 = GENOTYPES["nasnet_a"], GENOTYPES["pnasnet_5"]


class Reference:
    """Numpy layers that read a cell's state dict by name and note what they read."""

    def __init__(self, cell: Cell, stride: int) -> None:
        self.weights = {name: t.detach().numpy() for name, t in cell.state_dict().items()}
        self.read: set[str] = {n for n in self.weights if n.endswith("num_batches_tracked")}
        self.stride = stride

    def _get(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.weights[name]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        scale, shift, mean, var = (
            self._get(f"{name}.{key}")[:, None, None]
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + EPS) * scale + shift

    def conv(self, name: str, x: np.ndarray, stride: int = 1, **kind: bool) -> np.ndarray:
        return reference_ops.conv_same(x, self._get(f"{name}.weight"), stride, **kind)

    def conv_norm(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        return self.norm(f"{name}.norm", self.conv(f"{name}.conv", x, stride))

    def relu_conv_norm(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        return self.conv_norm(name, np.maximum(x, 0), stride)

    def sep(self, k: int, name: str, x: np.ndarray, stride: int | None = None) -> np.ndarray:
        for part, s in (("separable_1", stride or self.stride), ("separable_2", 1)):
            assert self.weights[f"{name}.{part}.depthwise.weight"].shape[2:] == (k, k)
            x = self.conv(f"{name}.{part}.depthwise", np.maximum(x, 0), s, depthwise=True)
            x = self.norm(f"{name}.{part}.norm", self.conv(f"{name}.{part}.pointwise", x))
        return x

    def pool(self, kind: str, x: np.ndarray, stride: int | None = None) -> np.ndarray:
        return reference_ops.pool_same(kind, x, 3, stride or self.stride)

    def reduce(self, name: str, x: np.ndarray) -> np.ndarray:
        first, second = (self._get(f"{name}.path_{i}.weight") for i in (1, 2))
        return self.norm(f"{name}.norm", reference_ops.factorized_reduction(x, first, second))


def _nasnet_a_normal(r: Reference, h: np.ndarray, p: np.ndarray) -> list[np.ndarray]:
    b = "blocks."
    s2 = r.sep(5, b + "0.left", h) + r.sep(3, b + "0.right", p)
    s3 = r.sep(5, b + "1.left", p) + r.sep(3, b + "1.right", p)
    s4 = r.pool("avg", h) + p
    s5 = r.pool("avg", p) + r.pool("avg", p)
    s6 = r.sep(3, b + "4.left", h) + h
    return [p, s2, s3, s4, s5, s6]


def _nasnet_a_normal_first(r: Reference, h: np.ndarray, p: np.ndarray) -> list[np.ndarray]:
    """Without ``h_prev``: the raw input, in its own number of channels, is state 1."""
    b = "blocks."
    s2 = r.sep(5, b + "0.left", h) + r.sep(3, b + "0.right", p)
    s3 = r.sep(5, b + "1.left", p) + r.sep(3, b + "1.right", p)
    s4 = r.pool("avg", h) + r.relu_conv_norm(b + "2.right", p)
    s5 = r.conv_norm(b + "3.left", r.pool("avg", p)) + r.conv_norm(b + "3.right", r.pool("avg", p))
    s6 = r.sep(3, b + "4.left", h) + h
    output_1 = r.norm("project_output.1.norm", r.conv("project_output.1.path_1", p))
    return [output_1, s2, s3, s4, s5, s6]


def _nasnet_a_reduction(r: Reference, h: np.ndarray, p: np.ndarray) -> list[np.ndarray]:
    b = "blocks."
    s2 = r.sep(5, b + "0.left", h) + r.sep(7, b + "0.right", p)
    s3 = r.pool("max", h) + r.sep(7, b + "1.right", p)
    s4 = r.pool("avg", h) + r.sep(5, b + "2.right", p)
    s5 = s3 + r.pool("avg", s2, stride=1)
    s6 = r.sep(3, b + "4.left", s2, stride=1) + r.pool("max", h)
    return [s3, s4, s5, s6]


def _pnasnet_5(r: Reference, h: np.ndarray, p: np.ndarray) -> list[np.ndarray]:
    b = "blocks."
    s2 = r.sep(5, b + "0.left", p) + r.pool("max", p)
    s3 = r.sep(7, b + "1.left", h) + r.pool("max", h)
    s4 = r.sep(5, b + "2.left", h) + r.sep(3, b + "2.right", h)
    s5 = r.sep(3, b + "3.left", s4, stride=1) + r.pool("max", h)
    same = h if r.stride == 1 else r.relu_conv_norm(b + "4.right", h, r.stride)
    s6 = r.sep(3, b + "4.left", p) + same
    return [s2, s3, s4, s5, s6]


def _randomize_statistics(module: nn.Module) -> None:
    """Make every normalization do something in evaluation mode."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
            nn.init.normal_(m.running_mean, 0.0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)


def _build(spec: CellSpec, h_channels: int = 10, channels: int = 6, **options: object) -> Cell:
    options = {"h_prev_channels": 14, "stride": 1, "norm_layer": BATCH_NORM, **options}
    cell = Cell(spec, h_channels, channels=channels, **options)
    _randomize_statistics(cell)
    return cell.double().eval()


CELLS: dict[str, tuple[CellSpec, int, Callable[..., list[np.ndarray]]]] = {
    "NASNet-A normal": (NASNET_A.normal, 1, _nasnet_a_normal),
    "NASNet-A reduction": (NASNET_A.reduction, 2, _nasnet_a_reduction),
    "PNASNet-5 stride 1": (PNASNET_5.normal, 1, _pnasnet_5),
    "PNASNet-5 stride 2": (PNASNET_5.normal, 2, _pnasnet_5),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("h_prev", ["projected", "as it is", "twice as large"])
@pytest.mark.parametrize("size", [(7, 8), (4, 5)])
def test_cell_equals_a_straight_line_version(name: str, h_prev: str, size: tuple[int, int]) -> None:
    spec, stride, straight_line = CELLS[name]
    n_prev = 6 if h_prev == "as it is" else 14
    scale = 2 if h_prev == "twice as large" else 1
    cell = _build(spec, h_prev_channels=n_prev, stride=stride, h_prev_stride=scale)
    h = torch.randn(2, 10, *size, dtype=torch.float64)
    # An odd size, too, is halved to the size of h.
    prev = torch.randn(2, n_prev, scale * size[0], scale * size[1] - (scale - 1)).double()

    r = Reference(cell, stride)
    state_0 = r.relu_conv_norm("project_h", h.numpy())
    if h_prev == "projected":
        state_1 = r.relu_conv_norm("project_h_prev", prev.numpy())
    elif h_prev == "as it is":
        state_1 = prev.numpy()
    else:
        state_1 = r.reduce("project_h_prev.1", np.maximum(prev.numpy(), 0))
    wanted = np.concatenate(straight_line(r, state_0, state_1), axis=1)

    np.testing.assert_allclose(cell(prev, h).detach().numpy(), wanted, atol=1e-10)
    assert r.read == set(r.weights), "the published cell has no other weights"


@pytest.mark.parametrize("h_channels", [10, 6])
def test_first_normal_cell_reads_the_raw_input_as_h_prev(h_channels: int) -> None:
    """The first cell of a CIFAR network (its stem has 3F channels)."""
    cell = _build(NASNET_A.normal, h_channels, h_prev_channels=None)
    h = torch.randn(2, h_channels, 5, 6, dtype=torch.float64)
    r = Reference(cell, 1)
    state_0 = r.relu_conv_norm("project_h", h.numpy())
    straight_line = _nasnet_a_normal_first if h_channels != 6 else _nasnet_a_normal
    wanted = np.concatenate(straight_line(r, state_0, h.numpy()), axis=1)
    np.testing.assert_allclose(cell(None, h).detach().numpy(), wanted, atol=1e-10)
    assert r.read == set(r.weights)


def test_first_reduction_cell_reads_the_raw_input_as_h_prev() -> None:
    """``cell_stem_0`` of an ImageNet network."""
    cell = _build(NASNET_A.reduction, h_prev_channels=None, stride=2)
    h = torch.randn(2, 10, 7, 8, dtype=torch.float64)
    r = Reference(cell, 2)
    state_0 = r.relu_conv_norm("project_h", h.numpy())
    wanted = np.concatenate(_nasnet_a_reduction(r, state_0, h.numpy()), axis=1)
    np.testing.assert_allclose(cell(None, h).detach().numpy(), wanted, atol=1e-10)
    assert r.read == set(r.weights)


def test_state_0_is_h_and_state_1_is_h_prev() -> None:
    """The numbering itself: a cell whose output is its two inputs."""
    block = Block((0, 1), ("identity", "identity"))
    h = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    prev = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    cell = _build(CellSpec((block,), (1, 0, 2)), 6, h_prev_channels=6)
    first, second, third = cell(prev, h).split(6, dim=1)
    torch.testing.assert_close(first, prev, rtol=0, atol=0)
    torch.testing.assert_close(second, cell.project_h(h.relu()), rtol=0, atol=0)
    torch.testing.assert_close(third, first + second)


def test_inputs_in_the_output_are_reduced_at_stride_2_without_relu() -> None:
    block = Block((0, 1), ("max_pool_3x3", "max_pool_3x3"))
    cell = _build(CellSpec((block,), (1, 2, 0)), h_prev_channels=6, stride=2)
    h = torch.randn(2, 10, 7, 8, dtype=torch.float64)
    prev = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    r = Reference(cell, 2)
    state_0 = r.relu_conv_norm("project_h", h.numpy())
    state_1 = prev.numpy()
    wanted = [
        r.reduce("project_output.1", state_1),
        r.pool("max", state_0) + r.pool("max", state_1),
        r.reduce("project_output.0", state_0),
    ]
    found = cell(prev, h).detach().numpy()
    np.testing.assert_allclose(found, np.concatenate(wanted, 1), atol=1e-10)
    assert r.read == set(r.weights)


def test_concat_combiner_joins_left_then_right_and_projects_back_without_relu() -> None:
    block = Block((1, 0), ("avg_pool_3x3", "identity"), "concat")
    cell = _build(CellSpec((block,), (2,)), h_prev_channels=6)
    h = torch.randn(2, 10, 5, 6, dtype=torch.float64)
    prev = torch.randn(2, 6, 5, 6, dtype=torch.float64)
    r = Reference(cell, 1)
    joined = np.concatenate(
        [r.pool("avg", prev.numpy()), r.relu_conv_norm("project_h", h.numpy())], axis=1
    )
    combine = "blocks.0.combine"
    wanted = r.norm(f"{combine}.norm", r.conv(f"{combine}.path_1", joined))
    np.testing.assert_allclose(cell(prev, h).detach().numpy(), wanted, atol=1e-10)
    assert r.read == set(r.weights)


def test_unread_h_prev_is_not_projected() -> None:
    spec = CellSpec((Block((0, 0), ("sep_conv_3x3", "identity")),), (2,))
    cell = _build(spec, h_prev_stride=2, stride=2)
    assert not [name for name in cell.state_dict() if "prev" in name]
    h = torch.randn(1, 10, 4, 4, dtype=torch.float64)
    outs = [cell(torch.randn(1, 14, 8, 8, dtype=torch.float64), h) for _ in range(2)]
    torch.testing.assert_close(*outs, rtol=0, atol=0)


def test_h_prev_that_is_only_in_the_output_is_projected() -> None:
    spec = CellSpec((Block((0, 0), ("sep_conv_3x3", "identity")),), (1, 2))
    cell = _build(spec, h_prev_stride=2)
    assert cell.project_h_prev[0].path_2.weight.shape == (3, 14, 1, 1)
    assert len(cell.project_output) == 0, "it has the channels and size already"


class _Recorder(nn.Module):
    """Stands in for a cell's drop path: notes how often it is used, and drops everything."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        return torch.zeros_like(x)


def _record(cell: Cell) -> _Recorder:
    recorder = _Recorder()
    for paths in cell.blocks:
        paths.drop_path = recorder
    return recorder


@pytest.mark.parametrize(
    ("spec", "stride", "num_paths"),
    [
        (NASNET_A.normal, 1, 8),  # ten operations, two identities
        (NASNET_A.reduction, 2, 9),
        (PNASNET_5.normal, 1, 9),
        (PNASNET_5.normal, 2, 9),  # a strided identity is a convolution and still not dropped
    ],
)
def test_drop_path_is_on_every_operation_but_identity(
    spec: CellSpec, stride: int, num_paths: int
) -> None:
    cell = _build(spec, stride=stride)
    recorder = _record(cell)
    cell(torch.randn(1, 14, 8, 8).double(), torch.randn(1, 10, 8, 8).double())
    assert recorder.num_calls == num_paths
    assert num_paths == sum(op != "identity" for block in spec.blocks for op in block.ops)


def test_what_drop_path_leaves_are_the_identities() -> None:
    h = torch.randn(2, 10, 8, 8, dtype=torch.float64)
    prev = torch.randn(2, 14, 8, 8, dtype=torch.float64)
    cell = _build(NASNET_A.normal)
    _record(cell)
    state_0, state_1 = cell.project_h(h.relu()), cell.project_h_prev(prev.relu())
    none = torch.zeros_like(state_0)
    wanted = torch.cat([state_1, none, none, state_1, none, state_0], dim=1)
    torch.testing.assert_close(cell(prev, h), wanted)

    cell = _build(PNASNET_5.normal, stride=2)
    _record(cell)
    strided = cell.blocks[4].right(cell.project_h(h.relu()).relu())
    assert strided.abs().sum() > 0
    wanted = torch.cat([torch.zeros_like(strided)] * 4 + [strided], dim=1)
    torch.testing.assert_close(cell(prev, h), wanted)


def test_drop_path_changes_neither_weights_nor_evaluation() -> None:
    plain = _build(NASNET_A.reduction, stride=2)
    dropping = _build(
        NASNET_A.reduction,
        stride=2,
        drop_path_prob=0.9,
        depth_ratio=1.0,
        drop_path_progress=DropPathProgress(),
    )
    assert list(dropping.state_dict()) == list(plain.state_dict())
    dropping.load_state_dict(plain.state_dict())
    prev = torch.randn(8, 14, 6, 6, dtype=torch.float64)
    h = torch.randn(8, 10, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(dropping(prev, h), plain(prev, h), rtol=0, atol=0)
    plain.train(), dropping.train()
    assert not torch.allclose(dropping(prev, h), plain(prev, h))
    dropping.drop_path.progress.value = 0.0
    torch.testing.assert_close(dropping(prev, h), plain(prev, h), rtol=0, atol=0)


def test_paths_are_dropped_independently() -> None:
    """Two paths of one block do not share a mask: four outcomes, not two."""
    spec = CellSpec((Block((0, 1), ("avg_pool_3x3", "avg_pool_3x3")),), (2,))
    cell = _build(spec, 6, h_prev_channels=6, drop_path_prob=0.5).train()
    cell.project_h = nn.Identity()
    h = torch.full((400, 6, 2, 2), 1.0, dtype=torch.float64)
    values, counts = cell(3 * h, h)[:, 0, 0, 0].unique(return_counts=True)
    assert values.tolist() == pytest.approx([0, 2, 6, 8])
    assert all(60 <= n <= 140 for n in counts.tolist())
