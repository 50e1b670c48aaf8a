"""Stages of a pipeline: commands that are skipped when done and go on when interrupted.

``pipeline.json`` keeps what each stage was made of: its config, and the hashes of the files that it
read and wrote. A stage is

- done, if it ended well, and its config, what it read and what it wrote are as they were;
- interrupted, if it was started with the same config and inputs and did not end: it goes on;
- unfinished, if it is now asked for more of the same, or for another end: it goes on too;
- outdated, if what decides its result has changed: it is made anew, and its folder moved aside.

Which keys do which is the table of :mod:`nasnet_det.runs.keys`.

A stage's own resume does the rest, so a kill at any moment costs what its last checkpoint lacks.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasnet_det.errors import InputError
from nasnet_det.published_cells import load_genotype
from nasnet_det.runs.files import FileError, write_json
from nasnet_det.runs.keys import find_changes, list_changes
from nasnet_det.runs.lock import lock_folder
from nasnet_det.weights.file import hash_file

RECORD = "pipeline.json"


class StageError(InputError):
    """A stage that failed."""


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: of the stage.
        command: arguments of Python; run again, it goes on where it was.
        folder: gets everything that it writes, and is made for it.
        config: keys and values that change what comes of it, as JSON holds them.
        part: whose keys these are in the table of :mod:`nasnet_det.runs.keys`.
        inputs: files of earlier stages that it reads.
        cells: genotypes of earlier stages, of which only the cells count.
        outputs: files that it has written when it ends well.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    config: Mapping[str, Any]
    part: str = ""
    inputs: tuple[Path, ...] = ()
    cells: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()


def run_stages(
    stages: Sequence[Stage], folder: Path, *, tell: Callable[[str], None] = print
) -> None:
    """Run what is not done, in order.

    Args:
        stages: each after those whose files it reads.
        folder: gets ``pipeline.json``. A command that an earlier start began and that is still
            running there is waited for.
        tell: takes the lines that say what is run and what is skipped.

    Raises:
        StageError: a command failed.
        FileError: another pipeline runs there, ``pipeline.json`` can't be read, or something
            can't be written.
    """
    # A command inherits the second lock and keeps it where this process is killed alone.
    with (
        lock_folder(folder, "pipeline", name="pipeline"),
        lock_folder(folder, "stage", name="stage", wait=True) as lock,
    ):
        record = _read_record(folder)
        for number, stage in enumerate(stages, start=1):
            place = f"[{number}/{len(stages)}] {stage.name}"
            state, reason = find_state(stage, record)
            if state == "done":
                tell(f"{place}: done already ({_show_paths(stage)})")
                continue
            tell(f"{place}: {_explain(state, reason)}")
            if state == "outdated" and stage.folder.exists():
                tell(f"{place}: what was there is now in {_move_aside(stage.folder)}")
            tell(f"$ python {shlex.join(stage.command)}")
            entry = {"config": dict(stage.config), "inputs": _hash_inputs(stage)}
            record[stage.name] = entry
            write_json(folder / RECORD, record)
            seconds = _run(stage, lock)
            record[stage.name] = {**entry, "outputs": _hash_files(stage.outputs)}
            record[stage.name]["seconds"] = round(seconds, 1)
            write_json(folder / RECORD, record)
            tell(f"{place}: finished after {seconds:.0f} s ({_show_paths(stage)})")


def describe_stages(stages: Sequence[Stage], folder: Path) -> str:
    """What :func:`run_stages` would do, a few lines a stage."""
    record, lines, is_new = _read_record(folder), [], False
    for number, stage in enumerate(stages, start=1):
        state, reason = find_state(stage, record)
        if is_new and stage.inputs:
            state, reason = "new", "after the stages before it"
        is_new |= state != "done"
        lines.append(f"[{number}/{len(stages)}] {stage.name}: {_explain(state, reason)}")
        lines.append(f"    python {shlex.join(stage.command)}")
        lines.append(f"    -> {_show_paths(stage)}")
    return "\n".join(lines)


def find_state(stage: Stage, record: Mapping[str, Any]) -> tuple[str, str]:
    """Its state (see the module), or ``new``, and why where that is a question."""
    entry = record.get(stage.name)
    if entry is None:
        has_files = stage.folder.is_dir() and any(stage.folder.iterdir())
        return ("outdated", f"nothing is known of {stage.folder}") if has_files else ("new", "")
    changes = find_changes(entry["config"], stage.config, stage=stage.part)
    decisive: list[object] = [change for change in changes if not change.goes_on]
    inputs = _hash_inputs(stage)
    decisive += [
        f"{name} is another" for name in inputs if entry["inputs"].get(name) != inputs[name]
    ]
    if decisive:
        return "outdated", list_changes(decisive, 3)
    if "outputs" not in entry:
        return "interrupted", ""
    if changes:
        return "unfinished", list_changes(changes, 3)
    outputs = _hash_files(stage.outputs)
    other = [name for name in outputs if entry["outputs"].get(name) != outputs[name]]
    return ("interrupted", f"{other[0]} is missing or another") if other else ("done", "")


def _explain(state: str, reason: str) -> str:
    text = {
        "done": "done already",
        "interrupted": "goes on",
        "unfinished": "goes on",
        "outdated": "made anew",
        "new": "to be made",
    }[state]
    return f"{text}: {reason}" if reason else text


def _show_paths(stage: Stage) -> str:
    return ", ".join(map(str, stage.outputs))


def _hash_inputs(stage: Stage) -> dict[str, str | None]:
    cells = {f"{path.parent.name}/{path.name}": _hash_cells(path) for path in stage.cells}
    return {**_hash_files(stage.inputs), **cells}


def _hash_cells(path: Path) -> str | None:
    """SHA-256 of the cells of a genotype, without where they come from; None without a file."""
    if not path.is_file():
        return None
    genotype = load_genotype(path).to_dict()
    cells = json.dumps([genotype[kind] for kind in ("normal", "reduction")])
    return hashlib.sha256(cells.encode()).hexdigest()


def _hash_files(paths: Iterable[Path]) -> dict[str, str | None]:
    """The files' folder and name -> SHA-256, or None where there is no file."""
    return {
        f"{path.parent.name}/{path.name}": hash_file(str(path)) if path.is_file() else None
        for path in paths
    }


def _move_aside(folder: Path) -> Path:
    """Rename a folder to the first free of ``name.1``, ``name.2``, ..."""
    number = 1
    while (free := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(free)


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
        if all({"config", "inputs"} <= entry.keys() for entry in record.values()):
            return dict(record)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    raise FileError(f"{path} can't be read as the record of a pipeline; remove it to start anew")


def _run(stage: Stage, lock: int) -> float:
    """Run a command; its seconds."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    status = _call([sys.executable, *stage.command], lock)
    if status:
        raise StageError(f"{stage.name} failed (exit status {status}); started again, it goes on")
    missing = [str(path) for path in stage.outputs if not path.is_file()]
    if missing:
        raise StageError(f"{stage.name} ended without {', '.join(missing)}")
    return time.monotonic() - start


def _call(command: Sequence[str], lock: int) -> int:
    """The status of a command. It gets a signal too, and the time to save what it has done."""
    process = subprocess.Popen(command, pass_fds=[lock])
    try:
        return process.wait()
    except KeyboardInterrupt as stop:
        process.send_signal(getattr(stop, "number", signal.SIGINT))
        process.wait()
        raise
    finally:
        process.kill()  # after another signal
        process.wait()
