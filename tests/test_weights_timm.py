"""Our networks against timm's: the same tensors give the same logits and features.

Skipped without timm. The networks as published, on real images, are marked ``peers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

pytest.importorskip("timm")

import timm
from timm.models.nasnet import NASNetALarge

from nasnet_det.network import NASNet
from nasnet_det.weights import convert_weights
from nasnet_det.weights.conversion import export_weights

# Module -> our feature; the inputs of these ReLUs' convolutions are what timm calls features.
TAPS = {
    "nasnet_a_large": {
        "conv0": "stem",
        "cell_stem_1.conv_1x1.act": "c2",
        "reduction_cell_0.conv_1x1.act": "c3",
        "reduction_cell_1.conv_1x1.act": "c4",
        "act": "c5",
    },
    "pnasnet_5_large": {
        "conv_0": "stem",
        "cell_stem_1.conv_1x1.act": "c2",
        "cell_4.conv_1x1.act": "c3",
        "cell_8.conv_1x1.act": "c4",
        "act": "c5",
    },
}


def _randomize(model: nn.Module) -> nn.Module:
    """Statistics of its own for every normalization."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
            nn.init.normal_(m.running_mean, 0.0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


@torch.no_grad()
def _run_theirs(model: nn.Module, image: torch.Tensor, variant: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(module).register_forward_hook(
            lambda _m, _args, out, name=name: found.__setitem__(name, out.clone())
        )
        for module, name in TAPS[variant].items()
    ]
    found["logits"] = model(image)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def _run_ours(model: NASNet, image: torch.Tensor) -> dict[str, torch.Tensor]:
    assert model.trunk.stem is not None
    return {"stem": model.trunk.stem(image), **model.trunk(image), "logits": model(image)}


def _largest_difference(
    found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> tuple[float, str]:
    """Relative to the largest value of each output, and the output's name."""
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape, name
        assert tensor.std() > 1e-3, "the comparison is one of numbers that differ"
    return max(
        (((found[name] - tensor).abs().max() / tensor.abs().max()).item(), name)
        for name, tensor in wanted.items()
    )


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, dict[str, Any]]:
    """timm's network, narrow, and how ours becomes as narrow."""
    torch.manual_seed(3)
    model = NASNetALarge(num_classes=10, stem_size=32, num_features=192)
    return _randomize(model).double(), {"channels": 8, "stem_multiplier": 1}


@pytest.mark.parametrize("size", [(64, 64), (75, 75), (96, 61), (107, 128)])
def test_narrow_large_equals_timms(
    size: tuple[int, int], small: tuple[nn.Module, dict[str, Any]]
) -> None:
    theirs, width = small
    converted = convert_weights(theirs.state_dict(), variant="nasnet_a_large", **width)
    assert converted.metadata["origin"] == "timm"
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    wanted = _run_theirs(theirs, image, "nasnet_a_large")
    difference, where = _largest_difference(
        _run_ours(converted.build_model().double(), image), wanted
    )
    assert difference < 1e-10, where


def test_tensorflows_pools_differ_from_timms(small: tuple[nn.Module, dict[str, Any]]) -> None:
    theirs, width = small
    converted = convert_weights(
        theirs.state_dict(), origin="cadene", variant="nasnet_a_large", **width
    )
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    wanted = _run_theirs(theirs, image, "nasnet_a_large")
    difference, _ = _largest_difference(_run_ours(converted.build_model().double(), image), wanted)
    assert difference > 1e-3


def test_ours_loads_into_timms(small: tuple[nn.Module, dict[str, Any]]) -> None:
    theirs, width = small
    weights = convert_weights(theirs.state_dict(), variant="nasnet_a_large", **width).weights
    back = export_weights(weights, "torch", "nasnet_a_large", **width)
    wanted = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    assert set(back) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(back[name], tensor), name


@pytest.mark.peers
@pytest.mark.parametrize("size", [224, 299, 320, 331, 333, (480, 640), 800], ids=str)
@pytest.mark.parametrize(
    ("name", "variant"), [("nasnetalarge", "nasnet_a_large"), ("pnasnet5large", "pnasnet_5_large")]
)
def test_published_network_equals_timms(
    name: str, variant: str, size: int | tuple[int, int], reference_data: Path
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    file = sorted((reference_data / "coco_small" / "val2017").glob("*.jpg"))[0]
    picture = Image.open(file).convert("RGB").resize((width, height))
    image = (pil_to_tensor(picture)[None].float() / 255 - 0.5) / 0.5
    theirs = _randomize(timm.create_model(name, pretrained=False))
    converted = convert_weights(theirs.state_dict())
    assert converted.metadata["variant"] == variant
    wanted = _run_theirs(theirs, image, variant)
    difference, where = _largest_difference(_run_ours(converted.build_model(), image), wanted)
    print(f"{variant} at {height}x{width}: {difference:.1e} ({where})")
    assert np.isfinite(difference)
    assert difference < 1e-5, where
