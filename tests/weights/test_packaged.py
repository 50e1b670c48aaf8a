"""The weights that come with the package: they are what their cards say, and whoever starts from them does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import nasnet_det
from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.initial_weights import load_initial_weights
from nasnet_det.classification.models import build_model
from nasnet_det.classification.session import evaluate
from nasnet_det.config import ConfigError
from nasnet_det.errors import InputError
from nasnet_det.runs.keys import find_changes
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.weights import WeightsError, fetch_published, read_weights
from nasnet_det.weights.backbone_file import BackboneCard, read_card
from nasnet_det.weights.packaged import FOLDER, find_packaged, list_packaged, read_packaged_card

NAMES = list_packaged()


def _read(name: str) -> tuple[dict[str, torch.Tensor], BackboneCard]:
    path = find_packaged(name)
    card = read_card(path)
    assert card is not None
    return read_weights(path)["model"], card


def test_there_are_weights() -> None:
    assert "nasnet_a_small" in NAMES
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_says_what_the_file_is(name: str) -> None:
    card, content = read_packaged_card(name), Path(find_packaged(name)).read_bytes()
    assert card["name"] == name
    assert card["bytes"] == len(content) <= 6_000_000
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    weights, inside = _read(name)
    assert card["num_tensors"] == len(weights)
    assert card["num_weights"] == sum(tensor.numel() for tensor in weights.values()) <= 3_000_000
    assert card["network"] == inside.config["MODEL.NASNET.VARIANT"]
    assert {k: v for k, v in inside.config.items() if k in card["config"]} == card["config"]
    assert card["num_classes"] == len(inside.classes)
    for key in ("top1", "top5"):
        assert inside.score[key] == pytest.approx(card[key])
        assert 1 / card["num_classes"] < card[key] < 1
    assert card["iterations"] == inside.score["iteration"]
    assert len(card["commit"]) == 40
    for key in ("data", "licence", "recipe", "commands", "versions"):
        assert card[key]


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_the_one_that_made_them(name: str) -> None:
    card, (_, inside) = read_packaged_card(name), _read(name)
    cfg = get_classification_config(card["recipe"])
    from nasnet_det.classification.run import get_identity

    assert find_changes(inside.config, get_identity(cfg), stage="classifier") == []


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_all_of_the_trunk_and_finite(name: str) -> None:
    weights, card = _read(name)
    trunk = NASNetTrunk(card.spec, card.genotype)
    expected = {f"trunk.{k}": v for k, v in trunk.state_dict().items()}
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        assert value.shape == expected[key].shape, key
        assert torch.isfinite(value.float()).all(), key
        assert value.dtype == (torch.float16 if value.ndim > 1 else expected[key].dtype), key


@pytest.mark.parametrize("name", NAMES)
def test_classifiers_start_from_them(name: str) -> None:
    weights, card = _read(name)
    model = nasnet_det.create_model(name, 3, pretrained=True)
    assert model.classifier.weight.shape[0] == 3
    settings = {k: v for k, v in card.get_detector_settings().items() if "NASNET" in k}
    opts = [str(word) for pair in settings.items() for word in pair]
    opts += ["MODEL.WEIGHTS", f"nasnet://{name}", "AUX.WEIGHT", "0"]
    opts += [
        "DATA.PIXEL_MEAN",
        str(list(card.pixel_mean)),
        "DATA.PIXEL_STD",
        str(list(card.pixel_std)),
    ]
    cfg = get_classification_config(opts=opts)
    other = build_model(cfg, 5)
    load_initial_weights(other, cfg, ["a"] * 5)
    for key, value in weights.items():
        for network in (model, other):
            assert torch.equal(network.state_dict()[key], value.to(network.state_dict()[key].dtype))


@pytest.mark.parametrize("name", NAMES)
def test_detector_starts_from_them(name: str, tmp_path: Path) -> None:
    pytest.importorskip("detectron2")
    from nasnet_det.detection import get_config
    from nasnet_det.detection.trainer import Trainer

    cfg = get_config("quick_schedules/faster_rcnn_nasnet_a_small_FPN.yaml", ["MODEL.DEVICE", "cpu"])
    assert f"nasnet://{name}" == cfg.MODEL.WEIGHTS
    model = Trainer.build_model(cfg)
    from nasnet_det.detection.checkpoint import Checkpointer

    Checkpointer(model, str(tmp_path)).load(cfg.MODEL.WEIGHTS)
    weights, _ = _read(name)
    loaded = model.backbone.bottom_up.state_dict()
    for key, value in weights.items():
        mine = loaded[key] if key in loaded else loaded[key.removeprefix("trunk.")]
        assert torch.equal(mine, value.to(mine.dtype)), key
    cfg.MODEL.PIXEL_MEAN = [0.0, 0.0, 0.0]
    with pytest.raises(ConfigError, match=r"MODEL.PIXEL_MEAN: wanted \[127.5"):
        Trainer.build_model(cfg)


def test_a_trunk_alone_is_no_classifier(tmp_path: Path) -> None:
    opts = ["MODEL.WEIGHTS", "nasnet://nasnet_a_small", "OUTPUT_DIR", str(tmp_path / "out")]
    for split in ("train", "val"):
        for color in ("red", "blue"):
            from tiny_pictures import write_class

            write_class(tmp_path / "data" / split / color, [(200, 9, 9)])
    cfg = get_classification_config(opts=[*opts, "DATA.PATH", str(tmp_path / "data")])
    with pytest.raises(ConfigError, match="is a trunk alone, which tells no classes apart"):
        evaluate(cfg)


def test_wrong_names_and_other_sizes_are_told() -> None:
    with pytest.raises(WeightsError, match="did you mean 'nasnet_a_small'"):
        fetch_published("nasnet://nasnet_a_smal")
    with pytest.raises(InputError, match="is of another network: channels was 64, is 32"):
        nasnet_det.create_model("nasnet_a_small", pretrained=True, channels=32)
