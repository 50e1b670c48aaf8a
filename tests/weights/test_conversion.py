"""Conversion: nothing is lost, nothing is guessed, and each mistake is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import run_command
from tiny_detection import Payload
from weight_files import get_weights, make_random, write_keras_file

from nasnet_det.weights import (
    CheckpointError,
    WeightsError,
    convert_file,
    convert_weights,
    read_weights,
    write_weights,
)
from nasnet_det.weights.classifier import export_weights

SMALL: dict[str, Any] = {"channels": 8, "num_cells_per_stage": 2, "stem_multiplier": 1}
NETWORKS = [
    ("torch", "nasnet_a_large", SMALL),
    ("torch", "nasnet_a_mobile", SMALL),
    ("torch", "pnasnet_5_large", SMALL),
    ("keras", "nasnet_a_large", SMALL),
    ("keras", "nasnet_a_mobile", SMALL),
    ("tf_slim", "nasnet_a_large", SMALL),
    ("tf_slim", "pnasnet_5_mobile", SMALL),
    ("tf_slim", "nasnet_a_cifar_6_768", {"channels": 4, "num_cells_per_stage": 2}),
]


def _small(scheme: str = "torch", variant: str = "nasnet_a_large") -> dict[str, torch.Tensor]:
    return export_weights(get_weights(make_random(variant, **SMALL)), scheme, variant, **SMALL)


def _assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(("scheme", "variant", "size"), NETWORKS)
def test_there_and_back_is_the_identity(scheme: str, variant: str, size: dict[str, Any]) -> None:
    wanted = get_weights(make_random(variant, **size))
    theirs = export_weights(wanted, scheme, variant, **size)
    assert len(theirs) == len(wanted)
    converted = convert_weights(theirs, variant=variant, **size)
    _assert_equal(converted.weights, wanted)
    assert converted.metadata["variant"] == variant
    assert converted.metadata["num_classes"] == 7


def test_tensorflows_axes_become_ours() -> None:
    """One number of each kind of layer, followed by its indices."""
    wanted = get_weights(make_random("nasnet_a_large", **SMALL))
    theirs = export_weights(wanted, "tf_slim", "nasnet_a_large", **SMALL)
    separable = "comb_iter_0/left/separable_5x5_1"
    block = "trunk.cells.cell_1.blocks.0.left.separable_1"
    pairs = [
        (theirs["conv0/weights"][2, 1, 0, 5], wanted["trunk.stem.conv.weight"][5, 0, 2, 1]),
        (
            theirs[f"cell_1/{separable}/depthwise_weights"][4, 3, 6, 0],
            wanted[f"{block}.depthwise.weight"][6, 0, 4, 3],
        ),
        (
            theirs[f"cell_1/{separable}/pointwise_weights"][0, 0, 6, 2],
            wanted[f"{block}.pointwise.weight"][2, 6, 0, 0],
        ),
        (theirs["final_layer/FC/weights"][9, 4], wanted["classifier.weight"][4, 9]),
    ]
    for found, number in pairs:
        assert found == number


@pytest.mark.parametrize(
    ("scheme", "variant", "num_rows", "origin", "padding"),
    [
        ("torch", "nasnet_a_large", 1000, "timm", "timm"),
        ("torch", "nasnet_a_large", 1001, "cadene", "tf"),
        ("torch", "nasnet_a_mobile", 1000, "cadene", "tf"),
        ("keras", "nasnet_a_mobile", 1000, "keras", "keras"),
        ("tf_slim", "nasnet_a_mobile", 1001, "tf_slim", "tf"),
    ],
)
def test_head_loses_its_background_class_and_the_origin_is_told(
    scheme: str, variant: str, num_rows: int, origin: str, padding: str
) -> None:
    model = make_random(variant, num_rows, **SMALL)
    theirs = export_weights(get_weights(model), scheme, variant, **SMALL)
    converted = convert_weights(theirs, variant=variant, **SMALL)
    about = converted.metadata
    assert (about["origin"], about["pool_padding"]) == (origin, padding)
    assert (about["num_classes"], about["class_order"]) == (1000, "ImageNet-1k by WordNet id")
    first = num_rows - 1000
    assert torch.equal(converted.weights["classifier.bias"], model.classifier.bias[first:])
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    rebuilt = converted.build_model()
    assert rebuilt.trunk.spec.pool_padding == padding
    if padding == "tf":
        with torch.no_grad():
            logits, expected = rebuilt.double()(image), model.double()(image)[:, first:]
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_weights_without_a_head_make_a_trunk() -> None:
    theirs = _small("keras", "nasnet_a_mobile")
    headless = {k: v for k, v in theirs.items() if not k.startswith("predictions/")}
    converted = convert_weights(headless, variant="nasnet_a_mobile", **SMALL)
    assert converted.metadata["num_classes"] == 0
    assert len(converted.weights) == len(theirs) - 2
    stem = converted.build_model().state_dict()["trunk.stem.conv.weight"]
    assert torch.equal(stem, theirs["stem_conv1/kernel"].permute(3, 2, 0, 1))


def test_moving_averages_are_taken_and_the_optimizers_are_not() -> None:
    model = make_random("nasnet_a_large", 1001, aux_head=True, input_size=224, **SMALL)
    size = {**SMALL, "input_size": 224}
    plain = export_weights(get_weights(model), "tf_slim", "nasnet_a_large", **size)
    wanted = convert_weights(plain, variant="nasnet_a_large", **size)
    assert any(name.startswith("aux_head.") for name in wanted.weights)
    averaged = {f"{name}/ExponentialMovingAverage": t for name, t in plain.items()}
    trained = {name: t + 1 for name, t in plain.items()}
    slots = {f"{name}/RMSProp{n}": t for name, t in plain.items() for n in ("", "_1")}
    statistics = {n: t for n, t in plain.items() if "/moving_" in n}  # those without an average
    only_averages = {**averaged, "global_step": np.array(3)}
    both = {**trained, **averaged, **slots, "global_step": np.array(3)}
    mixed = {k: v for k, v in both.items() if "/moving_" not in k} | statistics
    for source in (only_averages, both, mixed):
        found = convert_weights(source, variant="nasnet_a_large", **size)
        _assert_equal(found.weights, wanted.weights)


# ---- Mistakes


@pytest.mark.parametrize("scheme", ["torch", "keras", "tf_slim"])
def test_left_over_and_missing_tensors_are_named(scheme: str) -> None:
    theirs = _small(scheme)
    victim = sorted(theirs)[40]
    theirs["extra/gamma"] = theirs.pop(victim)
    with pytest.raises(WeightsError) as info:
        convert_weights(theirs, variant="nasnet_a_large", **SMALL)
    assert f"1 missing: {victim}; 1 left over: extra/gamma" in str(info.value)
    assert f"nasnet_a_large in the form of {scheme}" in str(info.value)


def test_tensor_of_another_shape_is_named() -> None:
    theirs = _small()
    theirs["cell_3.conv_1x1.conv.weight"] = theirs["cell_3.conv_1x1.conv.weight"][:, :5]
    theirs["cell_1.conv_1x1.bn.bias"] = torch.zeros(8, 1)
    told = "2 of another shape: cell_1.conv_1x1.bn.bias, cell_3.conv_1x1.conv.weight"
    with pytest.raises(WeightsError, match=told):
        convert_weights(theirs, variant="nasnet_a_large", **SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    theirs = _small()
    theirs["cell_2.conv_1x1.bn.weight"][3] = value
    with pytest.raises(WeightsError, match="not finite in cell_2.conv_1x1.bn.weight$"):
        convert_weights(theirs, variant="nasnet_a_large", **SMALL)


@pytest.mark.parametrize(
    ("tensors", "options", "told"),
    [
        ({"layer1.0.conv1.weight": torch.zeros(1)}, {}, "no known form of weights: wanted one of the tensors .*conv0/weights.*got layer1.0.conv1.weight"),
        ({"trunk.stem.conv.weight": torch.zeros(1)}, {}, "have this project's names already"),
        ({"conv0.conv.weight": torch.zeros(1)}, {"variant": "nasnet_a_5_1536"}, "no source of weights of nasnet_a_5_1536 is known"),
        ({"conv0.conv.weight": torch.zeros(1)}, {"origin": "tim"}, "unknown origin 'tim', did you mean 'timm'"),
    ],
)  # fmt: skip
def test_unknown_source_is_explained(
    tensors: dict[str, torch.Tensor], options: dict[str, str], told: str
) -> None:
    with pytest.raises(WeightsError, match=told) as info:
        convert_weights(tensors, **options)
    assert "\n" not in str(info.value)


def test_origin_must_fit_the_names() -> None:
    with pytest.raises(WeightsError, match="have the names of torch, not of keras"):
        convert_weights(_small(), origin="keras", variant="nasnet_a_large", **SMALL)


def test_weights_of_another_width_are_not_taken_for_the_published_network() -> None:
    with pytest.raises(WeightsError, match="of another shape"):
        convert_weights(_small())


# ---- Files


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
def test_written_file_is_read_back(extension: str, tmp_path: Path) -> None:
    converted = convert_weights(_small(), variant="nasnet_a_large", **SMALL)
    path = str(tmp_path / f"w.{extension}")
    write_weights(path, converted.weights, converted.metadata)
    content = read_weights(path)
    _assert_equal(content["model"], converted.weights)
    assert content["nasnet_det"] == converted.metadata
    assert content["nasnet_det"]["preprocessing"] == {
        "channels": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": 331,
        "crop_fraction": 0.911, "interpolation": "bicubic",
    }  # fmt: skip


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
def test_same_source_gives_the_same_bytes_in_another_process(
    extension: str, tmp_path: Path
) -> None:
    torch.save(_small(), tmp_path / "source.pth")
    code = (
        "import sys, torch; from nasnet_det.weights import *\n"
        f"c = convert_weights(torch.load('source.pth'), variant='nasnet_a_large', **{SMALL!r})\n"
        "write_weights(sys.argv[1], c.weights, c.metadata)\n"
    )
    for name in ("a", "b"):
        subprocess.run(
            [sys.executable, "-c", code, f"{name}.{extension}"], cwd=tmp_path, check=True
        )
    first, second = (tmp_path / f"{name}.{extension}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("whole_model", [False, True])
def test_keras_file_is_read_by_layer_and_variable(whole_model: bool, tmp_path: Path) -> None:
    theirs = _small("keras", "nasnet_a_mobile")
    write_keras_file(tmp_path / "w.h5", theirs, whole_model=whole_model)
    found = {
        k: torch.from_numpy(v) for k, v in read_weights(str(tmp_path / "w.h5"))["model"].items()
    }
    _assert_equal(found, theirs)


@pytest.mark.parametrize("extension", ["pth", "safetensors", "h5"])
def test_broken_file_is_one_sentence(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{extension}"
    if extension == "h5":
        write_keras_file(path, _small("keras", "nasnet_a_mobile"), whole_model=False)
    else:
        converted = convert_weights(_small(), variant="nasnet_a_large", **SMALL)
        write_weights(str(path), converted.weights, converted.metadata)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no weights"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is truncated or no file of weights$"):
            convert_file(str(path))
    path.unlink()
    with pytest.raises(CheckpointError, match="can't be read .No such file or directory.$"):
        convert_file(str(path))


def test_other_extensions_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wanted a name that ends with .safetensors or .pth"):
        write_weights(str(tmp_path / "w.bin"), {}, {})
    assert not list(tmp_path.iterdir())


# ---- The command


def _convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_command("convert-weights", *arguments)


def test_tool_converts_cadenes_mobile(tmp_path: Path) -> None:
    model = make_random("nasnet_a_mobile", 1000)
    theirs = export_weights(get_weights(model), "torch", "nasnet_a_mobile")
    counters = {f"{k.rpartition('.')[0]}.num_batches_tracked": torch.tensor(5) for k in theirs if k.endswith("running_var")}  # fmt: skip
    torch.save({**theirs, **counters}, tmp_path / "nasnetamobile.pth")
    out = tmp_path / "ours.safetensors"
    done = _convert(tmp_path / "nasnetamobile.pth", "--out", out)
    assert done.returncode == 0, done.stderr
    first, *_ = done.stdout.splitlines()
    assert first == "nasnet_a_mobile of cadene: 1126 tensors, 1000 classes"
    content = read_weights(str(out))
    _assert_equal(content["model"], get_weights(model))
    assert content["nasnet_det"]["source"] == "nasnetamobile.pth"
    assert len(content["nasnet_det"]["sha256"]) == 64


def test_tool_refuses_a_pickle_that_runs_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({"conv0.conv.weight": Payload(mark)}, tmp_path / "evil.pth")
    done = _convert(tmp_path / "evil.pth", "--out", tmp_path / "ours.safetensors")
    assert done.returncode == 1
    assert "evil.pth is refused: it holds Python objects, which could run code" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not mark.exists()
    assert not (tmp_path / "ours.safetensors").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert mark.exists(), "the payload works where nobody stops it"


def test_tool_names_the_file_of_another_architecture(tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.zeros(2)}, tmp_path / "resnet.pth")
    done = _convert(tmp_path / "resnet.pth", "--out", tmp_path / "ours.safetensors")
    assert done.returncode == 1
    assert done.stderr.startswith("nasnet-det convert-weights: ")
    assert "resnet.pth: no known form of weights: wanted one of the tensors" in done.stderr
    assert done.stderr.count("\n") == 1
