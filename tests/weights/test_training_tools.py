"""What ordinary training tools write: prefixes, averages, networks in networks, odd files."""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from weight_files import get_weights, make_random

from nasnet_det.weights import CheckpointError, WeightsError, convert_weights, read_weights
from nasnet_det.weights.classifier import export_weights
from nasnet_det.weights.prefixes import drop_wrappers, list_shared_prefixes

SMALL: dict[str, Any] = {"channels": 8, "num_cells_per_stage": 1, "stem_multiplier": 1}


@pytest.fixture(scope="module")
def ours() -> dict[str, torch.Tensor]:
    """Under our names."""
    return get_weights(make_random("nasnet_a_large", **SMALL))


@pytest.fixture(scope="module")
def theirs(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under timm's."""
    return export_weights(ours, "torch", "nasnet_a_large", **SMALL)


def _convert(tensors: dict[str, Any], **given: Any) -> Any:
    return convert_weights(tensors, variant="nasnet_a_large", **SMALL, **given)


def _assert_same(found: Any, wanted: dict[str, torch.Tensor], shift: float = 0) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor + shift) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "a.b.c.", "backbone."],
)
def test_prefix_is_taken_off(
    prefix: str, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]
) -> None:
    converted = _convert({prefix + name: tensor for name, tensor in theirs.items()})
    _assert_same(converted.weights, ours)
    assert "left_out" not in converted.metadata


def test_network_in_another_one_is_found_and_the_rest_is_named(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]
) -> None:
    tensors = {f"encoder.{name}": tensor for name, tensor in theirs.items()}
    converted = _convert(
        {**tensors, "head.weight": torch.zeros(5, 2), "n_averaged": torch.ones(())}
    )
    _assert_same(converted.weights, ours)
    assert converted.metadata["left_out"] == "head.weight"
    with pytest.raises(WeightsError, match="1 left over: odd"):
        _convert({**tensors, "encoder.odd": torch.zeros(1)})


def test_compiled_part_loses_its_wrapper() -> None:
    names = {"a._orig_mod.b": 1, "_orig_mod._checkpoint_wrapped_module.c": 2, "d": 3}
    assert drop_wrappers(names) == {"a.b": 1, "c": 2, "d": 3}
    assert list_shared_prefixes(["a.b.c", "a.b.d.e"]) == ["", "a.", "a.b."]
    assert list_shared_prefixes(["ab.c", "ac.c"]) == [""]
    assert list_shared_prefixes(["a.b"]) == ["", "a."]
    assert list_shared_prefixes([]) == [""]


def test_of_two_networks_the_average_is_taken_by_a_flag(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]
) -> None:
    last = {f"model.{name}": tensor for name, tensor in theirs.items()}
    average = {f"ema_model.module.{name}": tensor + 1 for name, tensor in theirs.items()}
    _assert_same(_convert({**last, **average}).weights, ours)
    _assert_same(_convert({**last, **average}, average=True).weights, ours, shift=1)
    other = {f"teacher.{name}": tensor for name, tensor in theirs.items()}
    with pytest.raises(WeightsError, match=r"wanted one network, got 2, below model\., teacher\."):
        _convert({**last, **other})


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema"])
def test_average_of_a_file_is_taken_by_a_flag(key: str, tmp_path: Path) -> None:
    path = str(tmp_path / "model_best.pth.tar")
    last, average = {"a": torch.zeros(1)}, {"a": torch.ones(1)}
    inside = {"module": average} if key == "ema" else average
    torch.save({"state_dict": last, key: inside, "epoch": 3}, path)
    found = read_weights(path)
    assert (found["model"], found["taken"], found["left"]) == (last, "state_dict", key)
    found = read_weights(path, average=True)
    assert (found["model"], found["taken"], found["left"]) == (average, key, "state_dict")
    assert found["epoch"] == 3
    torch.save({key: inside}, path)
    assert read_weights(path)["model"] == average, "alone"
    torch.save({"state_dict": last}, path)
    assert "taken" not in read_weights(path)
    with pytest.raises(CheckpointError, match="holds no average of weights"):
        read_weights(path, average=True)


def test_refused_pickle_says_how_to_save_anew(tmp_path: Path) -> None:
    """timm's train.py keeps its arguments in the file."""
    path = tmp_path / "last.pth.tar"
    state = {"a": torch.arange(3.0)}
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(CheckpointError, match="where you trust it, save its weights alone") as told:
        read_weights(str(path))
    recipe = str(told.value).partition("weights alone: ")[2]
    load, save = recipe.partition(", or data")[0].split(", then ")
    code = f"{load}\n{save}".replace("'last.pth.tar'", repr(str(path)))
    exec(code.replace("'weights.pth'", repr(str(tmp_path / "weights.pth"))), {"torch": torch})
    assert torch.equal(read_weights(str(tmp_path / "weights.pth"))["model"]["a"], state["a"])


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


def _script() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/code/__torch__.py", b"")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><title>Virus scan warning</title>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "run git lfs pull"),
        (_tar(), "is a tar archive"),
        (_script(), "is a TorchScript program"),
        (b"\0" * 100, "is truncated or no file of weights"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
def test_file_that_is_something_else_is_called_so(
    content: bytes, sentence: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        read_weights(str(path))


def test_archive_whose_names_are_broken_is_one_sentence(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("é/data.pkl", b"")
    path = tmp_path / "w.pth"
    path.write_bytes(file.getvalue().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(CheckpointError, match="is truncated or no file of weights"):
        read_weights(str(path))


def _write_nested_keras(path: Path) -> None:
    """As Keras 3 lays out a Sequential of a network, a pool and a layer."""
    h5py = pytest.importorskip("h5py")
    layers = [
        {"class_name": "InputLayer", "config": {"name": "input"}},
        {
            "class_name": "Functional",
            "config": {
                "name": "NASNet",
                "layers": [
                    {
                        "class_name": "Conv2D",
                        "name": "stem_conv1",
                        "config": {"name": "stem_conv1"},
                    },
                    {"class_name": "Conv2D", "name": "other", "config": {"name": "other"}},
                ],
            },
        },
        {"class_name": "Dense", "config": {"name": "mine"}},
    ]
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file["layers/functional/layers/conv2d/vars/0"] = np.full((2, 2), 1.0)
        file["layers/functional/layers/conv2d_1/vars/0"] = np.full((2, 2), 2.0)
        file["layers/dense/vars/0"] = np.full((2, 2), 3.0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        archive.writestr("model.weights.h5", memory.getvalue())


def _write_nested_h5(path: Path) -> None:
    """As Keras's older format lays it out: a group for each layer of the outer network."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = ["NASNet", "mine"]
        group["NASNet/stem_conv1/kernel"] = np.full((2, 2), 1.0)
        group["NASNet/other/kernel:0"] = np.full((2, 2), 2.0)
        group["mine/sequential/mine/kernel"] = np.full((2, 2), 3.0)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_network_in_another_one_keeps_its_layers_names(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"transfer{suffix}"
    (_write_nested_keras if suffix == ".keras" else _write_nested_h5)(path)
    found = {name: array[0, 0] for name, array in read_weights(str(path))["model"].items()}
    assert found == {"NASNet/stem_conv1/kernel": 1, "NASNet/other/kernel": 2, "mine/kernel": 3}
