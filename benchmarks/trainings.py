"""The trainings of a benchmark: each is a command on one thread, and none is done twice."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nasnet_det.errors import InputError
from nasnet_det.runs.files import write_json

PACKAGE = (sys.executable, "-m", "nasnet_det")


def train_missing(
    path: Path,
    report: dict[str, Any],
    tasks: Iterable[Mapping[str, Any]],
    train: Callable[..., Mapping[str, Any]],
    conclude: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
) -> None:
    """Train what a report lacks, and write it after each training.

    Args:
        path: of the report.
        report: has a row in ``runs`` for each training that is done.
        tasks: what tells a training's row from others, such as its seed.
        train: called with a task by keywords; the rest of its row.
        conclude: what follows from all rows, to stand beside them.
    """
    for task in tasks:
        if not any(task.items() <= row.items() for row in report["runs"]):
            report["runs"].append({**task, **train(**task)})
            report.update(conclude(report["runs"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, report)


def run_logged(
    command: Sequence[object],
    values: Mapping[str, Any],
    log: Path,
    *,
    name: object,
    pass_fds: Sequence[int] = (),
) -> float:
    """A command with KEY VALUE pairs, on one thread, with its output in a file.

    Args:
        command: without the pairs.
        values: the pairs.
        log: the output is added to it.
        name: of the training, for the error.
        pass_fds: file descriptors that the process inherits, such as a lock.

    Returns:
        the minutes that it took.

    Raises:
        InputError: it failed; the message has its last line.
    """
    pairs = [word for pair in values.items() for word in pair]
    start = time.perf_counter()
    with log.open("a") as file:
        done = subprocess.run(
            [str(word) for word in (*command, *pairs)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            pass_fds=pass_fds,
            check=False,
        )
    if done.returncode:
        lines = log.read_text().strip().splitlines() or ["no output"]
        raise InputError(f"{name}: {lines[-1]} (see {log})")
    return round((time.perf_counter() - start) / 60, 2)


def name_bccd(folder: Path) -> dict[str, Path]:
    """The config's keys that name BCCD's parts in its folder."""
    images = folder / "BCCD" / "JPEGImages"
    return {
        "DATASETS.TRAIN_JSON": folder / "coco_json" / "instances_train.json",
        "DATASETS.TRAIN_IMAGES": images,
        "DATASETS.TEST_JSON": folder / "coco_json" / "instances_val.json",
        "DATASETS.TEST_IMAGES": images,
    }


def describe_machine() -> str:
    """Cores, kind of processor and torch."""
    return f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
