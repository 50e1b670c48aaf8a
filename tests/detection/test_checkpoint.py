"""Checkpoints: whole or absent, resumed from the newest whole one, loaded without running code."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from tiny_detection import Payload, make_toy_detector

from nasnet_det.detection.checkpoint import (
    Checkpointer,
    CheckpointError,
    WeightsError,
)
from nasnet_det.runs.files import PARTIAL, FileError, write_content, write_whole_file


class _Progress:
    """Stands for a trainer: numpy numbers in its state, as results and schedules have them."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"iteration": 0, "score": np.float64(0.5), "n": np.arange(3)}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def _make_checkpointer(folder: Path) -> Checkpointer:
    return Checkpointer(make_toy_detector(), str(folder), trainer=_Progress())


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
        pytest.raises(FileError, match=r"can't be written \(File too large\)") as info,
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
    assert f"model_0000003.pth{PARTIAL}" in _names(tmp_path)
    (tmp_path / "download.pth.partial").write_bytes(b"of another program")
    resumed = _make_checkpointer(tmp_path)
    assert resumed.resume_or_load("", resume=True)["iteration"] == 3
    assert not list(tmp_path.glob(f"*{PARTIAL}")), "a start removes what a killed run was writing"
    assert (tmp_path / "download.pth.partial").exists(), "and nothing else"


def test_evaluation_leaves_the_partial_file_of_a_running_training(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0)
    (tmp_path / f"model_0000001.pth{PARTIAL}").write_bytes(b"growing")
    reader = Checkpointer(make_toy_detector(), str(tmp_path), save_to_disk=False)
    reader.resume_or_load("", resume=True)
    assert (tmp_path / f"model_0000001.pth{PARTIAL}").exists()


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


def test_a_folder_in_the_place_of_the_unfinished_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / f"file{PARTIAL}").mkdir()
    with pytest.raises(
        FileError, match=r"file can't be written \(Is a directory\); what was there"
    ):
        write_content(tmp_path / "file", "text")


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


def _tag(text: str) -> Callable[[Path], object]:
    return lambda path: (path.parent / "last_checkpoint").write_text(text)


@pytest.mark.parametrize(
    ("break_it", "told", "iteration"),
    [
        (_truncate, "model_0000002.pth is truncated", 1),
        (_flip_a_weight, "model_0000002.pth is damaged (checksum", 1),
        (_drop_the_trainer, "model_0000002.pth is not a checkpoint of a training (no trainer)", 1),
        (lambda path: path.write_bytes(b""), "model_0000002.pth is truncated", 1),
        (Path.unlink, "last_checkpoint names 'model_0000002.pth', which is not there", 1),
        (_tag(""), "last_checkpoint is empty", 2),
        (_tag("model_00"), "last_checkpoint names 'model_00', which is not there", 2),
        (lambda path: (path.parent / "last_checkpoint").unlink(), "", 2),
    ],
)
def test_resume_falls_back_to_the_newest_whole_checkpoint(
    break_it: Callable[[Path], object],
    told: str,
    iteration: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _save_iterations(tmp_path, 0, 1, 2)
    _make_checkpointer(tmp_path).save_best({"metric": "bbox/AP", "score": 1.0, "iteration": 9})
    break_it(tmp_path / "model_0000002.pth")
    checkpointer = _make_checkpointer(tmp_path)
    with caplog.at_level(logging.WARNING, logger="nasnet_det"):
        assert checkpointer.resume_or_load("", resume=True)["iteration"] == iteration
    assert checkpointer.model.head.bias.tolist() == [iteration] * 2
    assert told in caplog.text
    assert bool(told) == (f"taking {checkpointer.resumed_from} instead" in caplog.text)


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
    source = make_toy_detector()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    checkpointer = _make_checkpointer(tmp_path / "new")
    assert not checkpointer.has_checkpoint()
    checkpointer.resume_or_load(str(tmp_path / "weights.pth"), resume=True)
    assert checkpointer.resumed_from == ""
    assert torch.equal(checkpointer.model.head.weight, source.head.weight)


def test_resume_refuses_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    _save_iterations(tmp_path, 0)
    checkpointer = Checkpointer(make_toy_detector(width=5), str(tmp_path), trainer=_Progress())
    with pytest.raises(WeightsError, match="it is a checkpoint of another model"):
        checkpointer.resume_or_load("", resume=True)


def test_last_finite_checkpoint_leaves_out_weights_with_nan(tmp_path: Path) -> None:
    checkpointer = _save_iterations(tmp_path, 0, 1)
    with torch.no_grad():
        checkpointer.model.head.weight[0, 0] = float("nan")
    checkpointer.save("model_0000002", iteration=2)
    assert checkpointer.last_finite_checkpoint() == str(tmp_path / "model_0000001.pth")


def test_resume_never_takes_a_checkpoint_that_runs_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    _save_iterations(tmp_path, 0)
    torch.save(
        {"model": {}, "trainer": Payload(mark), "iteration": 5}, tmp_path / "model_0000005.pth"
    )
    (tmp_path / "last_checkpoint").write_text("model_0000005.pth")
    assert _make_checkpointer(tmp_path).resume_or_load("", resume=True)["iteration"] == 0
    assert not mark.exists()
