"""Ctrl-C and SIGTERM: the training is saved, says how to go on, and goes on exactly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from exact_training import (
    Command,
    check_equal,
    find_last_iteration,
    read_state,
    start_pair,
    write_arguments,
)

# No checkpoint but the one of the signal and the last.
OPTIONS = {"SOLVER__MAX_ITER": 24, "SOLVER__CHECKPOINT_PERIOD": 1000}


def _wait_for_an_evaluation(command: Command) -> None:
    def evaluates() -> bool:
        return "Start inference" in command.log.read_text()

    assert command.wait_until(evaluates), command.log.read_text()


def test_signals_to_all_processes_of_a_training_save_it_and_change_no_bit(tmp_path: Path) -> None:
    straight = Command(tmp_path / "straight.txt", write_arguments(tmp_path, "straight", **OPTIONS))
    assert straight.wait() == 0, straight.log.read_text()
    run = tmp_path / "stopped"
    arguments = write_arguments(tmp_path, "stopped", **OPTIONS)
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        command = Command(tmp_path / f"{number.name}.txt", arguments, "--resume")
        _wait_for_an_evaluation(command)
        os.killpg(command.process.pid, number)  # as a terminal does, and some cluster managers
        assert command.wait() == status, command.log.read_text()
        text = command.log.read_text()
        num_saved = find_last_iteration(run) + 1
        assert 0 < num_saved < 24
        sentence = f"{num_saved} iterations are saved, and --resume goes on from there"
        assert text.splitlines()[-1] == f"nasnet-det train: stopped by {number.name}; {sentence}"
        assert "Traceback" not in text
    last = Command(tmp_path / "last.txt", arguments, "--resume")
    assert last.wait() == 0, last.log.read_text()
    check_equal(read_state(tmp_path / "straight"), read_state(run))


def test_signal_to_one_of_two_processes_saves_and_stops_both(tmp_path: Path) -> None:
    options = {**OPTIONS, "SOLVER__IMS_PER_BATCH": 4, "DATALOADER__NUM_WORKERS": 0}
    arguments = write_arguments(tmp_path, "run", **options)
    pair = start_pair(tmp_path / "run.txt", arguments)
    _wait_for_an_evaluation(pair[0])
    pair[1].process.send_signal(signal.SIGTERM)
    assert [command.wait() for command in pair] == [143, 143], pair[0].log.read_text()
    assert find_last_iteration(tmp_path / "run") > 0
    texts = [command.log.read_text() for command in pair]
    assert "stopped by SIGTERM; " in texts[0]
    assert "Traceback" not in "".join(texts)
