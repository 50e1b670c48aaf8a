"""A training that was killed and resumed gives the bits of one that was not."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from exact_training import (
    OPTIONS,
    Command,
    check_equal,
    find_last_iteration,
    is_writing,
    read_state,
    start_pair,
    write_arguments,
)

TWO_PROCESSES = {"SOLVER__IMS_PER_BATCH": 4, "DATALOADER__NUM_WORKERS": 0}


def _choose_moments(num_kills: int, *, max_iter: int, seed: int = 0) -> list[tuple[int, float]]:
    """Iterations, ascending, and how many iterations later it happens; the end stays free."""
    moments = random.Random(seed)
    iterations = sorted(moments.randrange(-1, max_iter - 8) for _ in range(num_kills))
    return [(iteration, moments.uniform(0, 3)) for iteration in iterations]


def _wait_for_moment(command: Command, run: Path, iteration: int, *, then_seconds: float) -> None:
    assert command.wait_until(command.has_started), command.log.read_text()
    command.wait_until(lambda: find_last_iteration(run) >= iteration)
    time.sleep(then_seconds)


def _stop_early(max_iter: int) -> dict[str, Any]:
    """Let the last evaluation before the last iteration end the training: none has a gain."""
    num_evaluations = (max_iter - 1) // OPTIONS["TEST.EVAL_PERIOD"]
    early = {"PATIENCE": num_evaluations - 1, "MIN_DELTA": 200.0}  # the first one always has
    return {f"SOLVER__EARLY_STOPPING__{key}": value for key, value in early.items()}


def _check_kills(tmp_path: Path, *, num_kills: int, max_iter: int) -> None:
    """Kill the command again and again; every third kill hits a file that is being written."""
    options = {"SOLVER__MAX_ITER": max_iter, **_stop_early(max_iter)}
    straight = write_arguments(tmp_path, "straight", **options)
    command = Command(tmp_path / "straight.txt", straight)
    assert command.wait_until(command.has_started), command.log.read_text()
    start = time.monotonic()
    assert command.wait() == 0, command.log.read_text()
    seconds_per_iteration = (time.monotonic() - start) / max_iter

    run = tmp_path / "killed"
    arguments = write_arguments(tmp_path, "killed", **options)
    num_partial = 0
    for i, (iteration, later) in enumerate(_choose_moments(num_kills, max_iter=max_iter)):
        command = Command(tmp_path / f"killed_{i}.txt", arguments, "--resume")
        _wait_for_moment(command, run, iteration, then_seconds=later * seconds_per_iteration)
        if i % 3 == 0:
            command.wait_until(lambda: is_writing(run))
        assert command.process.poll() is None, f"it was done after {i} kills"
        command.kill()
        num_partial += is_writing(run)
    assert num_partial > 0, "a kill hit a file that was being written"
    command = Command(tmp_path / "last.txt", arguments, "--resume")
    assert command.wait() == 0, command.log.read_text()
    assert "Starting training from iteration 0" not in command.log.read_text()
    check_equal(read_state(tmp_path / "straight"), read_state(run))
    assert read_state(run)["trainer"]["iteration"] < max_iter - 1, "early stopping ended it"
    print(f"{num_kills} kills, {num_partial} of them while a file was written")


def test_killed_training_gives_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    _check_kills(tmp_path, num_kills=2, max_iter=16)


@pytest.mark.slow
def test_fifty_kills_change_no_bit(tmp_path: Path) -> None:
    _check_kills(tmp_path, num_kills=50, max_iter=250)


def _check_kills_of_one_process(tmp_path: Path, *, num_kills: int, max_iter: int) -> None:
    """Kill one of two processes; the other one has to end by itself."""
    options = {**TWO_PROCESSES, "SOLVER__MAX_ITER": max_iter, **_stop_early(max_iter)}
    straight = write_arguments(tmp_path, "straight", **options)
    pair = start_pair(tmp_path / "straight.txt", straight)
    assert pair[0].wait_until(pair[0].has_started), pair[0].log.read_text()
    start = time.monotonic()
    assert [command.wait() for command in pair] == [0, 0], pair[0].log.read_text()
    seconds_per_iteration = (time.monotonic() - start) / max_iter

    run = tmp_path / "killed"
    arguments = write_arguments(tmp_path, "killed", **options)
    for i, (iteration, later) in enumerate(_choose_moments(num_kills, max_iter=max_iter)):
        pair = start_pair(tmp_path / f"killed_{i}.txt", arguments, "--resume")
        _wait_for_moment(pair[0], run, iteration, then_seconds=later * seconds_per_iteration)
        killed, other = pair if i % 2 else pair[::-1]
        os.kill(killed.find_training_process(), signal.SIGKILL)
        assert [command.wait() for command in (killed, other)] == [1, 1]
        assert "was ended by SIGKILL; --resume goes on" in killed.log.read_text()
        assert "another process of this training has ended" in other.log.read_text()
        assert "Traceback" not in killed.log.read_text() + other.log.read_text()
    pair = start_pair(tmp_path / "last.txt", arguments, "--resume")
    assert [command.wait() for command in pair] == [0, 0], pair[0].log.read_text()
    assert "Starting training from iteration 0" not in pair[0].log.read_text()
    check_equal(read_state(tmp_path / "straight"), read_state(run))


def test_kill_of_one_of_two_processes_changes_no_bit(tmp_path: Path) -> None:
    _check_kills_of_one_process(tmp_path, num_kills=1, max_iter=12)


@pytest.mark.slow
def test_ten_kills_of_one_of_two_processes_change_no_bit(tmp_path: Path) -> None:
    _check_kills_of_one_process(tmp_path, num_kills=10, max_iter=60)
