"""The gradient of a depthwise kernel in parts, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nasnet_det.depthwise import (
    MIN_NUMBERS,
    DepthwiseConv2d,
    depthwise_conv2d,
    gains_from_parts,
)
from nasnet_det.same_padding import Conv2dSame

CASES = [
    (kernel, stride, padding)
    for kernel in ((5, 5), (7, 7), (4, 9))
    for stride in ((1, 1), (2, 2), (1, 2))
    for padding in ((0, 0), (2, 3))
]


def _data(kernel: tuple[int, int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, 10, generator=generator).to(dtype).requires_grad_()
    return x, torch.randn(3, 1, *kernel, generator=generator).to(dtype).requires_grad_()


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
def test_gradients_are_pytorch_s(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    x, weight = _data(kernel, torch.float64)
    wanted = F.conv2d(x, weight, None, stride, padding, groups=3)
    found = depthwise_conv2d(x, weight, stride, padding)
    assert torch.equal(found, wanted)
    grad = torch.randn_like(wanted)
    for mine, theirs in zip(
        torch.autograd.grad(found, (x, weight), grad),
        torch.autograd.grad(wanted, (x, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("kernel", [(5, 5), (7, 7)])
def test_gradients_are_those_of_finite_differences(kernel: tuple[int, int]) -> None:
    x, weight = _data(kernel, torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, w: DepthwiseConv2d.apply(x, w, (2, 2), (2, 2)), (x, weight)
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_autocast_gives_what_it_gives_elsewhere(
    memory_format: torch.memory_format, stride: int
) -> None:
    x, weight = _data((5, 5), torch.float32)
    image = x.contiguous(memory_format=memory_format)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = F.conv2d(image, weight, None, stride, padding=2, groups=3)
        found = depthwise_conv2d(image, weight, (stride, stride), (2, 2))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)
    grads = [torch.autograd.grad(y.float().square().sum(), (x, weight)) for y in (found, wanted)]
    assert [g.dtype for g in grads[0]] == [torch.float32] * 2, "of the parameters"
    torch.testing.assert_close(*grads, rtol=2e-2, atol=1e-1)


def test_one_gradient_alone() -> None:
    x, weight = _data((5, 5), torch.float32)
    depthwise_conv2d(x.detach(), weight, (1, 1), (2, 2)).sum().backward()
    assert weight.grad is not None
    assert x.grad is None


@pytest.mark.parametrize("kernel", [3, 5])
def test_used_only_where_a_large_kernel_is_trained(kernel: int) -> None:
    conv = Conv2dSame(4, 4, kernel, groups=4).bfloat16()
    x = torch.randn(1, 4, 8, 8, dtype=torch.bfloat16)
    by_parts = type(conv(x).grad_fn).__name__ == "DepthwiseConv2dBackward"
    assert by_parts == (kernel > 3)
    assert not gains_from_parts(x, conv.weight.detach(), (1, 1)), "frozen"
    assert not gains_from_parts(x[:0], conv.weight, (1, 1)), "no regions"
    assert not gains_from_parts(x, conv.weight, (2, 2)), "dilated"
    with torch.no_grad():
        assert not gains_from_parts(x, conv.weight, (1, 1))
    full = Conv2dSame(4, 4, kernel).bfloat16()
    assert type(full(x).grad_fn).__name__ == "ConvolutionBackward0"


def test_small_maps_of_float32_are_left_to_pytorch() -> None:
    weight = torch.randn(4, 1, 5, 5, requires_grad=True)
    width = MIN_NUMBERS * torch.get_num_threads() // 4 // 64
    assert gains_from_parts(torch.zeros(1, 4, 64, width), weight, (1, 1))
    assert not gains_from_parts(torch.zeros(1, 4, 64, width - 1), weight, (1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert gains_from_parts(torch.zeros(1, 4, 8, 8), weight, (1, 1))
