"""A training that starts from the weights of another."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_classification import CPU, make_config
from yacs.config import CfgNode

from nasnet_det.classification.checkpoint import FINAL, load_checkpoint
from nasnet_det.classification.data import load_data
from nasnet_det.classification.initial_weights import load_initial_weights
from nasnet_det.classification.loop import Trainer
from nasnet_det.classification.models import build_model
from nasnet_det.config import ConfigError
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.weights.backbone_file import make_card, save_backbone

CLASSES = ("0", "1", "2", "3")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The file and the weights of a training with an auxiliary head."""
    folder = tmp_path_factory.mktemp("first")
    cfg = make_config(folder, "SOLVER.EPOCHS", "1", "AUX.WEIGHT", "0.4")
    (folder / "out").mkdir()
    Trainer(cfg, load_data(cfg), device=CPU).train()
    path = folder / "out" / FINAL
    return path, load_checkpoint(path)["model"]


def _config(first: tuple[Path, object], *opts: str) -> CfgNode:
    return make_config(first[0].parents[1], "MODEL.WEIGHTS", str(first[0]), *opts)


def _is_taken(model: torch.nn.Module, weights: dict[str, torch.Tensor], prefix: str) -> bool:
    mine = {k: v for k, v in model.state_dict().items() if k.startswith(prefix)}
    return bool(mine) and all(torch.equal(v, weights[k]) for k, v in mine.items())


def test_all_is_taken_where_the_classes_are_the_same(
    first: tuple[Path, dict[str, torch.Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(first)
    model = build_model(cfg, 4)
    with caplog.at_level(logging.WARNING):
        load_initial_weights(model, cfg, CLASSES)
    assert _is_taken(model, first[1], "trunk.")
    assert _is_taken(model, first[1], "classifier.")
    assert not caplog.messages


@pytest.mark.parametrize("classes", [("a", "b", "c", "d"), (*CLASSES, "4")])
def test_last_layer_is_made_anew_for_other_classes(
    first: tuple[Path, dict[str, torch.Tensor]], caplog: pytest.LogCaptureFixture, classes: tuple[str, ...]
) -> None:  # fmt: skip
    cfg = _config(first)
    model = build_model(cfg, len(classes))
    before = model.classifier.weight.clone()
    with caplog.at_level(logging.WARNING):
        load_initial_weights(model, cfg, classes)
    assert _is_taken(model, first[1], "trunk.")
    assert torch.equal(model.classifier.weight, before)
    (message,) = caplog.messages
    assert message.startswith("Made anew, as classes or sizes are not those of ")
    assert message.endswith(": aux_head and classifier")


def test_training_starts_from_the_weights_and_so_does_its_average(
    first: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    opts = ("SOLVER.EPOCHS", "1", "SOLVER.LR", "0.0", "SOLVER.WEIGHT_DECAY", "0.0", "EMA.DECAY", "0.9")  # fmt: skip
    cfg = _config(first, *opts, "OUTPUT_DIR", str(first[0].parents[1] / "second"))
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    trainer.train()
    name = "trunk.stem.conv.weight"
    assert torch.equal(trainer.learner.model.state_dict()[name], first[1][name])
    assert trainer.learner.ema is not None
    average = trainer.learner.ema.module.state_dict()[name]
    torch.testing.assert_close(average, first[1][name])  # of equal values, up to their rounding


def test_exported_backbone_gives_the_trunk(
    first: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "backbone.safetensors"
    trunk = {k: v for k, v in first[1].items() if k.startswith("trunk.")}
    save_backbone(path, trunk, make_card(load_checkpoint(first[0]), "first"))
    cfg = _config(first, "MODEL.WEIGHTS", str(path))
    model = build_model(cfg, 4)
    load_initial_weights(model, cfg, CLASSES)
    assert _is_taken(model, first[1], "trunk.")


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["MODEL.NASNET.GENOTYPE", "pnasnet_5"], "of another network or input: the normal cell is"),
        (["MODEL.NASNET.POOL_PADDING", "timm"], "pool_padding was 'tf', is 'timm'"),
        (["DATA.PIXEL_MEAN", "[1.0,2.0,3.0]"], r"DATA.PIXEL_MEAN was .* is \[1.0, 2.0, 3.0\]"),
        (["MODEL.NASNET.NORM", "GN"], "0 of its weights are missing and"),
    ],
)
def test_other_network_or_input_is_refused(
    first: tuple[Path, dict[str, torch.Tensor]], opts: list[str], sentence: str
) -> None:
    cfg = _config(first, *opts)
    with pytest.raises(ConfigError, match=sentence):
        load_initial_weights(build_model(cfg, 4), cfg, CLASSES)


def test_file_that_is_not_there_is_named(first: tuple[Path, object]) -> None:
    cfg = _config(first, "MODEL.WEIGHTS", "absent.pth")
    with pytest.raises(CheckpointError, match="absent.pth"):
        load_initial_weights(build_model(cfg, 4), cfg, CLASSES)
