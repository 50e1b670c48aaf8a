"""Parameters and multiply-adds against the published numbers and independent counters."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasnet_det.complexity import (
    ParameterCount,
    count_calls,
    count_multiply_adds,
    count_parameters,
)
from nasnet_det.network import NASNet, create_model
from nasnet_det.plan import STEMS, NetworkSpec
from nasnet_det.space import SearchSpace
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import resolve_variant

PUBLISHED = json.loads((Path(__file__).parent / "golden" / "published.json").read_text())


def _meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def _count_without_computing(module: nn.Module, run: Callable[[], Any]) -> int:
    """Multiply-adds by torch's own counter, which (unlike fvcore's) works on the meta device."""
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network_has_the_published_size(name: str) -> None:
    wanted = PUBLISHED[name]
    size = wanted["input_size"]
    with torch.device("meta"):
        model = create_model(name, wanted["num_classes"])
    assert model.trunk.spec.input_size == size
    assert count_parameters(model) == (wanted["trainable"], wanted["with_statistics"])
    image = _meta(1, 3, size, size)
    multiply_adds = _count_without_computing(model, lambda: model(image))
    assert multiply_adds == wanted["multiply_adds"]

    printed = wanted["printed_parameters_m"]
    key = "with_statistics" if printed == 88.9 else "trainable"
    # As printed, to its last digit; TF-slim's README rounds 86.06 up to 86.1.
    assert wanted[key] / 1e6 == pytest.approx(printed, abs=0.06)
    if wanted["printed_multiply_adds_m"]:
        assert multiply_adds / 1e6 == pytest.approx(wanted["printed_multiply_adds_m"], rel=0.003)


@pytest.mark.parametrize("name", PUBLISHED)
def test_auxiliary_head_has_its_published_size_and_is_not_counted_with_the_network(
    name: str,
) -> None:
    wanted = PUBLISHED[name]
    with torch.device("meta"):
        model = create_model(name, wanted["num_classes"], aux_head=True)
    assert count_parameters(model.aux_head).trainable == wanted["aux_head"]
    assert count_parameters(model).trainable == wanted["trainable"] + wanted["aux_head"]


@pytest.mark.parametrize("name", ["nasnet_a_mobile", "nasnet_a_cifar_6_768"])
def test_published_multiply_adds_are_counted(name: str) -> None:
    wanted = PUBLISHED[name]
    with torch.device("meta"):
        model = create_model(name, wanted["num_classes"])
    image = _meta(1, 3, wanted["input_size"], wanted["input_size"])
    assert count_multiply_adds(model, image) == wanted["multiply_adds"]


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_are_counted_as_fvcore_does(seed: int) -> None:
    rng = random.Random(seed)
    space = SearchSpace(num_blocks=rng.randint(1, 5))
    spec = NetworkSpec(
        num_cells_per_stage=1,
        channels=rng.randint(8, 13),
        stem=rng.choice(STEMS),
        stem_multiplier=rng.randint(1, 3),
        skip_reduction_input=rng.random() < 0.5,
        extra_reduction_cells=rng.random() < 0.5,
    )
    model = NASNet(spec, space.decode(space.sample(rng)), num_classes=rng.randint(1, 9))
    image = torch.zeros(rng.randint(1, 2), 3, rng.randint(15, 40), rng.randint(15, 40))
    analysis = FlopCountAnalysis(model.eval(), image).unsupported_ops_warnings(False)
    with torch.no_grad():
        operators = analysis.uncalled_modules_warnings(False).by_operator()
    assert count_multiply_adds(model, image) == operators["conv"] + operators["linear"]


def test_parts_are_counted_and_only_inside_of_the_block() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 6, (1, 5), stride=2),
        nn.Flatten(),
        nn.Linear(6 * 5 * 3, 7),
    )
    image = torch.zeros(3, 4, 10, 10)
    first, second, third = 3 * 8 * 100 * 2 * 9, 3 * 6 * 15 * 8 * 5, 3 * 7 * 90
    with count_calls({"all": [layers], "ends": [layers[0], layers[4]]}) as counts:
        layers(image)
    assert counts == {"all": first + second + third, "ends": first + third}
    layers(image)
    assert counts["all"] == first + second + third


def test_transposed_convolution_uses_a_weight_for_each_position_it_reads() -> None:
    layer = nn.ConvTranspose2d(4, 6, 2, stride=2)
    with count_calls({"all": [layer]}) as counts:
        layer(torch.zeros(2, 4, 5, 5))
    assert counts["all"] == 2 * 5 * 5 * (4 * 6 * 2 * 2)


@pytest.mark.parametrize(
    ("name", "stop", "trunk_m", "trunk_gmac", "head_m", "gmac_per_region"),
    [
        ("nasnet_a_large", "cell_11", 20.1, 85.7, 64.6, 5.79),
        ("nasnet_a_mobile", "cell_7", 1.04, 4.8, 3.19, 0.295),
    ],
)
def test_c4_detector_halves_have_their_size(
    name: str, stop: str, trunk_m: float, trunk_gmac: float, head_m: float, gmac_per_region: float
) -> None:
    """Trunk to stride 16 at 800x800 pixels, and the box head on one region of 17x17."""
    spec, genotype = resolve_variant(name)
    with torch.device("meta"):
        trunk = NASNetTrunk(spec, genotype, stop=stop)
        head = NASNetTrunk(spec, genotype, start="reduction_cell_1")
    first = head.plan[0]
    assert trunk.plan[-1].out_stride == 16
    assert (first.h_prev, first.h) == (trunk.plan[-2].name, stop)

    def digits(value: float, printed: float) -> float:
        """``value`` with as many decimals as ``printed``."""
        return round(value, len(str(printed).split(".")[1]))

    assert digits(count_parameters(trunk).trainable / 1e6, trunk_m) == trunk_m
    assert digits(count_parameters(head).trainable / 1e6, head_m) == head_m

    image = _meta(1, 3, 800, 800)
    trunk_macs = _count_without_computing(trunk, lambda: trunk(image))
    assert digits(trunk_macs / 1e9, trunk_gmac) == trunk_gmac

    pair = [_meta(1, n, 17, 17) for n in (first.h_prev_channels, first.h_channels)]
    outs: list[torch.Tensor] = []
    head_macs = _count_without_computing(head, lambda: outs.append(head.run(*pair)[1]))
    assert digits(head_macs / 1e9, gmac_per_region) == gmac_per_region
    assert outs[-1].shape == (1, PUBLISHED[name]["endpoints"][_last(name)][1], 9, 9)


def _last(name: str) -> str:
    return list(PUBLISHED[name]["endpoints"])[-1]


def test_multiply_adds_of_small_modules_by_hand() -> None:
    image = torch.zeros(1, 3, 8, 8)
    assert count_multiply_adds(nn.Conv2d(3, 5, 3, stride=2), image) == 3 * 3 * 3 * 5 * 3 * 3
    assert count_multiply_adds(nn.Conv2d(3, 6, 3, groups=3, padding=1), image) == 9 * 6 * 64
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.ReLU(), nn.Linear(10, 2))
    assert count_multiply_adds(linear, image) == 192 * 10 + 10 * 2
    pools = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2))
    assert count_multiply_adds(pools, image) == 0


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: t.clone() for name, t in module.state_dict().items()}
    for mode in (True, False):
        module.train(mode)
        count_multiply_adds(module, torch.randn(2, 3, 8, 8))
        assert module.training is mode
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with pytest.raises(RuntimeError):  # too many channels
        count_multiply_adds(module.train(), torch.randn(2, 4, 8, 8))
    assert module.training


def test_frozen_parameters_are_not_trainable() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    assert count_parameters(module) == ParameterCount(12 + 8, 12 + 8 + 8)
    module[0].weight.requires_grad_(False)
    assert count_parameters(module) == ParameterCount(8, 12 + 8 + 8)


def test_frozen_norms_count_as_statistics_only() -> None:
    """The total does not depend on how normalizations are treated in training."""
    with torch.device("meta"):
        frozen = create_model("nasnet_a_mobile", norm="FrozenBN")
    wanted = PUBLISHED["nasnet_a_mobile"]
    norms = wanted["with_statistics"] - wanted["trainable"]
    assert count_parameters(frozen) == (wanted["trainable"] - norms, wanted["with_statistics"])
