"""Taps that see only padding: found by another rule, and zero without a change for the training."""

from __future__ import annotations

import copy

import torch
from torch import nn

from nasnet_det.classification.unreached_taps import clear_unreached_taps
from nasnet_det.network import create_model


def test_taps_are_those_that_reach_no_pixel_and_nothing_changes_at_the_size() -> None:
    model = create_model("nasnet_a_mobile", 3, num_cells_per_stage=1, channels=8).eval()
    before = copy.deepcopy(model)
    sizes: dict[str, tuple[int, int, int, int]] = {}

    def note(name: str) -> object:
        def hook(conv: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            sizes[name] = (*inputs[0].shape[2:], conv.kernel_size[0], conv.stride[0])

        return hook

    for name, module in model.trunk.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.register_forward_hook(note(name))
    images = torch.randn(2, 3, 48, 48)
    wanted = model(images)
    found = clear_unreached_taps(model.trunk, 48)
    expected = {}
    for name, (height, width, kernel, stride) in sizes.items():
        assert height == width
        total = max((-(-height // stride) - 1) * stride + kernel - height, 0)  # TensorFlow's SAME
        reached = {
            tap
            for tap in range(kernel)
            for place in range(-(-height // stride))
            if 0 <= place * stride + tap - total // 2 < height
        }
        if len(reached) < kernel:
            expected[name] = kernel**2 - len(reached) ** 2
    assert found == expected
    assert len(found) > 3
    torch.testing.assert_close(model(images), wanted)
    large = torch.randn(1, 3, 96, 96)
    assert not torch.allclose(model(large), before(large), atol=1e-4)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert clear_unreached_taps(before.trunk, 320) == {}
