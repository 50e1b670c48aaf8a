"""Published weights under a detector, from one line of its config, as with Detectron2's R-50."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import run_command
from weight_files import get_weights, make_random

from nasnet_det.cli.main import main

pytest.importorskip("detectron2")

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.utils.file_io import PathManager
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.detection import ConfigError, adopt_pools, get_config
from nasnet_det.detection.backbone_card import CHECKPOINT_KEY, describe_backbone
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.network import NASNet
from nasnet_det.weights import CheckpointError, write_weights
from nasnet_det.weights.classifier import export_weights

FULL_SIZE = ["MODEL.NASNET.CHANNELS", "0", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "0"]


@pytest.fixture(scope="module")
def network() -> NASNet:
    torch.manual_seed(0)
    return make_random("nasnet_a_mobile", 1000)


@pytest.fixture(scope="module")
def weights(network: NASNet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file in Cadene's form, as MODEL.WEIGHTS names it."""
    path = tmp_path_factory.mktemp("published") / "nasnetamobile.pth"
    torch.save(export_weights(get_weights(network), "torch", "nasnet_a_mobile"), path)
    return f"nasnet://{path}"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"  # of all tests, which so convert once
    monkeypatch.setenv("NASNET_DET_CACHE", str(folder))
    return folder


def _config(folder: Path, *opts: str) -> Any:
    return get_config(write_tiny_config(folder), [*FULL_SIZE, *opts])


def test_detectron2_finds_the_file(weights: str) -> None:
    with PathManager.open(weights, "rb") as file:
        assert torch.load(file)["nasnet_det"]["origin"] == "cadene"
    assert PathManager.get_local_path(weights).endswith(".pth")


@pytest.mark.parametrize("checkpointer", [DetectionCheckpointer, Checkpointer])
def test_backbone_has_the_published_features(
    checkpointer: Any, weights: str, network: NASNet, tmp_path: Path
) -> None:
    """With Detectron2's own checkpointer as with ours."""
    cfg = _config(tmp_path, "MODEL.WEIGHTS", weights, "MODEL.NASNET.ALIGN_FEATURES", "False")
    adopt_pools(cfg)
    model = build_model(cfg).eval()
    checkpointer(model).load(cfg.MODEL.WEIGHTS)
    image = torch.randn(1, 3, 96, 75, dtype=torch.float64)
    with torch.no_grad():
        wanted = network.double().trunk(image)
        found = model.backbone.bottom_up.double()(image)
    network.float()
    for name, feature in wanted.items():
        torch.testing.assert_close(found[name], feature, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("freeze_at", range(6))
def test_freezing_and_levels_are_those_of_r50(freeze_at: int, weights: str, tmp_path: Path) -> None:
    """What trains, what is a FrozenBatchNorm2d, and the strides, feature by feature."""
    opts = ["MODEL.BACKBONE.FREEZE_AT", str(freeze_at)]
    ours = build_backbone(get_config(write_tiny_config(tmp_path), opts)).bottom_up.train()
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    theirs = build_backbone(cfg).train()
    image = torch.randn(2, 3, 64, 64)
    features, wanted = ours(image), theirs(image)
    for level in "2345":
        feature, res = features[f"c{level}"], wanted[f"res{level}"]
        assert feature.requires_grad == res.requires_grad, level
        assert feature.shape[2:] == res.shape[2:]
        assert (
            ours.output_shape()[f"c{level}"].stride == theirs.output_shape()[f"res{level}"].stride
        )
    is_frozen = [
        type(stem).__name__ == "FrozenBatchNorm2d"
        for stem in (ours.trunk.stem.norm, theirs.stem.conv1.norm)
    ]
    assert is_frozen == [freeze_at >= 1] * 2


def test_training_from_one_line_leaves_the_frozen_part_as_published(
    repository: Path, weights: str, network: NASNet, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    data = write_tiny_dataset(tmp_path / "data")
    opts = [*FULL_SIZE, *data, "OUTPUT_DIR", str(out), "SOLVER.MAX_ITER", "2"]
    opts += ["SOLVER.BASE_LR", "1e-6"]  # the gradients of random weights are large
    frozen = ["MODEL.BACKBONE.FREEZE_AT", "4", "MODEL.NASNET.NORM", "FrozenBN"]
    arguments = ["--config-file", write_tiny_config(tmp_path), *opts, *frozen]
    done = run_command("train", *arguments, "MODEL.WEIGHTS", weights)
    assert done.returncode == 0, done.stderr
    published = {f"backbone.bottom_up.{k}": v for k, v in get_weights(network).items()}
    trained = torch.load(out / "model_final.pth", weights_only=True)["model"]
    backbone = {k: v for k, v in trained.items() if k.startswith("backbone.bottom_up.")}
    assert "1124 of 1124 tensors of the backbone" in done.stdout + done.stderr
    assert backbone.keys() <= published.keys()
    changed = {name for name, value in backbone.items() if not torch.equal(value, published[name])}
    last_stage = [
        f"cells.{name}" for name in ("reduction_cell_1", *(f"cell_{i}" for i in range(8, 12)))
    ]
    assert changed
    for name in backbone:
        is_trained = any(f".{cell}." in name for cell in last_stage)
        is_norm = any(part.startswith("norm") for part in name.split("."))
        assert (name in changed) == (is_trained and not is_norm), name


# ---- MODEL.NASNET.POOL_PADDING


def _describe(path: Path, **about: Any) -> str:
    write_weights(str(path), {"trunk.stem.conv.weight": torch.zeros(1)}, about)
    return str(path)


def _pools(cfg: Any, **options: bool) -> str:
    adopt_pools(cfg, **options)
    return cfg.MODEL.NASNET.POOL_PADDING


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
def test_pools_are_those_of_the_weights_unless_the_config_says(
    extension: str, tmp_path: Path
) -> None:
    path = _describe(tmp_path / f"w.{extension}", pool_padding="timm")
    opts = ["MODEL.WEIGHTS", path]
    assert _pools(_config(tmp_path, *opts)) == "timm"
    assert _pools(_config(tmp_path, *opts, "MODEL.NASNET.POOL_PADDING", "keras")) == "keras"


@pytest.mark.parametrize("weights", ["", "absent.pth", "https://example.org/w.pth", "w.pth"])
def test_weights_that_do_not_tell_have_tensorflows_pools(weights: str, tmp_path: Path) -> None:
    torch.save({"trunk.stem.conv.weight": torch.zeros(1)}, tmp_path / "w.pth")
    weights = str(tmp_path / weights) if weights == "w.pth" else weights
    cfg = _config(tmp_path, "MODEL.WEIGHTS", weights)
    assert _pools(cfg) == "tf"


def test_pools_of_another_backbone_are_left_alone(tmp_path: Path) -> None:
    path = _describe(tmp_path / "w.pth", pool_padding="timm")
    opts = ["MODEL.WEIGHTS", path, "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"]
    assert _pools(_config(tmp_path, *opts)) == ""


def test_trained_detector_keeps_its_pools(tmp_path: Path) -> None:
    """From its checkpoint, and from its OUTPUT_DIR when it goes on."""
    trained = _config(tmp_path, "MODEL.NASNET.POOL_PADDING", "keras")
    content = {"model": {"w": torch.zeros(1)}, CHECKPOINT_KEY: describe_backbone(trained)}
    torch.save(content, tmp_path / "model_best.pth")
    opts = ["OUTPUT_DIR", str(tmp_path)]
    assert (
        _pools(_config(tmp_path, *opts, "MODEL.WEIGHTS", str(tmp_path / "model_best.pth")))
        == "keras"
    )
    (tmp_path / "config.yaml").write_text(trained.dump())
    gone = ["MODEL.WEIGHTS", "nasnet://nasnet_a_large.cadene"]
    assert _pools(_config(tmp_path, *opts, *gone), resume=True) == "keras"
    assert _pools(_config(tmp_path, *opts)) == "tf"


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        (["INPUT.FORMAT", "BGR"], "INPUT.FORMAT: wanted RGB, got BGR"),
        (["MODEL.PIXEL_STD", "[1,1,1]"], r"MODEL.PIXEL_STD: wanted \[127.5, 127.5, 127.5\], got"),
        (
            ["MODEL.NASNET.POOL_PADDING", ""],
            r"wanted timm, which nasnet_det.detection.adopt_pools\(",
        ),
    ],
)
def test_no_builder_takes_weights_that_were_trained_otherwise(
    opts: list[str], told: str, tmp_path: Path
) -> None:
    """Detectron2's own trainer calls the builder too."""
    about = {"channels": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}
    path = _describe(tmp_path / "w.pth", preprocessing=about, pool_padding="timm")
    base = ["MODEL.WEIGHTS", path, "MODEL.NASNET.POOL_PADDING", "tf"]
    build_backbone(get_config(write_tiny_config(tmp_path), base))
    with pytest.raises(ConfigError, match=f"w.pth was trained otherwise than this config.*{told}"):
        build_backbone(get_config(write_tiny_config(tmp_path), [*base, *opts]))


def test_missing_published_file_is_told_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opts = ["MODEL.WEIGHTS", "nasnet://nasnet_a_mobile.keras", "OUTPUT_DIR", str(tmp_path / "out")]
    assert main(["train", "--config-file", write_tiny_config(tmp_path), *opts]) == 1
    err = capsys.readouterr().err
    assert err.startswith(
        "nasnet-det train: nasnet://nasnet_a_mobile.keras: NASNet-mobile.h5 is in"
    )
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_checkpointer_says_what_is_missing_without_wrapping_it(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="^nasnet://nasnet_a_large.cadene: nasnetalarge-a1897284"
    ):
        Checkpointer(torch.nn.Linear(1, 1)).load("nasnet://nasnet_a_large.cadene")
