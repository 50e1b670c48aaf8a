"""Checkpoints: whole or absent, resumed from the newest whole one, loaded without running code."""

from __future__ import annotations

import io
import logging
import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from nasnet_det.detection.checkpoint import (
    Checkpointer,
    CheckpointError,
    WeightsError,
    write_whole_file,
)


class _Progress:
    """Stands for a trainer: numpy numbers in its state, as results and schedules have them."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"iteration": 0, "score": np.float64(0.5), "n": np.arange(3)}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def _make_detector(width: int = 4) -> nn.Module:
    """Named like a detector: trunk and FPN in the backbone, and a head."""
    bottom_up = nn.Module()
    bottom_up.trunk = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.bottom_up = bottom_up
    model.backbone.fpn_lateral2 = nn.Conv2d(width, 4, 1)
    model.head = nn.Linear(4, 2)
    return model


def _make_checkpointer(folder: Path) -> Checkpointer:
    return Checkpointer(_make_detector(), str(folder), trainer=_Progress())


def _save_iterations(folder: Path, *iterations: int) -> Checkpointer:
    checkpointer = _make_checkpointer(folder)
    for i in iterations:
        checkpointer.checkpointables["trainer"].state["iteration"] = i
        with torch.no_grad():
            checkpointer.model.head.bias.fill_(i)
        checkpointer.save(f"model_{i:07d}", iteration=i)
    return checkpointer


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def _largest_file(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- Writing


def test_save_leaves_whole_files_that_weights_only_loads(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0, 1)
    assert _names(tmp_path) == {"model_0000000.pth", "model_0000001.pth", "last_checkpoint"}
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    data = torch.load(tmp_path / "model_0000001.pth", weights_only=True)
    assert data["iteration"] == 1
    assert type(data["trainer"]["score"]) is float
    assert data["trainer"]["n"].tolist() == [0, 1, 2]


def test_save_on_a_full_disk_is_one_sentence_and_harms_nothing(tmp_path: Path) -> None:
    checkpointer = _save_iterations(tmp_path, 0)
    before = {name: (tmp_path / name).read_bytes() for name in _names(tmp_path)}
    with (
        _largest_file(1000),
        pytest.raises(CheckpointError, match=r"can't be written \(File too large\)") as info,
    ):
        checkpointer.save("model_0000001", iteration=1)
    assert "\n" not in str(info.value)
    assert {name: (tmp_path / name).read_bytes() for name in _names(tmp_path)} == before


def test_save_killed_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_iterations(tmp_path, 3)

    def die(*_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    other = _make_checkpointer(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        other.save("model_0000003", iteration=99)
    monkeypatch.undo()
    assert "model_0000003.pth.partial" in _names(tmp_path)
    resumed = _make_checkpointer(tmp_path)
    assert resumed.resume_or_load("", resume=True)["iteration"] == 3
    assert not list(tmp_path.glob("*.partial")), "a start removes what a killed run was writing"


def test_evaluation_leaves_the_partial_file_of_a_running_training(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0)
    (tmp_path / "model_0000001.pth.partial").write_bytes(b"growing")
    reader = Checkpointer(_make_detector(), str(tmp_path), save_to_disk=False)
    reader.resume_or_load("", resume=True)
    assert (tmp_path / "model_0000001.pth.partial").exists()


def test_save_refuses_what_could_not_be_loaded_again(tmp_path: Path) -> None:
    checkpointer = _make_checkpointer(tmp_path)
    with pytest.raises(TypeError, match="can't hold Path|can't hold PosixPath"):
        checkpointer.save("model_0000000", iteration=0, folder=tmp_path)
    assert not _names(tmp_path)


def test_save_best_leaves_the_last_checkpoint_the_last(tmp_path: Path) -> None:
    checkpointer = _save_iterations(tmp_path, 0)
    checkpointer.save_best({"metric": "bbox/AP", "score": 3.0, "iteration": 5})
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000000.pth")
    assert checkpointer.read_best() == {"metric": "bbox/AP", "score": 3.0, "iteration": 5}


def test_write_whole_file_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: Any) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_whole_file(path, write)
    assert path.read_bytes() == b"new"


# ---- Resuming


def test_resume_takes_everything_from_the_tagged_checkpoint(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0, 1, 2)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")  # a user went back
    checkpointer = _make_checkpointer(tmp_path)
    assert checkpointer.has_checkpoint()
    assert checkpointer.resume_or_load("not used", resume=True)["iteration"] == 1
    assert checkpointer.resumed_from == str(tmp_path / "model_0000001.pth")
    assert checkpointer.checkpointables["trainer"].state["iteration"] == 1
    assert checkpointer.model.head.bias.tolist() == [1, 1]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_a_weight(path: Path) -> None:
    """One damaged byte inside a tensor, which torch.load would load."""
    content = bytearray(path.read_bytes())
    bias = torch.full((2,), 2.0).numpy().tobytes()
    content[content.index(bias)] ^= 1
    path.write_bytes(content)


def _drop_the_trainer(path: Path) -> None:
    data = torch.load(path, weights_only=True)
    del data["trainer"]
    torch.save(data, path)


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (_truncate, "model_0000002.pth is truncated"),
        (_flip_a_weight, "model_0000002.pth is damaged (checksum"),
        (_drop_the_trainer, "model_0000002.pth is not a checkpoint of a training (no trainer)"),
        (Path.unlink, "last_checkpoint names 'model_0000002.pth', which is not there"),
        (lambda path: path.write_bytes(b""), "model_0000002.pth is truncated"),
        (lambda path: (path.parent / "last_checkpoint").write_text(""), "last_checkpoint is empty"),
        (lambda path: (path.parent / "last_checkpoint").write_text("model_00"), "'model_00'"),
        (lambda path: (path.parent / "last_checkpoint").unlink(), None),
    ],
)
def test_resume_falls_back_to_the_newest_whole_checkpoint(
    break_it: Any, told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _save_iterations(tmp_path, 0, 1, 2)
    _make_checkpointer(tmp_path).save_best({"metric": "bbox/AP", "score": 1.0, "iteration": 9})
    break_it(tmp_path / "model_0000002.pth")
    checkpointer = _make_checkpointer(tmp_path)
    with caplog.at_level(logging.WARNING, logger="nasnet_det"):
        iteration = checkpointer.resume_or_load("", resume=True)["iteration"]
    tag_is_broken = "last_checkpoint" in (told or "last_checkpoint") and break_it is not Path.unlink
    assert iteration == (2 if tag_is_broken or told == "'model_00'" else 1)
    assert checkpointer.model.head.bias.tolist() == [iteration] * 2
    if told:
        assert told in caplog.text


def test_resume_with_nothing_whole_is_one_sentence(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0, 1)
    _truncate(tmp_path / "model_0000000.pth")
    _truncate(tmp_path / "model_0000001.pth")
    checkpointer = _make_checkpointer(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint is whole") as info:
        checkpointer.resume_or_load("", resume=True)
    assert "model_0000000.pth" in str(info.value)
    assert "model_0000001.pth" in str(info.value)
    assert "\n" not in str(info.value)
    with pytest.raises(CheckpointError):
        checkpointer.has_checkpoint()


def test_resume_in_a_new_folder_loads_the_weights(tmp_path: Path) -> None:
    source = _make_detector()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    checkpointer = _make_checkpointer(tmp_path / "new")
    assert not checkpointer.has_checkpoint()
    checkpointer.resume_or_load(str(tmp_path / "weights.pth"), resume=True)
    assert checkpointer.resumed_from == ""
    assert torch.equal(checkpointer.model.head.weight, source.head.weight)


def test_resume_refuses_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0)
    checkpointer = Checkpointer(_make_detector(width=5), str(tmp_path), trainer=_Progress())
    with pytest.raises(WeightsError, match="it is a checkpoint of another model"):
        checkpointer.resume_or_load("", resume=True)


def test_last_finite_checkpoint_leaves_out_weights_with_nan(tmp_path: Path) -> None:
    checkpointer = _save_iterations(tmp_path, 0, 1)
    with torch.no_grad():
        checkpointer.model.head.weight[0, 0] = float("nan")
    checkpointer.save("model_0000002", iteration=2)
    assert checkpointer.last_finite_checkpoint() == str(tmp_path / "model_0000001.pth")


# ---- Refusing code


class _Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("extension", ["pth", "pkl", "pyth"])
def test_weights_that_run_code_are_refused(extension: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / f"evil.{extension}"
    content = {"model": {"weight": _Payload(mark)}, "model_state": {}, "__author__": "someone"}
    if extension == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="is refused: it holds Python objects") as info:
        _make_checkpointer(tmp_path).resume_or_load(str(path), resume=False)
    assert str(path) in str(info.value)
    assert not mark.exists()
    if extension == "pkl":
        pickle.loads(path.read_bytes())
        assert mark.exists(), "the payload works where nobody stops it"


def test_resume_never_takes_a_checkpoint_that_runs_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    _save_iterations(tmp_path, 0)
    torch.save(
        {"model": {}, "trainer": _Payload(mark), "iteration": 5}, tmp_path / "model_0000005.pth"
    )
    (tmp_path / "last_checkpoint").write_text("model_0000005.pth")
    assert _make_checkpointer(tmp_path).resume_or_load("", resume=True)["iteration"] == 0
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_of_arrays_loads_like_those_of_the_model_zoo(tmp_path: Path, protocol: int) -> None:
    weight = np.arange(8, dtype=np.float32).reshape(2, 4)
    counter = np.asfortranarray(np.ones((2, 3)))
    content = {
        "model": {"head.weight": weight, "extra": counter, "scalar": np.array(3)},
        "__author__": "Detectron2 Model Zoo",
        "score": np.float32(1.5),
        "bytes": b"\xff\x00",
        "set": {1, 2},
    }
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    checkpointer = Checkpointer(nn.ModuleDict({"head": nn.Linear(4, 2)}), str(tmp_path))
    data = checkpointer.load(str(path), checkpointables=[])
    assert torch.equal(checkpointer.model["head"].weight, torch.from_numpy(weight))
    assert (data["score"], data["bytes"], data["set"]) == (1.5, b"\xff\x00", {1, 2})


# ---- Weights


def test_weights_of_a_bare_trunk_find_their_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trunk = _make_detector().backbone.bottom_up.trunk
    nn.init.constant_(trunk[0].bias, 7.0)
    state = {f"module.{key}": value for key, value in trunk.state_dict().items()}
    torch.save(
        {"state_dict": {**state, "module.classifier.weight": torch.zeros(2)}}, tmp_path / "w.pth"
    )
    checkpointer = _make_checkpointer(tmp_path)
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        checkpointer.resume_or_load(str(tmp_path / "w.pth"), resume=False)
    assert checkpointer.model.backbone.bottom_up.trunk[0].bias.tolist() == [7.0] * 4
    assert (
        "w.pth: 6 of 6 tensors of the backbone and 7 of 11 of the model matched, 4 missing "
        "(backbone.fpn_lateral2.weight, backbone.fpn_lateral2.bias, head.weight, ...), "
        "1 unexpected (classifier.weight), 0 of another shape"
    ) in caplog.text


def test_weights_of_a_trunk_are_split_between_both_halves_of_a_c4_detector(tmp_path: Path) -> None:
    def make(*names: str) -> nn.Module:
        holder = nn.Module()
        holder.trunk = nn.ModuleDict({name: nn.Linear(1, 1) for name in names})
        return holder

    model = nn.ModuleDict({"backbone": make("cell_0", "cell_1"), "roi_heads": nn.Module()})
    model["roi_heads"].res5 = make("cell_2")
    source = make("cell_0", "cell_1", "cell_2").trunk
    torch.save(source.state_dict(), tmp_path / "w.pth")
    Checkpointer(model, "").load(str(tmp_path / "w.pth"), checkpointables=[])
    assert torch.equal(model["backbone"].trunk["cell_1"].weight, source["cell_1"].weight)
    assert torch.equal(model["roi_heads"].res5.trunk["cell_2"].weight, source["cell_2"].weight)


def test_weights_of_another_architecture_stop_the_training(tmp_path: Path) -> None:
    other = nn.ModuleDict({"layer1": nn.Linear(2, 2), "layer2": nn.Linear(2, 2)})
    torch.save(other.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="training would start from noise") as info:
        _make_checkpointer(tmp_path).resume_or_load(str(tmp_path / "w.pth"), resume=False)
    message = str(info.value)
    assert message.startswith("w.pth: 0 of 6 tensors of the backbone")
    assert "4 unexpected (layer1.weight, layer1.bias, layer2.weight, ...)" in message
    assert "\n" not in message


def test_weights_with_another_number_of_classes_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = _make_detector()
    source.head = nn.Linear(4, 9)
    torch.save({"model": source.state_dict()}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        _make_checkpointer(tmp_path).resume_or_load(str(tmp_path / "w.pth"), resume=False)
    assert "0 missing, 0 unexpected, 2 of another shape (head.weight, head.bias)" in caplog.text


def test_safetensors_load(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    source = _make_detector()
    safetensors.save_file(source.state_dict(), tmp_path / "w.safetensors")
    checkpointer = _make_checkpointer(tmp_path)
    checkpointer.resume_or_load(str(tmp_path / "w.safetensors"), resume=False)
    assert torch.equal(checkpointer.model.head.weight, source.head.weight)


def test_weights_by_detectron2s_heuristics_still_load(tmp_path: Path) -> None:
    from detectron2.config import get_cfg
    from detectron2.modeling.backbone import build_backbone

    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    model = nn.ModuleDict({"backbone": build_backbone(cfg)})
    caffe2 = {"conv1_w": np.full((64, 3, 7, 7), 0.25, dtype=np.float32)}
    for key, value in model["backbone"].state_dict().items():  # names as in Caffe2's files
        if key.startswith("res") and key.endswith("weight") and value.dim() == 4:
            stage, block, conv = key.split(".")[:3]
            branch = {"conv1": "branch2a", "conv2": "branch2b", "shortcut": "branch1"}[conv]
            caffe2[f"{stage}_{block}_{branch}_w"] = np.full(value.shape, 0.5, dtype=np.float32)
    for name in [name for name in caffe2 if "_branch" in name]:
        width = caffe2[name].shape[0]
        for suffix in ("s", "b"):
            caffe2[f"{name[:-2]}_bn_{suffix}"] = np.ones(width, dtype=np.float32)
    caffe2.update({f"res_conv1_bn_{s}": np.ones(64, dtype=np.float32) for s in "sb"})
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps({"blobs": caffe2}))
    Checkpointer(model, "").load(str(tmp_path / "R-18.pkl"), checkpointables=[])
    assert model["backbone"].stem.conv1.weight.unique().tolist() == [0.25]
    assert model["backbone"].res3[0].conv2.weight.unique().tolist() == [0.5]


def _bytes_of(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("absent.pth", None, "there is no such file"),
        ("text.pth", b"hello", "is truncated or no file of weights"),
        ("empty.pth", b"", "is truncated or no file of weights"),
        ("half.pth", _bytes_of({"model": {"w": torch.zeros(99)}})[:700], "is truncated or no file"),
        ("half.pkl", pickle.dumps({"model": {"w": 1.0}})[:9], "is truncated or no file of weights"),
        ("text.safetensors", b"hello", "is truncated or no file of weights"),
        ("other.pth", _bytes_of({"epoch": 3, "net": [1]}), "got keys epoch, net"),
        ("list.pth", _bytes_of([1, 2]), "holds no weights: wanted names and tensors"),
        ("no_tensors.pkl", pickle.dumps({"blobs": {"a": "b"}}), "holds no weights"),
    ],
)
def test_weights_that_are_none_give_one_sentence(
    name: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    checkpointer = _make_checkpointer(tmp_path)
    for _ in range(2):  # the first fault leaves the checkpointer usable
        with pytest.raises(CheckpointError, match=told.replace("(", r"\(")) as info:
            checkpointer.resume_or_load(str(tmp_path / name), resume=False)
        assert name in str(info.value)
        assert "\n" not in str(info.value)
