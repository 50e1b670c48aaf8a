"""Exports compute what the network computes, on odd and even sizes, and refuse what they can't."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nasnet_det import same_padding
from nasnet_det.cli.main import main
from nasnet_det.genotype import Block, CellSpec, Genotype
from nasnet_det.network import NASNet, create_model
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.runtime import formats as export
from nasnet_det.weights.backbone_file import BackboneCard, save_backbone

# All that depends on a size: strided convolution, both pools, factorized reduction, identity.
SMALL = Genotype(
    CellSpec((Block((0, 1), ("sep_conv_3x3", "identity")),), (1, 2)),
    CellSpec((Block((0, 1), ("avg_pool_3x3", "max_pool_3x3")), Block((0, 2), ("sep_conv_5x5", "identity"))), (3,)),
)  # fmt: skip
CLASSES = ("cat", "dog")


def _make(
    genotype: Genotype = SMALL, variant: str = "nasnet_a_cifar_6_768", **options: Any
) -> NASNet:
    model = create_model(genotype, len(CLASSES), num_cells_per_stage=1, channels=8, **options)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return model.eval()


def _card(model: NASNet) -> BackboneCard:
    return BackboneCard(
        genotype=model.trunk.genotype,
        spec=model.trunk.spec,
        pixel_mean=(1.0, 2.0, 3.0),
        pixel_std=(4.0, 5.0, 6.0),
        format="RGB",
        score={},
        classes=CLASSES,
        config={"MODEL.NASNET.NORM": "BN"},
        version="0",
    )


@pytest.fixture(scope="module")
def small() -> NASNet:
    torch.manual_seed(0)
    return _make(stem="cifar", input_size=20)


def _export(model: NASNet, path: Path, *, backbone: bool) -> list[export.Comparison]:
    exportable = export.build_exportable(_card(model), model.state_dict(), backbone=backbone)
    return export.export_model(exportable, path, _card(model))


@pytest.mark.parametrize(
    ("ending", "backbone"), [(".pt2", True), (".onnx", False), (".ts", True), (".ts", False)]
)
def test_export_computes_what_the_network_does_at_any_size(
    small: NASNet, tmp_path: Path, ending: str, backbone: bool
) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    path = tmp_path / f"model{ending}"
    comparisons = _export(small, path, backbone=backbone)
    assert {tuple(n % 2 for n in c.size) for c in comparisons} == {(0, 0), (1, 1), (0, 1), (1, 0)}
    assert max(c.difference for c in comparisons) <= 1e-4

    # Once more without the exporter's own comparison: another batch, size and seed.
    image = torch.randn(3, 3, 27, 34)
    loader = {".pt2": export._load_torch_export, ".onnx": export._load_onnx, ".ts": export._load_torchscript}  # fmt: skip
    with torch.no_grad():
        got = loader[ending](path.read_bytes())(image)
        features = small.trunk(image)
        wanted = list(features.values()) if backbone else [small(image)]
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [True, False])
@pytest.mark.parametrize("ending", list(export.FORMATS))
def test_nasnet_a_with_the_imagenet_stem_is_exported(
    tmp_path: Path, ending: str, backbone: bool
) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = _make(GENOTYPES["nasnet_a"], stem="imagenet", input_size=96)
    comparisons = _export(model, tmp_path / f"model{ending}", backbone=backbone)
    assert max(c.difference for c in comparisons) <= 1e-4


def test_file_says_how_its_images_are_whitened_and_what_comes_out(
    small: NASNet, tmp_path: Path
) -> None:
    path = tmp_path / "model.ts"
    _export(small, path, backbone=True)
    files = {export.METADATA: ""}
    torch.jit.load(io.BytesIO(path.read_bytes()), _extra_files=files)
    about = json.loads(files[export.METADATA])
    assert about["outputs"] == ["c0", "c1", "c2"]
    assert (about["pixel_mean"], about["pixel_std"]) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (about["format"], about["classes"]) == ("RGB", list(CLASSES))


def test_export_that_differs_is_not_written(
    small: NASNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    other = _make(stem="cifar", input_size=20)
    exportable = export.build_exportable(_card(other), other.state_dict(), backbone=False)
    convert = export._to_torchscript
    monkeypatch.setattr(export, "_to_torchscript", lambda model, *rest: convert(exportable, *rest))
    path = tmp_path / "model.ts"
    with pytest.raises(
        export.ExportError,
        match=r"model.ts is not written: on images of \d+x\d+ the export differs by",
    ):
        _export(small, path, backbone=False)
    assert not path.exists()


def test_export_for_one_size_only_is_not_written(
    small: NASNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a trace would be if the padding did not follow the size."""

    def pad_even_sizes(size: int, kernel: int, stride: int) -> tuple[int, int]:
        total = max(0, kernel - stride)
        return total // 2, total - total // 2

    def trace_for_even_sizes(*args: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(same_padding, "_same_padding", pad_even_sizes)
            return trace(*args, **options)

    trace = torch.jit.trace
    monkeypatch.setattr(torch.jit, "trace", trace_for_even_sizes)
    path = tmp_path / "model.ts"
    with pytest.raises(export.ExportError, match="the export can't run on images of 21x21"):
        _export(small, path, backbone=False)
    assert not path.exists()


def test_same_padding_is_tensorflows_formula() -> None:
    for kernel in (1, 3, 5, 7):
        for stride in (1, 2):
            for size in range(1, 40):
                total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
                assert same_padding._same_padding(size, kernel, stride) == (
                    total // 2,
                    total - total // 2,
                )


# ---- The command


def test_tool_exports_and_prints_the_differences(
    small: NASNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = tmp_path / "backbone.safetensors"
    trunk = {k: v for k, v in small.state_dict().items() if k.startswith("trunk.")}
    save_backbone(backbone, trunk, _card(small))
    output = tmp_path / "backbone.ts"
    assert main(["export", str(backbone), str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" difference ")[0] for line in lines[:2]] == [
        "20x20: largest",
        "21x21: largest",
    ]
    assert lines[-1] == f"{output}: TorchScript, image -> c0, c1, c2"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["w.pth", "out.bin"], 2, "wanted an output that ends with .pt2, .onnx, .ts, got out.bin"),
        (["no.pth", "out.ts"], 1, "no.pth can't be read (No such file or directory)"),
        (
            ["PLAIN", "out.ts"],
            1,
            "PLAIN: wanted a file of nasnet-det export-backbone, got other weights",
        ),
        (["OTHER", "out.ts"], 1, "the weights are not those of the card's network: "),
    ],
)
def test_mistakes_are_one_sentence(
    small: NASNet, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, sentence: str
) -> None:  # fmt: skip
    files = {"PLAIN": tmp_path / "plain.safetensors", "OTHER": tmp_path / "other.safetensors"}
    save_file(small.trunk.state_dict(), files["PLAIN"])
    save_backbone(files["OTHER"], {"trunk.stem": torch.zeros(1)}, _card(small))
    try:
        got = main(["export", *(str(files.get(word, word)) for word in arguments)])
    except SystemExit as stop:
        got = int(stop.code or 0)
    assert got == status
    error = capsys.readouterr().err
    for name, path in files.items():
        sentence = sentence.replace(name, str(path))
    assert error.startswith(f"nasnet-det export: {sentence}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("opset", [20, 13, pytest.param(99, marks=pytest.mark.slow)])
def test_opset_of_the_file_is_the_one_that_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, opset: int
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    cell = CellSpec((Block((0, 1), ("max_pool_3x3", "identity")),), (2,))
    network = _make(Genotype(cell, cell), stem="cifar", input_size=20)
    card = _card(network)
    model = export.build_exportable(card, network.state_dict(), backbone=False)
    path = tmp_path / "model.onnx"
    if opset == 20:
        export.export_model(model, path, card, opset=opset)
        assert {i.domain: i.version for i in onnx.load(path).opset_import}[""] == opset
        return
    with pytest.raises(export.ExportError, match=f"got {opset}, of which it makes 18; give that"):
        export.export_model(model, path, card, opset=opset)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], "one sentence alone"
    assert not path.exists()


def test_missing_package_is_named_with_its_extra(
    small: NASNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        export.ExportError, match=r"ONNX needs the package onnx: pip install 'nasnet-det\[export\]'"
    ):
        _export(small, tmp_path / "model.onnx", backbone=False)


# ---- What a format can't hold


def _branch(x: torch.Tensor) -> torch.Tensor:
    return 2 * x if x.mean() > 0 else x


def _keep_size(x: torch.Tensor) -> torch.Tensor:
    return x + torch.from_numpy(np.ones((int(x.shape[2]), int(x.shape[3])), np.float32))


def _in_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.tanh(x.detach().numpy()))


PYTHON = r"{} can't hold this network: test_export.py, line \d+ of it reads numbers of the picture's maps into Python \({}\), .*use torch's operations there"
SIZE = r"the export can't run on images of 20x20 \(.*keeps a size of the image that was exported"


@pytest.mark.parametrize(
    ("ending", "work", "sentence"),
    [
        (".pt2", _in_numpy, PYTHON.format("torch.export", "numpy")),
        (".pt2", _branch, PYTHON.format("torch.export", "bool")),
        (".onnx", _branch, PYTHON.format("ONNX", "bool")),
        (".onnx", torch.special.bessel_j0, r"ONNX can't hold the operation prims.bessel_j0 of this network: put another in its place, or another format may: .pt2 or .ts"),
        (".ts", _branch, PYTHON.format("TorchScript", "bool")),
        (".ts", _keep_size, SIZE),
    ],
)  # fmt: skip
def test_operation_that_a_format_cannot_hold_is_named(
    small: NASNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], ending: str, work: Any, sentence: str
) -> None:  # fmt: skip
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    pool = same_padding.Pool2dSame.forward
    monkeypatch.setattr(same_padding.Pool2dSame, "forward", lambda self, x: work(pool(self, x)))
    backbone = tmp_path / "backbone.safetensors"
    trunk = {k: v for k, v in small.state_dict().items() if k.startswith("trunk.")}
    save_backbone(backbone, trunk, _card(small))
    capfd.readouterr()
    assert main(["export", str(backbone), str(tmp_path / f"out{ending}")]) == 1
    output, error = capfd.readouterr()
    assert re.match(f"nasnet-det export: {sentence}", error)
    assert (output, error.count("\n")) == ("", 1)
    assert [path.name for path in tmp_path.iterdir()] == [backbone.name]


def test_opset_goes_with_onnx_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "w.pth", str(tmp_path / "out.ts"), "--opset", "12"])
    assert "--opset: wanted an output that ends with .onnx, got " in capsys.readouterr().err
