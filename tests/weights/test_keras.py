"""Keras 3's files: a zip with the layers in JSON and the arrays, numbered, in HDF5."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasnet_det.weights import CheckpointError, WeightsError, convert_file, read_weights
from nasnet_det.weights.conversion import convert_weights

h5py = pytest.importorskip("h5py")

# In the order of the model. Layers of a class are numbered in it, whatever their names.
LAYERS: list[tuple[str, str, dict[str, tuple[int, ...]]]] = [
    ("InputLayer", "input_layer", {}),
    ("Conv2D", "stem_conv1", {"kernel": (3, 3, 3, 2)}),
    ("BatchNormalization", "stem_bn1", {"gamma": (2,), "beta": (2,), "moving_mean": (2,), "moving_variance": (2,)}),
    ("Activation", "activation", {}),
    ("Conv2D", "reduction_conv_1_stem_1", {"kernel": (1, 1, 2, 2)}),
    ("SeparableConv2D", "b", {"depthwise_kernel": (5, 5, 2, 1), "pointwise_kernel": (1, 1, 2, 2)}),
    ("SeparableConv2D", "a", {"depthwise_kernel": (3, 3, 2, 1), "pointwise_kernel": (1, 1, 2, 2)}),
    ("Dense", "predictions", {"kernel": (2, 4), "bias": (4,)}),
]  # fmt: skip
GROUPS = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "SeparableConv2D": "separable_conv2d", "Dense": "dense"}  # fmt: skip


def _write(path: Path, **extra: np.ndarray) -> dict[str, np.ndarray]:
    """A ``.keras`` file as Keras 3 lays it out.

    Returns:
        ``layer/variable`` -> array.
    """
    arrays, seen = {}, dict.fromkeys(GROUPS, 0)
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for kind, name, variables in LAYERS:
            if not variables:
                continue
            number = f"_{seen[kind]}" if seen[kind] else ""
            seen[kind] += 1
            for i, (variable, shape) in enumerate(variables.items()):
                array = np.random.default_rng(len(arrays)).normal(size=shape).astype(np.float32)
                file[f"layers/{GROUPS[kind]}{number}/vars/{i}"] = array
                arrays[f"{name}/{variable}"] = array
        for place, array in extra.items():
            file[place] = array
    layers = [{"class_name": kind, "name": name, "config": {}} for kind, name, _ in LAYERS]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.0"}')
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        archive.writestr("model.weights.h5", memory.getvalue())
    return arrays


def test_arrays_get_their_layers_names(tmp_path: Path) -> None:
    wanted = _write(tmp_path / "m.keras", **{"optimizer/vars/0": np.zeros(3)})
    found = read_weights(str(tmp_path / "m.keras"))["model"]
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_layer_that_no_network_of_ours_has_is_left_over(tmp_path: Path) -> None:
    _write(tmp_path / "m.keras", **{"layers/embedding/vars/0": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"left over: .*layers/embedding/vars/0"):
        convert_file(str(tmp_path / "m.keras"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def _empty_config(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")


def _broken_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"config": {"layers": []}}')
        archive.writestr("model.weights.h5", b"no HDF5")


def _other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")


@pytest.mark.parametrize("damage", [_cut, _empty_config, _broken_arrays, _other_zip])
def test_broken_file_is_one_sentence(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    _write(path)
    damage(path)
    with pytest.raises(CheckpointError, match=r"m.keras is truncated or no file of weights$"):
        convert_file(str(path))


def test_arrays_without_layers_are_explained(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros(3)
    told = r"has the arrays without the names of their layers: save the model itself, by model.save"
    with pytest.raises(CheckpointError, match=told):
        read_weights(str(tmp_path / "m.weights.h5"))


def test_missing_h5py_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "m.keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        CheckpointError, match=r"needs h5py: run pip install 'nasnet-det\[weights\]'$"
    ):
        read_weights(str(tmp_path / "m.keras"))


@pytest.mark.peers
@pytest.mark.parametrize("include_top", [True, False])
def test_files_that_keras_wrote_convert_to_the_same(include_top: bool, tmp_path: Path) -> None:
    """Keras itself names the tensors of an ``.h5``."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("no Keras")
    code = (
        "import keras, numpy as np\n"
        "shape = (224, 224, 3)\n"
        f"model = keras.applications.NASNetMobile(shape, {include_top}, weights=None)\n"
        "rng = np.random.default_rng(0)\n"
        "model.set_weights([rng.random(w.shape, np.float32) for w in model.get_weights()])\n"
        "model.save('m.keras'); model.save('m.h5')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = convert_file(str(tmp_path / "m.keras"))
    assert ours.metadata["variant"] == "nasnet_a_mobile"
    assert ours.metadata["num_classes"] == (1000 if include_top else 0)
    named = convert_weights(read_weights(str(tmp_path / "m.h5"))["model"])
    assert len(ours.weights) == (1126 if include_top else 1124)
    assert ours.weights.keys() == named.weights.keys()
    for name, tensor in named.weights.items():
        assert torch.equal(ours.weights[name], tensor), name
