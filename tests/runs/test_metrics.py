"""Lines of metrics.json: torn ones, and those that a resume writes again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasnet_det.runs.files import FileError
from nasnet_det.runs.metrics import append_metrics, drop_metrics, read_metrics


def test_torn_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    append_metrics(path, 1, {"loss": 0.5})
    with path.open("a") as file:
        file.write('[]\n{"loss": 1}\n{"iteration": 2, "lo')
    assert read_metrics(path) == [{"iteration": 1, "loss": 0.5}]
    with pytest.raises(FileError, match=r"absent can't be read \(No such file"):
        read_metrics(tmp_path / "absent")


def test_lines_that_are_written_again_are_dropped_and_the_others_keep_their_bytes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(b'{"iteration": 3, "AP": NaN}\n{"iteration": 9}\nnot json\n{"iteration": 4}')
    drop_metrics(path, 5)
    assert path.read_bytes() == b'{"iteration": 3, "AP": NaN}\n'
    drop_metrics(tmp_path / "absent", 5)
    assert not (tmp_path / "absent").exists()


def test_iterations_can_be_counted_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    for iteration in (2, 4, 6):
        append_metrics(path, iteration, {"epoch": iteration / 4})
    drop_metrics(path, 3, scale=0.5)
    assert read_metrics(path) == [{"iteration": 1, "epoch": 0.5}, {"iteration": 2, "epoch": 1.0}]
