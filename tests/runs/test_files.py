"""Files that are whole or absent, on drives of every kind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nasnet_det.runs.files import PARTIAL, FileError, write_content


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_folder_that_cant_be_flushed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Network drives can't."""
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    write_content(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_full_disk_and_read_only_folder_leave_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "file"
    write_content(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileError, match=rf"file can't be written \({os.strerror(number)}\)"):
        write_content(path, "new")
    assert path.read_text() == "old"
    assert not list(tmp_path.glob(f"*{PARTIAL}"))
