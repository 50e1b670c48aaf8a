"""Plans and networks against published tables; variants, overrides and their errors."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from trunk_steps import list_steps

from nasnet_det.genotype import Genotype
from nasnet_det.network import AuxiliaryHead, NASNetOutput, create_model
from nasnet_det.normalization import get_norm_layer
from nasnet_det.plan import (
    NORMS,
    NetworkSpec,
    feature_sizes,
    override_spec,
    plan_cells,
    stem_channels,
)
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import VARIANTS, list_models, resolve_variant

PUBLISHED = json.loads((Path(__file__).parent / "golden" / "published.json").read_text())
NASNET_A = GENOTYPES["nasnet_a"]
TINY = {"channels": 8, "num_cells_per_stage": 1}


def _endpoints(name: str) -> dict[str, list[int]]:
    """The published table with ``cell_0..cell_5`` written out."""
    table = {}
    for key, shape in PUBLISHED[name]["endpoints"].items():
        first, _, last = key.partition("..")
        if last:
            low, high = (int(word.removeprefix("cell_")) for word in (first, last))
            table |= {f"cell_{i}": shape for i in range(low, high + 1)}
        else:
            table[key] = shape
    return table


@pytest.mark.parametrize("name", PUBLISHED)
def test_plan_has_the_published_endpoint_shapes(name: str) -> None:
    spec, genotype = resolve_variant(name)
    sizes = feature_sizes(spec, genotype, spec.input_size)
    plan = plan_cells(spec, genotype)
    found = {"stem": [sizes["stem"], stem_channels(spec)]}
    found |= {row.name: [sizes[row.name], row.out_channels] for row in plan}
    assert found == _endpoints(name)
    assert list(found) == list(_endpoints(name)), "in running order"


@pytest.mark.parametrize("name", PUBLISHED)
def test_network_produces_the_published_endpoint_shapes(name: str) -> None:
    """Really computed for the two small NASNet-A, on the meta device for the others."""
    spec, genotype = resolve_variant(name)
    really = name in ("nasnet_a_mobile", "nasnet_a_cifar_6_768")
    with torch.device("cpu" if really else "meta"), torch.no_grad():
        trunk = NASNetTrunk(spec, genotype).eval()
        image = torch.randn(1, 3, spec.input_size, spec.input_size)
        steps = list_steps(trunk, None, image)
    found = {"stem": list(steps[0][1].shape[1:])}
    found |= {row.name: list(out.shape[1:]) for row, _, out in steps}
    assert found == {key: [c, n, n] for key, (n, c) in _endpoints(name).items()}
    if really:
        assert all(out.isfinite().all() for _, _, out in steps)


def _h_prev(name: str) -> dict[str, str | None]:
    return {row.name: row.h_prev for row in plan_cells(*resolve_variant(name))}


def test_large_skips_the_input_of_a_reduction() -> None:
    h_prev = _h_prev("nasnet_a_large")
    assert (h_prev["reduction_cell_0"], h_prev["cell_6"]) == ("cell_4", "cell_4")
    assert (h_prev["reduction_cell_1"], h_prev["cell_12"]) == ("cell_10", "cell_10")
    assert (h_prev["cell_7"], h_prev["cell_13"]) == ("reduction_cell_0", "reduction_cell_1")


def test_mobile_and_cifar_do_not_skip_the_input_of_a_reduction() -> None:
    mobile, cifar = _h_prev("nasnet_a_mobile"), _h_prev("nasnet_a_cifar_6_768")
    assert (mobile["reduction_cell_0"], mobile["cell_4"]) == ("cell_2", "cell_3")
    assert (mobile["reduction_cell_1"], mobile["cell_8"]) == ("cell_6", "cell_7")
    assert (cifar["reduction_cell_0"], cifar["cell_6"]) == ("cell_4", "cell_5")
    assert cifar["cell_0"] is None
    assert cifar["cell_1"] == "stem"


def test_pnasnet_reduces_in_its_normal_cells() -> None:
    plan = plan_cells(*resolve_variant("pnasnet_5_large"))
    assert [row.name for row in plan if row.stride == 2] == [
        "cell_stem_0", "cell_stem_1", "cell_4", "cell_8",
    ]  # fmt: skip
    assert _h_prev("pnasnet_5_large")["cell_4"] == "cell_2"
    assert _h_prev("pnasnet_5_large")["cell_5"] == "cell_3"


@pytest.mark.parametrize("name", list_models())
def test_rows_of_a_plan_fit_together(name: str) -> None:
    spec, genotype = resolve_variant(name)
    plan = plan_cells(spec, genotype)
    channels, stride = {"stem": stem_channels(spec)}, {"stem": 2 if "cifar" not in name else 1}
    newest = "stem"
    for row in plan:
        assert row.h == newest, "h is the newest output"
        assert row.h_channels == channels[row.h]
        assert row.out_stride == stride[row.h] * row.stride
        if row.h_prev is not None:
            assert row.h_prev_channels == channels[row.h_prev]
            assert row.h_prev_stride == stride[row.h] // stride[row.h_prev]
        assert row.pair_channels == row.h_channels + row.out_channels
        cell = getattr(genotype, row.kind)
        assert row.out_channels == len(cell.concat) * row.channels
        channels[row.name], stride[row.name], newest = row.out_channels, row.out_stride, row.name
    assert [row.h_prev is None for row in plan] == [True] + [False] * (len(plan) - 1)
    assert plan[-1].depth_ratio == 1.0


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("nasnet_a_mobile", {"c2": 44, "c3": 264, "c4": 528, "c5": 1056}),
        ("nasnet_a_large", {"c2": 168, "c3": 1008, "c4": 2016, "c5": 4032}),
        ("pnasnet_5_large", {"c2": 270, "c3": 1080, "c4": 2160, "c5": 4320}),
        ("nasnet_a_cifar_6_768", {"c0": 192, "c1": 384, "c2": 768}),
    ],
)
def test_features_are_the_last_cells_of_their_stride(name: str, features: dict[str, int]) -> None:
    plan = plan_cells(*resolve_variant(name))
    assert {row.feature: row.out_channels for row in plan if row.feature} == features
    for row, following in itertools.pairwise(plan):
        assert bool(row.feature) == (row.out_stride != following.out_stride)


def test_feature_is_the_raw_output_after_relu() -> None:
    spec, genotype = resolve_variant("nasnet_a_mobile")
    trunk = NASNetTrunk(override_spec(spec, **TINY), genotype).eval()
    image = torch.randn(1, 3, 50, 37)
    raw = {row.feature: out for row, _, out in list_steps(trunk, None, image) if row.feature}
    features = trunk(image)
    assert list(features) == ["c2", "c3", "c4", "c5"]
    for key, feature in features.items():
        assert (raw[key] < 0).any(), "so that the ReLU does something"
        torch.testing.assert_close(feature, raw[key].clamp(min=0), rtol=0, atol=0)


@pytest.mark.parametrize("input_size", [3, 4, 5, 17, 32, 33, 223, 224, 331, 800, 1200])
def test_feature_sizes_follow_valid_stem_and_same_cells(input_size: int) -> None:
    spec, genotype = resolve_variant("nasnet_a_mobile")
    sizes = feature_sizes(spec, genotype, input_size)
    chain = [(input_size - 1) // 2]  # VALID, kernel 3, stride 2
    for _ in range(4):
        chain.append((chain[-1] + 1) // 2)
    found = [sizes[k] for k in ("stem", "cell_stem_0", "cell_3", "cell_7", "cell_11")]
    assert found == chain
    assert feature_sizes(VARIANTS["nasnet_a_cifar_6_768"][0], genotype, 33)["cell_17"] == 9


def test_feature_sizes_refuse_an_input_that_the_stem_can_not_read() -> None:
    spec, genotype = resolve_variant("nasnet_a_mobile")
    with pytest.raises(ValueError, match="wanted an input of at least 3 pixels .* got 2"):
        feature_sizes(spec, genotype, 2)
    cifar, _ = resolve_variant("nasnet_a_cifar_6_768")
    with pytest.raises(ValueError, match="wanted an input of at least 1 pixels? .* got 0"):
        feature_sizes(cifar, genotype, 0)


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains(norm: str) -> None:
    model = create_model("nasnet_a_mobile", 3, norm=norm, channels=8, num_cells_per_stage=1)
    kind = type(get_norm_layer(norm)(8))
    norms = [m for m in model.modules() if type(m) is kind]
    assert norms
    assert {m.eps for m in norms} == {1e-3}
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    frozen = {id(p) for m in norms for p in m.parameters()}
    assert bool(frozen) == (norm != "FrozenBN")


def test_epsilon_and_momentum_reach_every_norm() -> None:
    cifar = create_model("nasnet_a_cifar_6_768", 3, norm_momentum=0.25, aux_head=True, **TINY)
    norms = [m for m in cifar.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.25)}


def test_weights_start_with_variance_scaling_by_fan_out() -> None:
    model = create_model("nasnet_a_cifar_6_768", 3, channels=64, num_cells_per_stage=1)
    cell = model.trunk.cells["cell_2"]
    pointwise = cell.blocks[0].left.separable_1.pointwise.weight
    depthwise = cell.blocks[0].left.separable_1.depthwise.weight
    assert pointwise.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert depthwise.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.05), "per group"


def test_classifier_returns_logits_and_auxiliary_logits_in_training_only() -> None:
    model = create_model("nasnet_a_cifar_6_768", 7, aux_head=True, **TINY)
    image = torch.randn(3, 3, 32, 32)
    out = model(image)
    assert isinstance(out, NASNetOutput)
    assert out.logits.shape == out.aux_logits.shape == (3, 7)
    (out.logits.sum() + out.aux_logits.square().sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.eval()(image).shape == (3, 7)
    without = create_model("nasnet_a_cifar_6_768", 7, **TINY)
    assert without(image).shape == (3, 7)


def test_auxiliary_head_reads_the_end_of_the_second_stage() -> None:
    model = create_model("nasnet_a_large", aux_head=True, **TINY)
    assert model.aux_feature == "c4"
    assert model.aux_head.project.in_channels == model.trunk.plan[4].out_channels
    assert model.trunk.plan[4].name == "cell_1"
    assert model.aux_head.kernel_size == 6, "21x21 -> 6x6 after the pooling"
    assert model(torch.randn(2, 3, 200, 250)).aux_logits.shape == (2, 1000), "another input size"


def test_auxiliary_head_needs_a_map_of_5x5() -> None:
    with pytest.raises(ValueError, match="needs a feature map of at least 5x5, got 4x4: use a lar"):
        create_model("nasnet_a_mobile", aux_head=True, input_size=64, **TINY)
    head = AuxiliaryHead(8, 5, 3, get_norm_layer("BN"))
    assert head.kernel_size == 1
    with pytest.raises(ValueError, match="needs a feature map of at least 5x5, got 7x4"):
        head(torch.zeros(2, 8, 7, 4))


def test_dropout_comes_before_the_classifier() -> None:
    model = create_model("nasnet_a_cifar_6_768", 3, dropout=0.9, drop_path_prob=0.0, **TINY)
    image = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


def test_published_n_at_p_names_mean_the_variants() -> None:
    assert resolve_variant("nasnet_a_4@1056") == resolve_variant("nasnet_a_mobile")
    spec, genotype = resolve_variant("amoebanet_a_3@480")
    assert (spec.num_cells_per_stage, spec.channels) == (3, 40)
    assert genotype is GENOTYPES["amoebanet_a"]
    spec, _ = resolve_variant("pnasnet_5_3@1080")
    assert (spec.channels, spec.extra_reduction_cells) == (54, False)
    for n, p, channels in ((6, 4032, 168), (7, 1920, 80), (6, 768, 32), (7, 2304, 96)):
        assert resolve_variant(f"nasnet_a_{n}@{p}")[0].channels == channels
        assert plan_cells(*resolve_variant(f"nasnet_a_{n}@{p}"))[-1].out_channels == p


@pytest.mark.parametrize("name", list_models())
def test_every_listed_model_builds_and_its_name_says_its_size(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, **TINY, aux_head=True)
        out = model(torch.zeros(2, 3, model.trunk.spec.input_size, model.trunk.spec.input_size))
    assert out.logits.shape == (2, 1000)
    spec, genotype = resolve_variant(name)
    if name[-1].isdigit():
        n, p = (int(word) for word in name.split("_")[-2:])
        assert spec.num_cells_per_stage == n
        assert plan_cells(spec, genotype)[-1].out_channels == p


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nasnet_a_mobil", ("unknown network variant 'nasnet_a_mobil', did you mean "
         "'nasnet_a_mobile'? (valid: nasnet_a_5_1536, ")),
        ("resnet50", "unknown network variant 'resnet50', "),
        ("nasnet_b_4@1536", "unknown network variant 'nasnet_b_4@1536', did you mean 'nasnet_a_5"),
        ("nasnet_a_4@", "unknown network variant 'nasnet_a_4@', "),
        ("nasnet_a_5@1538", ("channels do not divide in 'nasnet_a_5@1538': with 6 states in the "
         "normal cell's concat, P must be a multiple of 24, got 1538 (nearest: 1536 or 1560)")),
        ("pnasnet_5_4@7", ("with 5 states in the normal cell's concat, P must be a multiple of 20, "
         "got 7 (nearest: 20 or 20)")),
        ("nasnet_a_0@1056", "num_cells_per_stage: wanted at least 1, got 0"),
    ],
)  # fmt: skip
def test_impossible_name_is_explained(name: str, wanted: str) -> None:
    with pytest.raises(ValueError) as caught:
        create_model(name)
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ({"chanels": 32}, "unknown network field 'chanels', did you mean 'channels'? (valid: "),
        ({"channels": 7}, "channels: wanted at least 8 with the imagenet stem, got 7"),
        ({"channels": 1, "stem": "cifar"}, "channels: wanted at least 2 with the cifar stem"),
        ({"channels": "32"}, "channels: wanted a value of type int, got '32'"),
        ({"channels": 32.5}, "channels: wanted a value of type int, got 32.5"),
        ({"channels": True}, "channels: wanted a value of type int, got True"),
        ({"skip_reduction_input": 1}, "skip_reduction_input: wanted a value of type bool, got 1"),
        ({"stem": "image_net"}, "stem: unknown stem 'image_net', did you mean 'imagenet'?"),
        ({"stem_multiplier": 0}, "stem_multiplier: wanted at least 1, got 0"),
        ({"input_size": -1}, "input_size: wanted at least 1, got -1"),
        ({"norm_eps": 0.0}, "norm_eps: wanted a positive number, got 0.0"),
        ({"norm_eps": float("nan")}, "norm_eps: wanted a positive number, got nan"),
        ({"drop_path_prob": 1.0}, "drop_path_prob: wanted a probability in [0, 1), got 1.0"),
        ({"dropout": -0.1}, "dropout: wanted a probability in [0, 1), got -0.1"),
        (
            {"pool_padding": "kera"},
            "pool_padding: unknown pool padding 'kera', did you mean 'keras'?",
        ),
    ],
)
def test_impossible_field_is_explained(overrides: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError) as caught:
        create_model("nasnet_a_mobile", **overrides)
    assert wanted in str(caught.value)


def test_all_impossible_fields_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="network: input_size: .*; stem: .*; dropout: "):
        NetworkSpec(1, 8, stem="imagnet", input_size=0, dropout=2.0).validate()


def test_impossible_number_of_classes_is_explained() -> None:
    small: dict[str, Any] = {"channels": 8, "num_cells_per_stage": 1}
    with pytest.raises(
        ValueError, match="wanted a number of classes, or 0 for none, got num_classes=-1"
    ):
        create_model(num_classes=-1)
    with pytest.raises(ValueError, match="at least 1 class, since there is an auxiliary head"):
        create_model(num_classes=0, aux_head=True, **small)
    with pytest.raises(ValueError, match="at least 1 channel of the image, got in_chans=0"):
        create_model(in_chans=0)
    for key, advice in (
        ("pretrained", "nasnet_det.create_model"),
        ("in_channels", "mean in_chans"),
    ):
        with pytest.raises(ValueError, match=f"create_model has no argument '{key}': .*{advice}"):
            create_model(**{key: 1})


def test_classifier_can_be_left_out_and_made_anew() -> None:
    small: dict[str, Any] = {"channels": 8, "num_cells_per_stage": 1}
    torch.manual_seed(0)
    model = create_model("nasnet_a_mobile", 0, in_chans=1, **small).eval().double()
    image = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    pooled = model.trunk(image)[model.final_feature].mean(dim=(2, 3))
    assert torch.equal(model(image), pooled)
    assert pooled.shape == (2, model.num_features)
    model.reset_classifier(5)
    assert model(image).shape == (2, 5)
    assert model.classifier.weight.dtype == torch.float64
    model.reset_classifier(0)
    assert torch.equal(model(image), pooled)
    with_aux = create_model("nasnet_a_mobile", 3, aux_head=True, input_size=96, **small)
    with_aux.reset_classifier(4)
    outputs = with_aux.train()(torch.rand(2, 3, 96, 96))
    assert [output.shape for output in outputs] == [(2, 4), (2, 4)]
    with pytest.raises(ValueError, match="since there is an auxiliary head, got num_classes=0"):
        with_aux.reset_classifier(0)


def test_plan_checks_the_genotype() -> None:
    spec, genotype = resolve_variant("nasnet_a_mobile")
    broken = dataclasses.replace(genotype, normal=dataclasses.replace(genotype.normal, concat=()))
    with pytest.raises(ValueError, match=r"normal\.concat: wanted at least one state"):
        plan_cells(spec, broken)


def test_genotype_takes_the_mobile_size_unless_overridden() -> None:
    genotype: Genotype = GENOTYPES["amoebanet_a"]
    with torch.device("meta"):
        model = create_model(genotype, 5, num_cells_per_stage=2)
    mobile, _ = VARIANTS["nasnet_a_mobile"]
    assert model.trunk.genotype is genotype
    assert model.trunk.spec == dataclasses.replace(mobile, num_cells_per_stage=2)
    assert resolve_variant("nasnet_a_large", genotype)[1] is genotype
