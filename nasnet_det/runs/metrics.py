"""``metrics.json``: a JSON object a line, each with the ``iteration`` that it is of.

A kill may tear the last line, and a resume does the iterations after its checkpoint again. So torn
lines are passed over, and a training begins by dropping the lines that it will write again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasnet_det.runs.files import FileError, write_content

METRICS = "metrics.json"


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The whole lines, in their order.

    Raises:
        FileError: there is no such file, or it can't be read.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise FileError(f"{path} can't be read ({error.strerror})") from None
    return [entry for line in lines if (entry := _parse(line)) is not None]


def drop_metrics(path: str | os.PathLike[str], first: int, *, scale: float = 1.0) -> None:
    """Drop the lines of an iteration and of those after it, and torn ones; no file is no lines.

    Args:
        path: of the file; what is kept keeps its bytes.
        first: the iteration that is done next.
        scale: the iterations of the file are counted anew, so many times as many.

    Raises:
        FileError: it can't be read or written.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"{path} can't be read ({error.strerror})") from None
    kept = []
    for line in lines:
        entry = _parse(line) if line.endswith(b"\n") else None
        if entry is not None and scale != 1:
            entry["iteration"] = round(entry["iteration"] * scale)
            line = json.dumps(entry).encode() + b"\n"
        if entry is not None and entry["iteration"] < first:
            kept.append(line)
    if kept != lines or scale != 1:
        write_content(path, b"".join(kept))


def append_metrics(
    path: str | os.PathLike[str], iteration: int, values: Mapping[str, float]
) -> None:
    """Add a line.

    Raises:
        FileError: the disk is full.
    """
    try:
        with open(path, "a") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")
    except OSError as error:
        raise FileError(f"{path} can't be written ({error.strerror})") from error


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        return entry if isinstance(entry["iteration"], int | float) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
