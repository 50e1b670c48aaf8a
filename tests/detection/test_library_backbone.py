"""Networks of timm and torchvision as backbones: features, freezing, weights, mistakes, commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

import torchvision
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling import FPN, build_backbone, build_model
from safetensors.torch import save_file
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import TimmBackbone, TorchvisionBackbone, get_config
from nasnet_det.detection.backbone_card import CHECKPOINT_KEY, check_backbone, describe_backbone
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.cost import measure_run
from nasnet_det.detection.lazy_config import build_fpn
from nasnet_det.detection.optimizer import build_optimizer
from nasnet_det.errors import InputError, MissingPackageError
from nasnet_det.runs.checkpoint import load_tensors
from nasnet_det.runs.detector_files import write_cost
from nasnet_det.runtime.fuse import fuse
from nasnet_det.weights import WeightsError

timm = pytest.importorskip("timm")

PICTURE = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "test_resnet"]
TORCHVISION = [
    *("MODEL.BACKBONE.NAME", "build_torchvision_fpn_backbone"),
    *("MODEL.TORCHVISION.NAME", "shufflenet_v2_x0_5"),
]


def _config(folder: Path, *opts: str) -> Any:
    return get_config(write_tiny_config(folder), opts)


def _randomize(module: nn.Module) -> None:
    for m in module.modules():
        if getattr(m, "running_var", None) is not None:
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.normal_(m.running_mean)


def _list_trained(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_convnext", "test_efficientnet", "test_nfnet"]
)
def test_timm_s_features_are_those_of_timm(name: str) -> None:
    theirs = timm.create_model(name, features_only=True, feature_cls="getter").eval()
    backbone = TimmBackbone(name, out_features=["c3", "c5", "c4"]).eval()
    state = {k.replace("model.", "trunk."): v for k, v in theirs.state_dict().items()}
    assert not backbone.load_state_dict(state, strict=False).missing_keys
    found, wanted = backbone(PICTURE), theirs(PICTURE)[-3:]
    shapes = backbone.output_shape()
    assert list(found) == list(shapes) == ["c3", "c4", "c5"]
    for (key, feature), other, stride in zip(found.items(), wanted, (8, 16, 32), strict=True):
        torch.testing.assert_close(feature, other)
        assert (shapes[key].channels, shapes[key].stride) == (other.shape[1], stride)


def test_transformers_of_fixed_size_are_freed_from_it() -> None:
    backbone = TimmBackbone("test_vit", out_features=["c4"])
    assert list(backbone(PICTURE)["c4"].shape) == [2, 64, 6, 10]


def test_torchvision_s_features_are_its_stages() -> None:
    model = torchvision.models.resnet18().eval()
    backbone = TorchvisionBackbone("resnet18").eval()
    assert not backbone.trunk.load_state_dict(model.state_dict(), strict=False).missing_keys
    map_ = model.maxpool(model.relu(model.bn1(model.conv1(PICTURE))))
    for (name, feature), channels in zip(
        backbone(PICTURE).items(), (64, 128, 256, 512), strict=True
    ):
        map_ = model.get_submodule(f"layer{int(name[1]) - 1}")(map_)
        torch.testing.assert_close(feature, map_)
        assert backbone.output_shape()[name].channels == channels


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("convnext_tiny", {"c2": 96, "c3": 192, "c4": 384, "c5": 768}),
        ("mobilenet_v3_small", {"c1": 16, "c2": 16, "c3": 24, "c4": 48, "c5": 576}),
        ("regnet_y_400mf", {"c2": 48, "c3": 104, "c4": 208, "c5": 440}),
    ],
)
def test_torchvision_s_families_have_their_known_widths(name: str, wanted: dict[str, int]) -> None:
    shapes = TorchvisionBackbone(name, out_features=list(wanted)).output_shape()
    assert {key: shape.channels for key, shape in shapes.items()} == wanted


@pytest.mark.parametrize(
    ("freeze_at", "first"), [(0, ""), (1, "layer1"), (2, "layer2"), (4, "layer4"), (5, "none")]
)
@pytest.mark.parametrize(
    "build",
    [lambda **a: TimmBackbone("resnet18", **a), lambda **a: TorchvisionBackbone("resnet18", **a)],
)
def test_freezing_stops_at_the_named_feature(build: Any, freeze_at: int, first: str) -> None:
    """ResNet-18 has the same names in both libraries."""
    backbone = build(freeze_at=freeze_at)
    every = {name for name, _ in build().named_parameters()}
    assert _list_trained(backbone) == {n for n in every if n.split(".")[1] >= first}
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running_mean" in k}
    backbone.train()(PICTURE)
    changed = {
        k for k, v in backbone.state_dict().items() if k in before and not torch.equal(v, before[k])
    }
    assert changed == {k for k in before if k.split(".")[1] >= first}, "their statistics stay"


def test_freezing_goes_by_levels_that_do_not_leave_the_backbone() -> None:
    """As RetinaNet's, which begins with c3."""
    for kind in (TimmBackbone, TorchvisionBackbone):
        backbone = kind("resnet18", out_features=["c3", "c4"], freeze_at=2)
        assert {name.split(".")[1] for name in _list_trained(backbone)} == {"layer2", "layer3"}


def test_norms_of_the_network_are_replaced() -> None:
    frozen = TimmBackbone("test_efficientnet", norm="FrozenBN")
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    found = frozen.train()(PICTURE)
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())
    frozen.eval()
    torch.testing.assert_close(found, frozen(PICTURE))
    synchronized = TorchvisionBackbone("shufflenet_v2_x0_5", norm="SyncBN")
    assert {
        type(m) for m in synchronized.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    } == {nn.SyncBatchNorm}


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: TimmBackbone("test_resnet", freeze_at=2),
        lambda: TimmBackbone("test_efficientnet", freeze_at=2),  # its norms have activations inside
        lambda: TimmBackbone("test_nfnet"),  # whose convolutions standardize their weights
        lambda: TorchvisionBackbone("mobilenet_v3_small"),
    ],
)
def test_fused_backbone_computes_the_same(backbone: Any) -> None:
    module = backbone().eval()
    _randomize(module)
    fused: Any = fuse(module)
    kinds = (nn.BatchNorm2d,)
    assert not [m for m in fused.modules() if isinstance(m, kinds)]
    wanted, found = module(PICTURE), fused(PICTURE)
    for name, feature in wanted.items():
        torch.testing.assert_close(
            found[name], feature, rtol=1e-3, atol=1e-4 * float(feature.abs().max())
        )


# ---- Configs


def test_config_keys_reach_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = timm.create_model

    def create(name: str, *, pretrained: bool = False, **given: Any) -> nn.Module:
        model = real(name, **given)
        if pretrained:
            nn.init.ones_(model.get_parameter("conv1.0.weight"))
        return model

    monkeypatch.setattr(timm, "create_model", create)
    plain: Any = build_backbone(_config(tmp_path, *TIMM)).bottom_up
    assert len(plain.output_shape()) == 4
    given = ["MODEL.TIMM.PRETRAINED", "True", "MODEL.TIMM.NORM", "FrozenBN"]
    given += ["MODEL.PIXEL_MEAN", "[127.5, 127.5, 127.5]"]
    levels = "['c3', 'c4', 'c5']"
    given += ["MODEL.TIMM.OUT_FEATURES", levels, "MODEL.FPN.IN_FEATURES", levels]
    backbone: Any = build_backbone(_config(tmp_path, *TIMM, *given)).bottom_up
    weight = backbone.trunk.conv1[0].weight
    assert torch.equal(weight, torch.ones_like(weight))
    assert list(backbone.output_shape()) == ["c3", "c4", "c5"]
    assert not _find(backbone, nn.BatchNorm2d)
    assert _find(plain, nn.BatchNorm2d)
    backbone = build_backbone(
        _config(tmp_path, *TIMM, *given, "MODEL.WEIGHTS", "other.pth")
    ).bottom_up
    assert not torch.equal(backbone.trunk.conv1[0].weight, weight), "other weights come over them"
    dropped = ["MODEL.TIMM.NAME", "test_convnext", "MODEL.TIMM.DROP_PATH_RATE", "0.4"]
    backbone = build_backbone(_config(tmp_path, *TIMM, *dropped)).bottom_up
    assert max(m.drop_prob for m in _find(backbone, timm.layers.DropPath)) == pytest.approx(0.4)


def test_keys_of_torchvision_reach_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = torchvision.models.shufflenet_v2_x0_5().state_dict()
    weights = torchvision.models.ShuffleNet_V2_X0_5_Weights
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: published)
    levels = "['c3', 'c4', 'c5']"
    cfg = _config(
        tmp_path, *TORCHVISION, "MODEL.TORCHVISION.WEIGHTS", "IMAGENET1K_V1",
        "MODEL.TORCHVISION.NORM", "FrozenBN", "MODEL.PIXEL_MEAN", "[123.675, 116.28, 103.53]",
        "MODEL.PIXEL_STD", "[58.395, 57.12, 57.375]", "MODEL.FPN.IN_FEATURES", levels,
        "MODEL.TORCHVISION.OUT_FEATURES", levels,
    )  # fmt: skip
    backbone: Any = build_backbone(cfg).bottom_up
    assert torch.equal(backbone.trunk.conv1.get_parameter("0.weight"), published["conv1.0.weight"])
    assert list(backbone.output_shape()) == ["c3", "c4", "c5"]
    assert not _find(backbone, nn.BatchNorm2d)


def _find(module: nn.Module, kind: type) -> list[Any]:
    return [m for m in module.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_retinanet_and_plain_builders(library: str, tmp_path: Path) -> None:
    opts = TIMM if library == "timm" else TORCHVISION
    node = f"MODEL.{library.upper()}"
    levels = "['c3', 'c4', 'c5']"
    cfg = _config(
        tmp_path, *opts, "MODEL.BACKBONE.NAME", f"build_retinanet_{library}_fpn_backbone",
        "MODEL.FPN.IN_FEATURES", levels,
    )  # fmt: skip
    assert list(build_backbone(cfg)(PICTURE)) == ["p3", "p4", "p5", "p6", "p7"]
    cfg = _config(
        tmp_path, *opts, "MODEL.BACKBONE.NAME", f"build_{library}_backbone",
        f"{node}.OUT_FEATURES", "['c4']",
    )  # fmt: skip
    assert [shape.stride for shape in build_backbone(cfg).output_shape().values()] == [16]


def test_lazy_config_takes_them() -> None:
    lazy = L(build_fpn)(bottom_up=L(TimmBackbone)(name="test_resnet"), out_channels=8)
    backbone = instantiate(lazy)
    assert isinstance(backbone, FPN)
    assert list(backbone(PICTURE)) == ["p2", "p3", "p4", "p5", "p6"]


def test_backbone_learns_at_its_own_rate(tmp_path: Path) -> None:
    cfg = _config(tmp_path, *TIMM, "SOLVER.BACKBONE_LR_FACTOR", "0.1")
    model: Any = build_model(cfg)
    groups = build_optimizer(cfg, model).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    found = {rates[id(p)] for p in model.backbone.bottom_up.parameters()}
    assert list(found) == [pytest.approx(0.001)]
    assert rates[id(model.backbone.fpn_lateral2.weight)] == pytest.approx(0.01)


@pytest.mark.parametrize("extension", ["pth", "safetensors"])
def test_weights_of_timm_fill_the_backbone(
    extension: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A classifier's, whose head has no place."""
    caplog.set_level("INFO", logger="nasnet_det")
    path = tmp_path / f"weights.{extension}"
    state = timm.create_model("test_convnext").state_dict()
    if extension == "pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    cfg = _config(tmp_path, *TIMM, "MODEL.TIMM.NAME", "test_convnext")
    model: Any = build_model(cfg)
    Checkpointer(model, str(tmp_path)).load(str(path))
    trunk = model.backbone.bottom_up.trunk.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trunk.items())
    assert f"{len(trunk)} of {len(trunk)} tensors of the backbone" in caplog.text
    other = build_model(_config(tmp_path, *TIMM))
    with pytest.raises(WeightsError, match=r"0 of \d+ tensors of the backbone"):
        Checkpointer(other, str(tmp_path)).load(str(path))


def test_checkpoint_of_another_backbone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    cfg = _config(tmp_path, *TIMM)
    torch.save({"model": {"w": torch.zeros(1)}, CHECKPOINT_KEY: describe_backbone(cfg)}, path)
    check_backbone(_config(tmp_path, *TIMM, "MODEL.WEIGHTS", str(path)))
    for opts, told in (
        (["MODEL.TIMM.NAME", "resnet18"], "wanted timm's test_resnet, got timm's resnet18"),
        (["MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"], r"MODEL.PIXEL_STD: wanted \[127.5"),
    ):
        with pytest.raises(ConfigError, match=told):
            check_backbone(_config(tmp_path, *TIMM, "MODEL.WEIGHTS", str(path), *opts))
    with pytest.raises(ConfigError, match=r"wanted timm's test_resnet, got a NASNet"):
        check_backbone(_config(tmp_path, "MODEL.WEIGHTS", str(path)))


# ---- Mistakes


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        ([*TIMM, "MODEL.TIMM.NAME", "resnet5"], "MODEL.TIMM.NAME: timm has no 'resnet5', did you mean 'resnet50'?"),
        ([*TIMM, "MODEL.TIMM.NAME", "resnet50.a1_in2k"], "timm has no 'resnet50.a1_in2k', did you mean 'resnet50.a1_in1k'?"),
        ([*TIMM, "MODEL.TIMM.NAME", "''"], "MODEL.TIMM.NAME: wanted a network of timm, such as resnet50, got ''"),
        ([*TIMM, "MODEL.TIMM.PRETRAINED", "True", "MODEL.TIMM.NAME", "resnet50"], r"timm's weights of resnet50 were trained otherwise than this config says: MODEL.PIXEL_MEAN: wanted \[123.675, 116.28, 103.53\], got"),
        ([*TORCHVISION, "MODEL.TORCHVISION.NAME", "resnet19"], "MODEL.TORCHVISION.NAME: torchvision has no 'resnet19', did you mean 'resnet18'?"),
        ([*TORCHVISION, "MODEL.TORCHVISION.WEIGHTS", "IMAGENET1K_V3"], "MODEL.TORCHVISION.WEIGHTS: torchvision's shufflenet_v2_x0_5 has no 'IMAGENET1K_V3', did you mean 'IMAGENET1K_V1'?"),
        ([*TORCHVISION, "MODEL.TORCHVISION.WEIGHTS", "DEFAULT"], "torchvision's weights of shufflenet_v2_x0_5 were trained otherwise"),
        (["MODEL.TIMM.NAME", "resnet50"], "MODEL.TIMM.NAME: wanted '', since MODEL.BACKBONE.NAME is build_nasnet_fpn_backbone, got 'resnet50'"),
        ([*TIMM, "MODEL.TORCHVISION.NORM", "SyncBN"], "MODEL.TORCHVISION.NORM: wanted '', since"),
        ([*TIMM, "MODEL.TIMM.NORM", "GN"], "MODEL.TIMM.NORM: unknown name 'GN'"),
        ([*TIMM, "MODEL.TIMM.DROP_PATH_RATE", "1.0"], r"MODEL.TIMM.DROP_PATH_RATE: wanted a number in \[0, 1\)"),
    ],
)  # fmt: skip
def test_wrong_key_is_one_sentence_before_anything_is_built(
    opts: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = _config(tmp_path, *opts)
    with pytest.raises(InputError, match=told):
        _check(cfg)


def _check(cfg: Any) -> None:
    check_values(cfg)
    check_backbone(cfg)


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        (["MODEL.TIMM.NAME", "test_vit"], r"MODEL.TIMM: out_features: wanted some of \['c4'\], which timm's test_vit has"),
        (["MODEL.TIMM.NAME", "test_maxvit"], "timm's test_maxvit can't take pictures of any size"),
        (["MODEL.TIMM.NAME", "test_convnext", "MODEL.TIMM.NORM", "FrozenBN"], "test_convnext has no batch norm"),
        (["MODEL.BACKBONE.FREEZE_AT", "6"], r"MODEL.BACKBONE.FREEZE_AT\): wanted 0 for nothing"),
        (["MODEL.TIMM.DROP_PATH_RATE", "0.1", "MODEL.TIMM.NAME", "vgg11"], "timm's vgg11 can't be had"),
        (["MODEL.FPN.IN_FEATURES", "['c3', 'c2']"], "MODEL.FPN.IN_FEATURES: wanted neighbours of MODEL.TIMM.OUT_FEATURES"),
    ],
)  # fmt: skip
def test_network_that_is_no_backbone_is_one_sentence(
    opts: list[str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        build_backbone(_config(tmp_path, *TIMM, *opts))


def test_frozen_noise_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for weights, warned in ((["MODEL.WEIGHTS", "w.pth"], False), ([], True)):
        build_backbone(_config(tmp_path, *TIMM, "MODEL.BACKBONE.FREEZE_AT", "2", *weights))
        assert ("the frozen part of the backbone is noise" in caplog.text) == warned


def test_missing_timm_and_network_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("Connection refused")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        ConfigError, match=r"timm's test_resnet can't be had \(Connection refused\)"
    ):
        TimmBackbone("test_resnet", pretrained=True)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackageError, match=r"run pip install 'nasnet-det\[timm\]'"):
        check_backbone(_config(tmp_path, *TIMM))


# ---- The commands


@pytest.mark.parametrize(
    "opts",
    [
        TIMM,
        pytest.param(TORCHVISION, marks=pytest.mark.slow),
        pytest.param([*TIMM, "MODEL.TIMM.NAME", "resnet50"], marks=pytest.mark.slow),
        pytest.param([*TIMM, "MODEL.TIMM.NAME", "convnext_tiny"], marks=pytest.mark.slow),
    ],
    ids=lambda opts: opts[-1],
)
def test_commands_are_those_of_a_nasnet(
    opts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, resume, evaluate, predict, export and report."""
    pytest.importorskip("onnxruntime")
    data, run = write_tiny_dataset(tmp_path / "data"), tmp_path / "run"
    keys = [*data, "OUTPUT_DIR", str(run), "SOLVER.CHECKPOINT_PERIOD", "2", *opts]
    config = write_tiny_config(tmp_path)

    def call(*words: object) -> str:
        assert main(list(map(str, words))) == 0
        return capsys.readouterr().out

    call("train", "--config-file", config, *keys, "SOLVER.MAX_ITER", "2")
    call("train", "--resume", "--config-file", config, *keys)
    weights, written = run / "model_final.pth", run / "config.yaml"
    keys[keys.index(str(run))] = str(tmp_path / "whole")
    call("train", "--config-file", config, *keys)
    once, twice = (
        load_tensors(path)["model"] for path in (tmp_path / "whole/model_final.pth", weights)
    )
    assert all(torch.equal(value, twice[name]) for name, value in once.items()), "bit for bit"
    ap = json.loads((run / "results.json").read_text())["datasets"]
    call("train", "--eval-only", "--config-file", written, "MODEL.WEIGHTS", weights)
    assert json.loads((run / "results.json").read_text())["datasets"].keys() == ap.keys()
    out = call("export", weights, tmp_path / "detector.onnx", "--config-file", written)
    assert "ONNX, image -> boxes, scores, classes" in out
    picture, found = tmp_path / "data" / "1.png", tmp_path / "found"
    trained = ["MODEL.WEIGHTS", weights]
    call("predict", "--config-file", written, "--input", picture, "--output", found, *trained)
    assert (found / "predictions.json").is_file()
    write_cost(run, measure_run(run))  # here instead of in a process of its own, which is slow
    call("report", run, "--out", tmp_path / "report", "--draws", 100)
    cost = json.loads((tmp_path / "report" / "report.json").read_text())["runs"][0]["cost"]
    trunk: Any = build_backbone(get_config(str(written))).bottom_up
    assert cost["parameters"]["trunk"] == sum(p.numel() for p in trunk.parameters())
    assert cost["multiply_adds"]["trunk"] > 0


def test_command_names_the_nearest_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / "run"), *TIMM]
    config = write_tiny_config(tmp_path)
    words = ["train", "--config-file", config, *keys, "MODEL.TIMM.NAME", "convnext_tinny"]
    assert main(words) != 0
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].endswith("timm has no 'convnext_tinny', did you mean 'convnext_tiny'?")
    assert not (tmp_path / "run").exists()
