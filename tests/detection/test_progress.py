"""What a training shows: a bar to somebody at a terminal, lines to everything else."""

from __future__ import annotations

import os
import pty
import select
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from command import run_command, start_command
from tiny_detection import write_tiny_config, write_tiny_dataset


def _words(tmp_path: Path, output: str) -> list[str]:
    pairs = [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / output)]
    options = ["SOLVER.MAX_ITER", "20", "SOLVER.CHECKPOINT_PERIOD", "20"]
    return ["train", "--config-file", write_tiny_config(tmp_path), *pairs, *options]


def _run_on_terminal(words: list[str]) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    with start_command(*words, stdout=theirs, stderr=theirs, env={"COLUMNS": "100"}) as process:
        os.close(theirs)
        written = b""
        while True:
            ready, _, _ = select.select([ours], [], [], 120)
            assert ready, written.decode()
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux's end of a terminal
                break
            if not piece:
                break
            written += piece
        assert process.wait(60) == 0, written.decode()
    os.close(ours)
    return written.decode()


def test_terminal_has_a_bar_and_files_and_pipes_have_lines(tmp_path: Path) -> None:
    text = _run_on_terminal(_words(tmp_path, "shown"))
    assert "20/20 [" in text
    assert "loss=" in text
    assert "total_loss: " not in text
    assert "Starting training from iteration 0" in text
    log = (tmp_path / "shown" / "log.txt").read_text()
    assert log.count("total_loss: ") == 1
    assert "/20 [" not in log
    done = run_command(*_words(tmp_path, "piped"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("total_loss: ") == 1
    assert "/20 [" not in done.stdout + done.stderr
