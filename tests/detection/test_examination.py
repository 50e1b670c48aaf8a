"""What doctor says about a config and about weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.cli.main import main
from nasnet_det.detection import get_config, step_cost
from nasnet_det.detection.examination import (
    examine_config,
    examine_weights,
    find_differences,
    find_input_size,
    find_scale,
)
from nasnet_det.detection.step_cost import advise_less_memory, estimate_step
from nasnet_det.detection.trainer import Trainer
from nasnet_det.doctor.scales import fit_anchors


def test_differences_are_those_of_the_base(tmp_path: Path) -> None:
    base = write_tiny_config(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text("_BASE_: tiny.yaml\nSOLVER: {MAX_ITER: 7, BASE_LR: 0.01}\n")
    cfg = get_config(str(path), ["SEED", "5"])
    assert find_differences(cfg, str(path)) == {"SOLVER.MAX_ITER": 7, "SEED": 5}
    assert "MODEL.NASNET.CHANNELS" in find_differences(get_config(base), base)


def test_anchors_are_those_of_the_config(tmp_path: Path) -> None:
    cfg = get_config(write_tiny_config(tmp_path))
    scale = find_scale(cfg, "a/tiny.yaml")
    areas = np.sqrt(scale.anchors.prod(axis=1))
    np.testing.assert_allclose(areas, np.repeat([8, 16, 32, 64, 128], 3), rtol=1e-5)
    np.testing.assert_allclose(scale.find_factors(np.array([[96, 64], [400, 100]])), [1, 0.24])
    assert (scale.config, scale.min_iou) == ("tiny.yaml", 0.3)
    sides = np.array([[8.0, 8.0], [4.0, 16.0]])
    np.testing.assert_allclose(fit_anchors(sides, np.array([[8.0, 8.0]])), [1, 32 / 96])


@pytest.mark.parametrize(
    ("backbone", "pairs", "advice"),
    [
        (
            "build_nasnet_fpn_backbone", ["SOLVER.IMS_PER_BATCH", "4"],
            "lower INPUT.MIN_SIZE_TRAIN or raise SOLVER.NUM_PARTS or set SOLVER.AMP.ENABLED True "
            "or set MODEL.NASNET.ACTIVATION_CHECKPOINTING True",
        ),
        (
            "build_resnet_fpn_backbone", ["SOLVER.IMS_PER_BATCH", "4", "SOLVER.NUM_PARTS", "4"],
            "lower INPUT.MIN_SIZE_TRAIN or set SOLVER.AMP.ENABLED True",
        ),
        (
            "build_nasnet_fpn_backbone",
            ["SOLVER.AMP.ENABLED", "True", "MODEL.NASNET.ACTIVATION_CHECKPOINTING", "True",
             "SOLVER.IMS_PER_BATCH", "1"],
            "lower INPUT.MIN_SIZE_TRAIN",
        ),
    ],
)  # fmt: skip
def test_advice_names_keys_that_act(
    tmp_path: Path, backbone: str, pairs: list[str], advice: str
) -> None:
    cfg = get_config(write_tiny_config(tmp_path), ["MODEL.BACKBONE.NAME", backbone, *pairs])
    assert advise_less_memory(cfg, with_parts=True) == advice


def test_memory_grows_with_the_picture_as_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = get_config(write_tiny_config(tmp_path))
    model = Trainer.build_model(cfg)
    monkeypatch.setattr(step_cost, "MAX_PIXELS", 128 * 128)
    guessed = estimate_step(model, cfg, (512, 384))
    monkeypatch.setattr(step_cost, "MAX_PIXELS", 512 * 512)
    counted = estimate_step(model, cfg, (512, 384))
    assert guessed is not None
    assert counted is not None
    assert guessed.memory_mb == pytest.approx(counted.memory_mb, rel=0.25)


def test_config_and_weights_in_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_tiny_dataset(tmp_path / "data")
    config = write_tiny_config(tmp_path)
    cfg = get_config(config, ["MODEL.ROI_HEADS.NUM_CLASSES", "2"])
    state = Trainer.build_model(cfg).state_dict()
    state.pop("roi_heads.box_predictor.cls_score.weight")
    weights = tmp_path / "weights.pth"
    torch.save({"model": state, "iteration": 3}, weights)
    out = tmp_path / "found.json"
    words = ["--config-file", config, "--weights", str(weights), "--json", str(out), *pairs]
    assert main(["doctor", *words]) == 1  # the same pictures are trained and evaluated
    text = capsys.readouterr().out
    assert "  classes: 2\n" in text
    content = {e["title"].split()[0]: e for e in json.loads(out.read_text())["examinations"]}
    assert list(content) == ["environment", "config", "weights", "training", "test"]
    errors = {f["kind"] for e in content.values() for f in e["findings"] if f["level"] == "error"}
    assert errors == {"leak"}
    of_weights = content["weights"]
    number = len(Trainer.build_model(cfg).state_dict())
    assert f"{number - 1} of {number} of the model matched" in of_weights["facts"]["fit"]
    assert {f["kind"] for f in of_weights["findings"]} == {"weights"}
    parameters = content["config"]["facts"]["parameters"]
    assert parameters["all"] == sum(p.numel() for p in Trainer.build_model(cfg).parameters())


def test_faults_of_a_config_and_of_weights_are_findings(tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path)
    cfg = get_config(config, ["SOLVER.OPTIMIZER", "SDG"])
    (finding,) = examine_config(cfg, config).findings
    assert "SOLVER.OPTIMIZER" in finding.text
    (finding,) = examine_weights(get_config(config), "no.pth").findings
    assert "no.pth" in finding.text
    assert find_input_size(cfg) == (85, 64)
