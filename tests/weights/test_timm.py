"""A narrow network of ours against timm's: the same tensors give the same logits and features.

Skipped without timm. The published sizes are in test_weights_peers.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from weight_files import randomize_norms

pytest.importorskip("timm")

from timm.models.nasnet import NASNetALarge

from nasnet_det.weights import convert_weights
from nasnet_det.weights.classifier import export_weights
from nasnet_det.weights.peers import compare, run_ours, run_torch_peer


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, dict[str, Any]]:
    """timm's network, narrow, and how ours becomes as narrow."""
    torch.manual_seed(3)
    model = NASNetALarge(num_classes=10, stem_size=32, num_features=192)
    return randomize_norms(model).double(), {"channels": 8, "stem_multiplier": 1}


def _find_difference(theirs: nn.Module, width: dict[str, Any], origin: str, *size: int) -> float:
    """The largest one of all outputs, in double precision."""
    converted = convert_weights(
        theirs.state_dict(), origin=origin, variant="nasnet_a_large", **width
    )
    ours = converted.build_model().double()
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    wanted = run_torch_peer(theirs, image, ours.trunk.plan)
    assert list(wanted) == ["stem", "c2", "c3", "c4", "c5", "logits"]
    for name, tensor in wanted.items():
        assert tensor.std() > 1e-3, f"{name}: the comparison is one of numbers that differ"
    return max(compare(run_ours(ours, image), wanted).values())


@pytest.mark.parametrize("size", [(64, 64), (75, 75), (96, 61), (107, 128)])
def test_narrow_large_equals_timms(
    size: tuple[int, int], small: tuple[nn.Module, dict[str, Any]]
) -> None:
    assert _find_difference(*small, "", *size) < 1e-10


def test_tensorflows_pools_differ_from_timms(small: tuple[nn.Module, dict[str, Any]]) -> None:
    assert _find_difference(*small, "cadene", 64, 64) > 1e-3


def test_ours_loads_into_timms(small: tuple[nn.Module, dict[str, Any]]) -> None:
    theirs, width = small
    weights = convert_weights(theirs.state_dict(), variant="nasnet_a_large", **width).weights
    back = export_weights(weights, "torch", "nasnet_a_large", **width)
    wanted = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    assert set(back) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(back[name], tensor), name
