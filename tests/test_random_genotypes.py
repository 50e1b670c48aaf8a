"""Properties of networks over many random genotypes of the full search space."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from random_genotypes import sample_genotype
from trunk_steps import list_steps

from nasnet_det.genotype import COMBINERS, OPERATION_NAMES
from nasnet_det.plan import NetworkSpec, feature_sizes
from nasnet_det.published_cells import load_genotype
from nasnet_det.trunk import NASNetTrunk

NUM_GENOTYPES = 208


def _sample_spec(seed: int) -> tuple[NetworkSpec, tuple[int, int]]:
    """A tiny network and an input size (height and width differ, odd ones included)."""
    rng = random.Random(seed)
    stem = "imagenet" if seed % 3 == 0 else "cifar"
    spec = NetworkSpec(
        num_cells_per_stage=1,
        channels=rng.choice((8, 9, 12)) if stem == "imagenet" else rng.choice((2, 3, 4, 8)),
        stem=stem,
        stem_multiplier=1,
        skip_reduction_input=rng.random() < 0.5,
        extra_reduction_cells=rng.random() < 0.7,
        drop_path_prob=rng.choice((0.0, 0.3)),
    )
    low, high = (9, 24) if stem == "imagenet" else (3, 10)
    return spec, (rng.randint(low, high), rng.randint(low, high))


@pytest.mark.parametrize("seed", range(NUM_GENOTYPES))
def test_any_genotype_trains_has_its_declared_shapes_and_survives_json(
    seed: int, tmp_path: Path
) -> None:
    genotype = sample_genotype(seed).validate()
    genotype.save(tmp_path / "genotype.json")
    assert load_genotype(tmp_path / "genotype.json") == genotype

    spec, size = _sample_spec(seed)
    trunk = NASNetTrunk(spec, genotype)
    heights, widths = (feature_sizes(spec, genotype, n) for n in size)
    outs = {}
    for row, h, out in list_steps(trunk, None, torch.randn(2, 3, *size)):
        assert h.shape == (2, row.h_channels, heights[row.h], widths[row.h])
        assert out.shape == (2, row.out_channels, heights[row.name], widths[row.name]), row.name
        assert out.isfinite().all(), row.name
        outs[row.name] = out
    assert list(outs) == [row.name for row in trunk.plan]

    # A random projection: the sum of a normalized output would have no gradient.
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert parameter.grad.isfinite().all(), name


def test_samples_cover_the_space() -> None:
    """So that the property above is not one of a corner."""
    seen = set()
    sizes = set()
    for seed in range(NUM_GENOTYPES):
        genotype = sample_genotype(seed)
        for kind in ("normal", "reduction"):
            cell = getattr(genotype, kind)
            sizes.add(len(cell.blocks))
            for block in cell.blocks:
                for op, state in zip(block.ops, block.inputs, strict=True):
                    seen.add((kind, op, min(state, 2), block.combine))
            seen |= {(kind, "concat", state) for state in cell.concat if state < 2}
    wanted = {
        (kind, op, state, combine)
        for kind in ("normal", "reduction")
        for op in OPERATION_NAMES
        for state in (0, 1, 2)  # h, h_prev, a block
        for combine in COMBINERS
    }
    wanted |= {(kind, "concat", state) for kind in ("normal", "reduction") for state in (0, 1)}
    assert seen == wanted
    assert sizes == set(range(1, 8))


def test_samples_are_reproducible_and_differ() -> None:
    assert sample_genotype(11) == sample_genotype(11)
    assert len({sample_genotype(seed) for seed in range(NUM_GENOTYPES)}) == NUM_GENOTYPES
