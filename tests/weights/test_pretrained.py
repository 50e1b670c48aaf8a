"""``create_model(..., pretrained=True)``: whose weights it takes, and for what it can't."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from weight_files import get_weights, make_random

import nasnet_det
from nasnet_det.errors import InputError
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.weights import ConvertedWeights
from nasnet_det.weights import pretrained as pretrained_module

SMALL = {"num_cells_per_stage": 1, "channels": 8}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were asked for; small random networks stand for the published ones."""
    names: list[str] = []

    def load(path: str) -> ConvertedWeights:
        names.append(path)
        variant, origin = path.removeprefix("nasnet://").split(".")
        model = make_random(variant, 1000, pool_padding="keras", **SMALL)
        about = {
            "variant": variant, "spec": SMALL, "pool_padding": "keras", "num_classes": 1000,
            "origin": origin,
        }  # fmt: skip
        return ConvertedWeights(get_weights(model), about)

    monkeypatch.setattr(pretrained_module, "load_published", load)
    return names


def test_weights_and_pools_are_the_publishers(asked: list[str]) -> None:
    torch.manual_seed(0)
    model = nasnet_det.create_model("nasnet_a_mobile", pretrained=True)
    torch.manual_seed(0)
    other = make_random("nasnet_a_mobile", 1000, pool_padding="keras", **SMALL)
    assert asked == ["nasnet://nasnet_a_mobile.keras"]
    assert model.trunk.spec.pool_padding == "keras"
    for name, value in get_weights(other).items():
        assert torch.equal(model.state_dict()[name], value), name
    assert model.training, "as a new network is"


@pytest.mark.parametrize(
    ("name", "pretrained", "wanted"),
    [
        ("nasnet_a_large", True, "nasnet_a_large.timm"),
        ("nasnet_a_mobile", "cadene", "nasnet_a_mobile.cadene"),
        ("pnasnet_5_large", True, "pnasnet_5_large.timm"),
    ],
)
def test_whose_weights(
    name: str, pretrained: Any, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(pretrained_module, "_create_published", lambda *a: asked.append(a[0]))
    nasnet_det.create_model(name, pretrained=pretrained)
    assert asked == [wanted]


def test_other_classes_get_a_new_last_layer(asked: list[str]) -> None:
    model = nasnet_det.create_model("nasnet_a_mobile", 5, pretrained=True, drop_path_prob=0.2)
    assert model.classifier.weight.shape[0] == 5
    assert model.trunk.spec.drop_path_prob == 0.2
    features = nasnet_det.create_model("nasnet_a_mobile", 0, pretrained=True)
    assert features.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, features.num_features)


def test_new_layers_are_named(asked: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = nasnet_det.create_model("nasnet_a_mobile", pretrained=True, aux_head=True)
    assert model.aux_head is not None
    assert "Made anew, as the weights are of other layers: aux_head" in caplog.text


def test_without_it_weights_are_random(asked: list[str]) -> None:
    model = nasnet_det.create_model("nasnet_a_mobile", 4, **SMALL)
    assert model.classifier.weight.shape[0] == 4
    assert not asked


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name_or_genotype": "nasnet_a_4@1056"}, "no weights were published of 'nasnet_a_4@1056'"),
        ({"pretrained": "google"}, "pretrained: wanted keras, cadene, tf_slim for nasnet_a_mobile"),
        (
            {"name_or_genotype": GENOTYPES["nasnet_a"]},
            "wanted the name of a network, got a genotype",
        ),
        ({"in_chans": 1}, "pretrained: wanted in_chans=3, got 1"),
        ({"norm_eps": 0.5}, "is of another network: norm_eps was 0.001, is 0.5"),
    ],
)
def test_what_can_not_be_is_one_sentence(
    arguments: dict[str, Any], told: str, asked: list[str]
) -> None:
    with pytest.raises(InputError, match=told):
        nasnet_det.create_model(**{"pretrained": True, **arguments})
