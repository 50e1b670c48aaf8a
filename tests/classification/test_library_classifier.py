"""Networks of timm and torchvision through the classifiers' loop, and on to a detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detectron2.modeling import build_model
from safetensors.torch import load_file
from tiny_classification import CPU, make_config, quick
from tiny_detection import write_tiny_config

from nasnet_det.classification.checkpoint import load_checkpoint
from nasnet_det.classification.data import load_data
from nasnet_det.classification.loop import Trainer
from nasnet_det.classification.models import build_model as build_classifier
from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import get_config
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.checkpoint import Checkpointer

timm = pytest.importorskip("timm")

NETWORK = ["MODEL.NETWORK", "timm:test_resnet", "AUX.WEIGHT", "0"]


def test_commands_train_resume_evaluate_and_export_it_for_a_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: object) -> str:
        assert main(list(map(str, words))) == 0
        return capsys.readouterr().out

    path = tmp_path / "run" / "model_final.pth"
    call("train-classifier", *quick(tmp_path, "run", *NETWORK, "SOLVER.EPOCHS", "1"))
    num_steps = load_checkpoint(path)["iteration"]
    call("train-classifier", "--resume", *quick(tmp_path, "run", *NETWORK, "SOLVER.EPOCHS", "2"))
    assert load_checkpoint(path)["iteration"] == 2 * num_steps
    weights = ["MODEL.WEIGHTS", str(path)]
    call("train-classifier", "--eval-only", *quick(tmp_path, "evaluated", *NETWORK, *weights))
    score = json.loads((tmp_path / "evaluated" / "results.json").read_text())["top1"]
    assert score == pytest.approx(load_checkpoint(path)["score"]["top1"])

    trunk = tmp_path / "backbone.safetensors"
    out = call("export-backbone", path, trunk)
    assert "MODEL.TIMM.NAME test_resnet" in out
    theirs = timm.create_model("test_resnet", num_classes=0)
    theirs.load_state_dict(load_file(trunk))  # timm's own names, all of them
    words = out.split("needs:")[1].split("\n")
    lines = [line.strip() for line in words if line.strip()]
    pairs = [word.strip("'") for line in lines for word in line.split(" ", 1)]
    cfg = get_config(write_tiny_config(tmp_path), pairs)
    model: Any = build_model(cfg)
    Checkpointer(model, str(tmp_path / "detector")).load(cfg.MODEL.WEIGHTS)
    found = model.backbone.bottom_up.trunk.state_dict()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in found.items())
    with pytest.raises(ConfigError, match="wanted timm's test_resnet, got timm's resnet18"):
        check_backbone(
            get_config(write_tiny_config(tmp_path), [*pairs, "MODEL.TIMM.NAME", "resnet18"])
        )


def test_torchvision_s_network_gets_the_classes_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = torchvision.models.shufflenet_v2_x0_5().state_dict()
    weights = torchvision.models.ShuffleNet_V2_X0_5_Weights
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: published)
    cfg = make_config(
        tmp_path, "MODEL.NETWORK", "torchvision:shufflenet_v2_x0_5", "MODEL.PRETRAINED", "True",
        "AUX.WEIGHT", "0", "DATA.PIXEL_MEAN", "[123.675, 116.28, 103.53]",
        "DATA.PIXEL_STD", "[58.395, 57.12, 57.375]",
    )  # fmt: skip
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    model = trainer.learner.model
    assert torch.equal(model.state_dict()["trunk.conv1.0.weight"], published["conv1.0.weight"])
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    plain = build_classifier(cfg, 4)
    assert not torch.equal(plain.state_dict()["trunk.conv1.0.weight"], published["conv1.0.weight"])


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        (["MODEL.NETWORK", "timm:resnet5"], "MODEL.NETWORK: timm has no 'resnet5', did you mean 'resnet50'?"),
        (["MODEL.NETWORK", "resnet18"], "MODEL.NETWORK: wanted timm:NAME or torchvision:NAME, got 'resnet18'"),
        (["AUX.WEIGHT", "0.4"], "AUX.WEIGHT: wanted 0, since timm:test_resnet has no auxiliary head"),
        (["MODEL.PRETRAINED", "True", "MODEL.NETWORK", "timm:resnet18"], r"DATA.PIXEL_MEAN: wanted \[123.675"),
        (["MODEL.PRETRAINED", "True", "MODEL.NETWORK", ""], "MODEL.PRETRAINED: wanted False without MODEL.NETWORK"),
    ],
)  # fmt: skip
def test_wrong_network_is_one_sentence(opts: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config(tmp_path, *NETWORK, *opts)
