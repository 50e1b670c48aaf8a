"""run.json and config.yaml: written by starts that train, and by nothing else."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import pytest
import torch

import nasnet_det
from nasnet_det.runs.files import FileError
from nasnet_det.runs.record import CONFIG, STARTS, read_starts, record_start


def _record(folder: Path, seed: int) -> None:
    record_start(
        folder, f"SEED: {seed}\n", command=["train", "x"], seed=seed, device="cpu",
        packages=["torch"], processes=2, categories=[{"id": 1}],
    )  # fmt: skip


def test_each_start_is_appended_and_the_config_is_the_last_ones(tmp_path: Path) -> None:
    assert read_starts(tmp_path) == []
    _record(tmp_path, 1)
    _record(tmp_path, 2)
    first, second = read_starts(tmp_path)
    assert (first["seed"], second["seed"]) == (1, 2)
    assert (tmp_path / CONFIG).read_text() == "SEED: 2\n"
    assert second["command"] == ["train", "x"]
    assert second["categories"] == [{"id": 1}]
    assert (second["device"], second["processes"]) == ("cpu", 2)
    assert second["versions"] == {
        "nasnet_det": nasnet_det.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    assert second["time"].endswith("+00:00")
    in_a_checkout = (Path(nasnet_det.__file__).parents[1] / ".git").exists()
    assert (second["git_commit"] is not None) == in_a_checkout


@pytest.mark.parametrize("text", ["{", "3"])
def test_broken_list_of_starts_is_one_sentence_and_is_started_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / STARTS).write_text(text)
    with pytest.raises(FileError, match=r"run.json can't be read as a list of starts \("):
        read_starts(tmp_path)
    with caplog.at_level(logging.WARNING):
        _record(tmp_path, 3)
    assert "it is started anew" in caplog.text
    assert [start["seed"] for start in read_starts(tmp_path)] == [3]
