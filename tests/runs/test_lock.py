"""One run in a folder at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from nasnet_det.runs.files import FileError
from nasnet_det.runs.lock import lock_folder


def test_second_run_is_told_who_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with lock_folder(folder, "search"):
        expected = rf"OUTPUT_DIR {folder} is in use \(search, process {os.getpid()}\); wait for"
        for holder in ("search", "training"):
            with pytest.raises(FileError, match=expected), lock_folder(folder, holder):
                pass
        with lock_folder(folder, "report", name="report"):
            pass
    with lock_folder(folder, "training"):
        pass


def test_drive_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with lock_folder(tmp_path, "search"):
        assert "can't be locked against other runs (No locks available)" in caplog.text


def test_file_in_the_folders_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        message = "OUTPUT_DIR: wanted a folder, got"
        with pytest.raises(FileError, match=message), lock_folder(folder, "search"):
            pass
