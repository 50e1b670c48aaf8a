"""TensorFlow's checkpoints: names and shapes as TF-slim counts them, files as TensorFlow writes them."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_variables
import torch
from command import run_command

from nasnet_det.weights import CheckpointError, convert_file, convert_weights, read_weights
from nasnet_det.weights.file import hash_file
from nasnet_det.weights.matching import match_names

VARIANTS = {"nasnet_a_large": tensorflow_variables.LARGE, "nasnet_a_mobile": tensorflow_variables.MOBILE}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_tf_slims_names_and_shapes_match_completely(variant: str) -> None:
    shapes = tensorflow_variables.list_classifier(**VARIANTS[variant])
    match = match_names(shapes)
    assert (match.scheme.name, match.variant) == ("tf_slim", variant)
    assert set(match.names) == set(shapes)
    parameters = sum(shape.numel() for shape in match.shapes.values())
    assert parameters == {"nasnet_a_large": 88_949_818, "nasnet_a_mobile": 5_326_716}[variant]


# ---- Without TensorFlow


@pytest.fixture
def fake_checkpoint(tmp_path: Path) -> Path:
    for ending in ("index", "data-00000-of-00001"):
        (tmp_path / f"model.ckpt.{ending}").write_bytes(ending.encode())
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("package", ["TensorFlow", "safetensors"])
def test_missing_package_is_one_sentence(
    ending: str, package: str, fake_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    sys.modules["tensorflow"].__spec__ = ModuleSpec("tensorflow", None)
    monkeypatch.setitem(sys.modules, package.lower(), None)
    told = rf"model.ckpt needs {package}: run pip install 'nasnet-det\[tensorflow\]'$"
    with pytest.raises(CheckpointError, match=told):
        convert_file(f"{fake_checkpoint}{ending}")


def test_hash_is_of_the_files_with_the_variables(fake_checkpoint: Path) -> None:
    before = hash_file(str(fake_checkpoint))
    for ending in ("meta", "safetensors"):  # the graph; what a conversion may have left
        fake_checkpoint.with_name(f"model.ckpt.{ending}").write_bytes(b"0")
    fake_checkpoint.with_name("model.ckpt2.index").write_bytes(b"0")
    assert hash_file(str(fake_checkpoint)) == before
    assert hash_file(f"{fake_checkpoint}.index") == before
    fake_checkpoint.with_name("model.ckpt.data-00000-of-00001").write_bytes(b"0")
    assert hash_file(str(fake_checkpoint)) != before


STAND_IN = """
import numpy as np

class errors:
    class OpError(Exception):
        pass

class Type:
    def __init__(self, is_number):
        self.is_floating, self.is_integer = is_number, False

class Reader:
    def get_variable_to_dtype_map(self):
        return {"conv0/weights": Type(True), "label_map": Type(False)}

    def get_tensor(self, name):
        assert name != "label_map", "text is not read"
        return np.arange(6, dtype=np.float32).reshape(2, 3)

class train:
    def load_checkpoint(prefix):
        if "broken" in prefix:
            raise errors.OpError("Checksum does not match")
        return Reader()
"""


def _install(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Put a module in TensorFlow's place, for this process and those that it starts."""
    (folder / "tensorflow.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.syspath_prepend(str(folder))


def test_arrays_come_from_a_process_of_its_own(
    fake_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, tmp_path, STAND_IN)
    found = read_weights(str(fake_checkpoint))["model"]
    assert list(found) == ["conv0/weights"]
    np.testing.assert_array_equal(found["conv0/weights"], [[0, 1, 2], [3, 4, 5]])
    assert "tensorflow" not in sys.modules


def test_what_tensorflow_can_not_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, tmp_path, STAND_IN)
    (tmp_path / "broken.ckpt.index").write_bytes(b"")
    told = (
        "broken.ckpt can't be read by TensorFlow: one of its files is truncated or missing "
        r"\(there are broken.ckpt.index\)$"
    )
    with pytest.raises(CheckpointError, match=told):
        convert_file(str(tmp_path / "broken.ckpt"))


def test_tensorflow_that_does_not_run_is_one_sentence(
    fake_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, tmp_path, "raise ImportError('no AVX here')")
    told = r"model.ckpt: TensorFlow does not run \(ImportError: no AVX here\)$"
    with pytest.raises(CheckpointError, match=told):
        read_weights(str(fake_checkpoint))


# ---- With TensorFlow


def _convert(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return run_command("convert-weights", source, "--out", out, timeout=900)


@pytest.mark.peers
@pytest.mark.parametrize("variant", VARIANTS)
def test_checkpoint_that_tensorflow_wrote_converts_completely(
    variant: str, repository: Path, tmp_path: Path
) -> None:
    arrays = tensorflow_variables.fill(tensorflow_variables.list_classifier(**VARIANTS[variant]))
    trained: dict[str, Any] = {f"{name}/RMSProp": array for name, array in arrays.items() if "bn" in name}  # fmt: skip
    trained |= {f"{name}/ExponentialMovingAverage": array + 1 for name, array in arrays.items() if "/moving_" not in name}  # fmt: skip
    prefix = tmp_path / "model.ckpt"
    extra = trained if variant == "nasnet_a_mobile" else {}  # the large one is published plain
    tensorflow_variables.write_checkpoint(prefix, {**arrays, **extra, "global_step": np.int64([7])})
    done = _convert(prefix, tmp_path / "a.safetensors")
    assert done.returncode == 0, done.stderr
    first = f"{variant} of tf_slim: {len(arrays)} tensors, 1000 classes"
    assert done.stdout.splitlines()[0] == first
    converted = read_weights(str(tmp_path / "a.safetensors"))["model"]
    wanted = {
        name: array + 1 if extra and "/moving_" not in name else array
        for name, array in arrays.items()
    }
    kernel = converted["trunk.cells.cell_1.blocks.1.left.separable_2.depthwise.weight"]
    theirs = wanted["cell_1/comb_iter_1/left/separable_5x5_2/depthwise_weights"]
    np.testing.assert_array_equal(kernel.numpy(), theirs.transpose(2, 3, 0, 1))
    np.testing.assert_array_equal(
        converted["classifier.weight"].numpy(), wanted["final_layer/FC/weights"][:, 1:].T
    )
    again = convert_weights(wanted).weights
    assert converted.keys() == again.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in again.items())

    if variant == "nasnet_a_mobile":
        done = _convert(Path(f"{prefix}.index"), tmp_path / "b.safetensors")
        assert done.returncode == 0, done.stderr
        a, b = (tmp_path / f"{name}.safetensors" for name in "ab")
        assert a.read_bytes() == b.read_bytes()


@pytest.mark.peers
@pytest.mark.parametrize("victim", ["index", "data-00000-of-00001"])
def test_broken_checkpoint_is_one_sentence(victim: str, tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt"
    tensorflow_variables.write_checkpoint(prefix, {"conv0/weights": np.ones((3, 3), np.float32)})
    path = tmp_path / f"model.ckpt.{victim}"
    whole = path.read_bytes()
    told = "model.ckpt can't be read by TensorFlow: one of its files is truncated or missing"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=told) as info:
        convert_file(str(prefix))
    assert "\n" not in str(info.value)
    if victim != "index":
        path.unlink()
        with pytest.raises(CheckpointError, match=told):
            convert_file(str(prefix))
