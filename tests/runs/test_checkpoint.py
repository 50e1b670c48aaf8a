"""torch's files are read without running what is inside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasnet_det.runs.checkpoint import CheckpointError, load_tensors

STATE = {"weight": torch.arange(1000.0), "names": ["a", "b"], "best": {"top1": 0.5}}


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("ran",))


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("is_zip", [False, True])
def test_what_was_saved_is_read(tmp_path: Path, mmap: bool, is_zip: bool) -> None:
    path = tmp_path / "state.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=is_zip)
    state = load_tensors(path, mmap=mmap)
    assert torch.equal(state["weight"], STATE["weight"])
    assert {k: state[k] for k in ("names", "best")} == {k: STATE[k] for k in ("names", "best")}


def test_one_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    torch.save(STATE, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"state.pth is damaged \(checksum of "):
        load_tensors(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is truncated or no file of weights"),
        (b"hello", "is truncated or no file of weights"),
        (None, r"can't be read \(No such file or directory\)"),
    ],
)
def test_what_is_none_is_one_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "state.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        load_tensors(tmp_path / "state.pth")


def test_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": Evil()}, tmp_path / "state.pth")
    with pytest.raises(CheckpointError, match="is refused: it holds Python objects"):
        load_tensors(tmp_path / "state.pth")
    assert capsys.readouterr().out == ""
