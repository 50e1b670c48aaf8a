"""Fused networks compute what the networks compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_genotypes import sample_genotype
from torch import nn

from nasnet_det.complexity import count_multiply_adds
from nasnet_det.genotype import Genotype
from nasnet_det.network import create_model
from nasnet_det.normalization import FrozenBatchNorm2d
from nasnet_det.plan import NetworkSpec
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.runtime.fuse import fuse
from nasnet_det.trunk import NASNetTrunk

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)


def _build_trunk(genotype: Genotype, **options: Any) -> NASNetTrunk:
    torch.manual_seed(0)
    trunk = NASNetTrunk(
        NetworkSpec(**{"num_cells_per_stage": 1, "channels": 8, **options}), genotype
    )
    for m in trunk.modules():
        if hasattr(m, "running_mean"):
            nn.init.normal_(m.running_mean, 0.0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
    return trunk.double().eval()


def _compare(trunk: nn.Module, fused: nn.Module) -> None:
    for size in ((33, 40), (64, 51)):
        image = torch.randn(2, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            wanted, found = trunk(image), fused(image)
        assert list(found) == list(wanted)
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(24))
def test_any_genotype_computes_the_same(seed: int) -> None:
    stem = ("imagenet", "cifar")[seed % 2]
    norm = ("BN", "FrozenBN", "SyncBN")[seed % 3]
    trunk = _build_trunk(sample_genotype(seed), stem=stem, norm=norm, pool_padding="keras")
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    fused = fuse(trunk)
    _compare(trunk, fused)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())
    assert not any(isinstance(m, NORMS) for m in fused.modules()), "every one follows a convolution"


def test_group_normalization_stays() -> None:
    trunk = _build_trunk(GENOTYPES["nasnet_a"], norm="GN")
    fused = fuse(trunk)
    _compare(trunk, fused)
    assert any(isinstance(m, nn.GroupNorm) for m in fused.modules())


def test_a_network_in_training_is_left_so_and_its_copy_can_not_train() -> None:
    model = create_model("nasnet_a_mobile", 5, channels=8, num_cells_per_stage=1).train()
    fused = fuse(model)
    assert model.training
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())
    assert all(p.requires_grad for p in model.parameters())
    image = torch.randn(1, 3, 64, 64)
    assert count_multiply_adds(fused, image) == count_multiply_adds(model, image)


def test_weights_in_half_precision_compute_what_autocast_computes() -> None:
    trunk = _build_trunk(GENOTYPES["nasnet_a"]).float()
    fused = fuse(trunk, precision=torch.bfloat16)
    weights = [m.weight.dtype for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert set(weights) == {torch.bfloat16}
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = fused(image)["c5"].float()
    with torch.no_grad():
        wanted = trunk(image)["c5"]
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
