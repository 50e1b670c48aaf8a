"""Measures of networks that are not trained, recomputed in other ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.search.child import ChildRecipe
from nasnet_det.search.zero_cost import MEASURES, ZeroCostMeasures, compute_measures
from nasnet_det.space import SearchSpace

IMAGES, LABELS = (
    torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)),
    torch.arange(4),
)


def _measure(model: nn.Module) -> dict[str, float]:
    return dict(zip(MEASURES, compute_measures(model, IMAGES, LABELS), strict=True))


def test_flow_of_a_chain_is_its_length_times_what_comes_out() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Linear(75, 6, bias=False),
        nn.Linear(6, 5, bias=False),
        nn.Linear(5, 4, bias=False),
    ]
    product = torch.ones(75, dtype=torch.float64)
    for layer in layers:
        product = layer.weight.detach().double().abs() @ product
    found = _measure(nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], layers[2]))
    assert found["synflow"] == pytest.approx(math.log(3 * float(product.sum())))


def test_gradients_and_patterns_are_those_of_the_network() -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(75, 6), nn.Linear(6, 4)
    hidden = first(IMAGES.flatten(1))
    F.cross_entropy(last(hidden.relu()), LABELS).backward()
    tensors = [*first.parameters(), *last.parameters()]
    norm = math.sqrt(sum(float(t.grad.square().sum()) for t in tensors if t.grad is not None))
    product = sum(float((t.detach() * t.grad).abs().sum()) for t in tensors)
    on = hidden > 0
    same = (on[:, None] == on[None, :]).sum(2).double()
    found = _measure(nn.Sequential(nn.Flatten(), first, nn.ReLU(), last))
    assert found["gradient_norm"] == pytest.approx(math.log(norm), rel=1e-5)
    assert found["snip"] == pytest.approx(math.log(product), rel=1e-5)
    assert found["relus"] == pytest.approx(math.log(6))
    assert found["parameters"] == pytest.approx(math.log(75 * 6 + 6 + 6 * 4 + 4))
    eigenvalues = np.linalg.eigvalsh(same.numpy() + 1e-5 * np.eye(4))
    assert found["naswot"] == pytest.approx(np.log(eigenvalues).sum(), rel=1e-6)


def test_children_have_measures_of_their_own_and_always_the_same() -> None:
    space = SearchSpace(1, ("identity", "sep_conv_3x3", "max_pool_3x3"), ("add",))
    recipe = ChildRecipe(num_cells_per_stage=1, channels=4, stem_multiplier=1)
    measure = ZeroCostMeasures(recipe, space, image_size=8)
    identity, convolution = (0, 1, 0, 0, 0, 0, 1, 0, 0, 0), (0, 1, 1, 1, 0, 0, 1, 1, 1, 0)
    state = torch.get_rng_state()
    found = measure(convolution)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(found, measure(convolution))
    assert np.isfinite(found).all()
    assert (found != measure(identity)).all()
