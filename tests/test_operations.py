"""Operations: SAME padding against numpy, structure, counts, normalizations."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import reference_ops
import torch
from torch import nn

from nasnet_det.cell_plan import first_step
from nasnet_det.genotype import OPERATION_NAMES
from nasnet_det.normalization import get_norm_layer
from nasnet_det.operations import OPERATIONS, FactorizedReduction, build_first_step, build_operation
from nasnet_det.same_padding import Conv2dSame, Pool2dSame

SIZES = list(itertools.product(range(1, 10), (1, 2, 5, 8))) + [(1, 9), (4, 7), (9, 9), (14, 11)]
BATCH_NORM = get_norm_layer("BN")


def _image(height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64)


def _without_norm(channels: int) -> nn.Module:
    return nn.Identity()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("depthwise", [False, True])
def test_convolution_pads_as_tensorflow(
    kernel: int, stride: int, dilation: int, depthwise: bool
) -> None:
    groups = 3 if depthwise else 1
    conv = Conv2dSame(3, 3, kernel, stride, groups=groups, dilation=dilation).double()
    for height, width in SIZES:
        x = _image(height, width)
        wanted = reference_ops.conv_same(
            x.numpy(), conv.weight.detach().numpy(), stride, dilation=dilation, depthwise=depthwise
        )
        np.testing.assert_allclose(conv(x).detach().numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [((1, 7), (1, 2)), ((7, 1), (2, 1)), ((3, 1), 1)])
def test_convolution_pads_each_axis_by_its_own_rule(
    kernel: tuple[int, int], stride: int | tuple[int, int]
) -> None:
    conv = Conv2dSame(3, 4, kernel, stride).double()
    for height, width in SIZES:
        x = _image(height, width)
        wanted = reference_ops.conv_same(x.numpy(), conv.weight.detach().numpy(), stride)
        np.testing.assert_allclose(conv(x).detach().numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_pool_ignores_padding(kind: str, kernel: int, stride: int) -> None:
    pool = Pool2dSame(kind, kernel, stride)
    for height, width in SIZES:
        # Below zero, so that a maximum that saw a padded zero, or an average that counted one,
        # would be larger.
        x = -1 - _image(height, width).abs()
        wanted = reference_ops.pool_same(kind, x.numpy(), kernel, stride)
        np.testing.assert_allclose(pool(x).numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("padding", "kind", "fill"),
    [
        ("timm", "avg", 0.0),
        ("timm", "max", np.nan),
        ("keras", "avg", 0.0),
        ("keras", "max", 0.0),
    ],
)
@pytest.mark.parametrize("kernel", [3, 5])
def test_strided_pool_counts_padding_as_the_named_library_does(
    padding: str, kind: str, fill: float, kernel: int
) -> None:
    strided, plain = Pool2dSame(kind, kernel, 2, padding), Pool2dSame(kind, kernel, 1, padding)
    for height, width in SIZES:
        x = -1 - _image(height, width).abs()
        wanted = reference_ops.pool_same(kind, x.numpy(), kernel, 2, fill)
        np.testing.assert_allclose(strided(x).numpy(), wanted, atol=1e-12)
        assert torch.equal(plain(x), Pool2dSame(kind, kernel, 1)(x)), "all agree at stride 1"


def test_unknown_pool_padding_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown pool padding 'tim', did you mean 'timm'\?"):
        build_first_step("max_pool_3x3", 2, pool_padding="tim")


def test_average_pool_of_a_constant_is_the_constant() -> None:
    for size, stride in itertools.product(range(1, 10), (1, 2)):
        x = torch.full((1, 1, size, size), 3.0)
        out = Pool2dSame("avg", 3, stride)(x)
        torch.testing.assert_close(out, torch.full_like(out, 3.0))


@pytest.mark.parametrize("channels", [6, 7])
def test_factorized_reduction_equals_tf_slims(channels: int) -> None:
    reduction = FactorizedReduction(3, channels, 2, _without_norm).double()
    first, second = (p.weight.detach().numpy() for p in (reduction.path_1, reduction.path_2))
    assert (len(first), len(second)) == (channels // 2, math.ceil(channels / 2))
    for height, width in SIZES:
        x = _image(height, width)
        wanted = reference_ops.factorized_reduction(x.numpy(), first, second)
        np.testing.assert_allclose(reduction(x).detach().numpy(), wanted, atol=1e-12)


def test_factorized_reduction_has_one_norm_and_no_relu() -> None:
    reduction = FactorizedReduction(4, 6, 2, BATCH_NORM)
    found = [m for m in reduction.modules() if isinstance(m, nn.BatchNorm2d | nn.ReLU)]
    assert found == [reduction.norm]
    assert reduction.norm.num_features == 6
    flat = FactorizedReduction(4, 6, 1, BATCH_NORM)
    assert flat.path_2 is None, "stride 1 needs one path"
    x = torch.randn(2, 4, 5, 5)
    wanted = nn.functional.conv2d(x, flat.path_1.weight)
    torch.testing.assert_close(flat.eval()(x), flat.norm(wanted))


def test_factorized_reduction_refuses_one_channel() -> None:
    with pytest.raises(ValueError, match="needs at least 2 channels, got 1"):
        FactorizedReduction(4, 1, 2, BATCH_NORM)


def _conv(n_in: int, n_out: int, kernel_area: int = 1) -> int:
    """Parameters of a convolution without bias and its normalization."""
    return n_in * n_out * kernel_area + 2 * n_out


def _separable(k: int, n: int, f: int) -> int:
    return sum(k * k * c + c * f + 2 * f for c in (n, f))


def _parameters(op: str, n: int, f: int, stride: int) -> int:
    """Trainable parameters by hand, from n to f channels."""
    if op == "identity" and n == f and stride == 1:
        return 0
    if op in ("identity", "conv_1x1"):
        return _conv(n, f)
    if "pool" in op:
        return _conv(n, f) if n != f else 0
    if op.startswith("sep_conv"):
        return _separable(int(op[-1]), n, f)
    width = int(3 * f / 8) if op == "conv_1x3_3x1" else int(f / 4)
    inner = {"conv_1x3_3x1": [3, 3], "conv_1x7_7x1": [7, 7]}.get(op, [9])
    if width < 1:  # no bottleneck
        return sum(_conv(n if i == 0 else f, f, area) for i, area in enumerate(inner))
    return _conv(n, width) + sum(_conv(width, width, area) for area in inner) + _conv(width, f)


def _whole(op: str, n: int, f: int, stride: int) -> nn.Sequential:
    """An operation with its first step."""
    step = build_first_step(first_step(op, n, f, stride), stride)
    return nn.Sequential(step, build_operation(op, n, f, stride, BATCH_NORM))


@pytest.mark.parametrize("op", OPERATION_NAMES)
@pytest.mark.parametrize(("n", "f"), [(8, 8), (6, 8), (5, 2), (2, 2), (16, 24)])
@pytest.mark.parametrize("stride", [1, 2])
def test_operation_has_the_parameters_and_shape_of_its_definition(
    op: str, n: int, f: int, stride: int
) -> None:
    module = _whole(op, n, f, stride)
    assert sum(p.numel() for p in module.parameters()) == _parameters(op, n, f, stride)
    for height, width in [(1, 1), (1, 6), (7, 4), (8, 9)]:
        out = module(torch.randn(2, n, height, width))
        assert out.shape == (2, f, math.ceil(height / stride), math.ceil(width / stride))


@pytest.mark.parametrize("op", OPERATION_NAMES)
@pytest.mark.parametrize(("n", "stride"), [(8, 1), (8, 2), (6, 1)])
def test_operation_starts_with_relu_unless_it_pools(op: str, n: int, stride: int) -> None:
    module = _whole(op, n, 8, stride).eval()
    x = torch.randn(2, n, 7, 7) - 2  # so that some windows have no positive value
    ignores_negatives = torch.equal(module(x), module(x.relu()))
    plain_identity = op == "identity" and n == 8 and stride == 1
    assert ignores_negatives == ("pool" not in op and not plain_identity)


@pytest.mark.parametrize("op", sorted(set(OPERATION_NAMES) - {"identity"}))
def test_operation_ends_with_a_norm_unless_it_only_pools(op: str) -> None:
    leaves = [m for m in _whole(op, 6, 8, 2).modules() if not [*m.children()]]
    assert isinstance(leaves[-1], nn.BatchNorm2d)
    assert any(isinstance(m, nn.ReLU) for m in leaves) != ("pool" in op)
    if "pool" in op:
        pool, nothing = _whole(op, 8, 8, 2)
        assert isinstance(pool, Pool2dSame)
        assert isinstance(nothing, nn.Identity)


def test_separable_strides_first_and_has_nothing_between_its_two_convolutions() -> None:
    module = build_operation("sep_conv_5x5", 4, 8, 2, BATCH_NORM)
    names = [name for name, m in module.named_modules() if not [*m.children()]]
    assert (
        names
        == [
            f"separable_{i}.{layer}"
            for i in (1, 2)
            for layer in ("relu", "depthwise", "pointwise", "norm")
        ][1:]
    ), "the first ReLU is the operation's first step"
    assert module.separable_1.depthwise.stride == (2, 2)
    assert module.separable_2.depthwise.stride == (1, 1)
    assert (module.separable_1.depthwise.groups, module.separable_2.depthwise.groups) == (4, 8)


def test_factorized_convolutions_split_the_stride_between_their_axes() -> None:
    for op, k in (("conv_1x3_3x1", 3), ("conv_1x7_7x1", 7)):
        module = build_operation(op, 8, 8, 2, BATCH_NORM)
        first, second = module.conv_1.conv, module.conv_2.conv
        assert (first.kernel_size, first.stride) == ((1, k), (1, 2))
        assert (second.kernel_size, second.stride) == ((k, 1), (2, 1))


def test_dilated_convolution_is_a_full_3x3_at_rate_2() -> None:
    conv = build_operation("dil_conv_3x3", 16, 16, 1, BATCH_NORM).conv_1.conv
    assert (conv.kernel_size, conv.dilation, conv.groups) == ((3, 3), (2, 2), 1)


def test_table_builds_exactly_the_operations_of_the_space() -> None:
    assert set(OPERATIONS) == set(OPERATION_NAMES)


def test_unknown_operation_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown operation 'avg_pool', did you mean 'avg_pool_3"):
        build_operation("avg_pool", 8, 8, 1, BATCH_NORM)


def test_strided_pointwise_convolution_of_few_channels_leaves_memory_whole() -> None:
    code = """
import torch
from nasnet_det.normalization import get_norm_layer
from nasnet_det.operations import build_operation
torch.set_num_threads(1)
for _ in range(40):
    identity = build_operation("identity", 4, 4, 2, get_norm_layer("BN"))
    x = torch.randn(16, 4, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    identity.to(memory_format=torch.channels_last)(x).sum().backward()
"""
    status = subprocess.run([sys.executable, "-c", code], check=False).returncode
    assert status == 0, "oneDNN's strided 1x1 convolution aborts here, by a signal"
