"""Packed networks compute what fused ones compute."""

from __future__ import annotations

import pytest
import torch
from random_genotypes import sample_genotype
from torch import nn

from nasnet_det.plan import NetworkSpec
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.runtime import packing
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.packing import PackedBlock, PackedConv2d, pack
from nasnet_det.trunk import NASNetTrunk

pytestmark = pytest.mark.skipif(
    not packing.HAS_PACKED_CONVOLUTIONS, reason="this PyTorch has no packed convolutions"
)


def _build_fused(seed: int | None, **options: object) -> nn.Module:
    torch.manual_seed(0)
    genotype = GENOTYPES["nasnet_a"] if seed is None else sample_genotype(seed)
    trunk = NASNetTrunk(
        NetworkSpec(**{"num_cells_per_stage": 2, "channels": 8, **options}),  # type: ignore[arg-type]
        genotype,
    )
    for m in trunk.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.normal_(m.bias, 0.0, 0.2)
    return fuse(trunk)


@pytest.mark.parametrize("seed", range(8))
def test_any_genotype_is_as_near_to_double_precision_at_any_size(seed: int) -> None:
    fused = _build_fused(seed, norm=("BN", "GN")[seed % 2], stem=("imagenet", "cifar")[seed // 4])
    packed, exact = pack(fuse(fused)), fuse(fused).double()
    for size in ((2, 3, 33, 40), (1, 3, 64, 51)):
        image = torch.randn(size)
        with torch.no_grad():
            wanted, found, truth = fused(image), packed(image), exact(image.double())
        assert list(found) == list(wanted)
        for name, true in truth.items():
            error = float((wanted[name] - true).abs().max())
            assert float((found[name] - true).abs().max()) <= 10 * error + 1e-5 * true.abs().max()


def test_convolutions_and_what_follows_them_are_packed() -> None:
    packed = pack(_build_fused(None))
    blocks = [m for m in packed.modules() if isinstance(m, PackedBlock)]
    assert len(blocks) == 3 * 2 * 3 + 4 * 4  # three of five of a normal cell; four of a reduction
    left = [m for m in packed.modules() if isinstance(m, nn.Conv2d)]
    assert {m.stride for m in left} == {(2, 2)}
    ends = [m.epilogue for b in blocks for m in b.start.modules() if isinstance(m, PackedConv2d)]
    assert ends.count("relu") == len(blocks), "a separable convolution's inner ReLU"


def test_weights_in_half_precision_compute_what_autocast_computes() -> None:
    fused = fuse(_build_fused(None), precision=torch.bfloat16)
    packed = pack(fuse(fused))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted, found = fused(image), packed(image)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=0.03, atol=0.03 * float(value.max()))


def test_no_image_is_no_map() -> None:
    conv = PackedConv2d(nn.Conv2d(3, 5, 3), (1, 1))
    assert conv(torch.randn(0, 3, 7, 9)).shape == (0, 5, 7, 9)
