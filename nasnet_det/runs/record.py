"""How a run was started, each time, and why it ended: ``run.json``; its config: ``config.yaml``.

Both are written by a start that trains, right before it does. An evaluation and a start that fails
leave a training's as they are; in a folder of its own an evaluation leaves its config.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nasnet_det.errors import InputError
from nasnet_det.runs.files import FileError, write_content, write_json
from nasnet_det.version import __version__

STARTS, CONFIG, RESULTS = "run.json", "config.yaml", "results.json"

logger = logging.getLogger(__name__)


class OutputDirError(InputError):
    """An OUTPUT_DIR that holds another run."""


def record_start(
    folder: str | os.PathLike[str],
    config: str,
    *,
    command: Sequence[str],
    seed: int,
    device: object,
    packages: Sequence[str],
    processes: int = 1,
    **more: Any,
) -> None:
    """Append a start to ``run.json``, and write ``config.yaml``.

    Args:
        folder: OUTPUT_DIR.
        config: the final one, as YAML.
        command: the command line.
        seed: of the run.
        device: such as ``cuda:0``; the GPU's name is added.
        packages: whose versions matter beside this package's and Python's.
        processes: how many compute.
        **more: what else JSON can hold.

    Raises:
        FileError: the disk is full or can't be written to.
    """
    start = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": list(command),
        "seed": seed,
        **more,
        "device": _describe_device(str(device)),
        "processes": processes,
        "versions": {
            "nasnet_det": __version__,
            **{name: str(importlib.import_module(name).__version__) for name in packages},
            "python": platform.python_version(),
        },
        "git_commit": _find_commit(),
    }
    try:
        starts = read_starts(folder)
    except FileError as error:
        logger.warning("%s; it is started anew", error)
        starts = []
    write_json(Path(folder, STARTS), [*starts, start])
    write_content(Path(folder, CONFIG), config)


def record_end(folder: str | os.PathLike[str], *, num_iterations: int, reason: str) -> None:
    """Say in the last entry of ``run.json`` why the run ended, under ``end``.

    What can't be written is no second failure: it is logged.

    Args:
        folder: OUTPUT_DIR.
        num_iterations: that are done.
        reason: a sentence.
    """
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    end = {"time": time, "num_iterations": num_iterations, "reason": reason}
    try:
        starts = read_starts(folder)
        if starts:
            write_json(Path(folder, STARTS), [*starts[:-1], {**starts[-1], "end": end}])
    except FileError as error:
        logger.warning("%s; why the run ended is not recorded: %s", error, reason)


def read_starts(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The entries of ``run.json``, the newest last; none where there is no file.

    Raises:
        FileError: it is broken.
    """
    path = Path(folder, STARTS)
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))
        return [start for start in starts if isinstance(start, dict)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FileError(f"{path} can't be read as a list of starts ({reason:.200})") from None


def refuse_evaluation(folder: str | os.PathLike[str]) -> None:
    """Keep a training from overwriting what an evaluation alone has left.

    Raises:
        OutputDirError: there are results, and no training ever started here.
    """
    if Path(folder, RESULTS).exists() and not Path(folder, STARTS).exists():
        raise OutputDirError(
            f"OUTPUT_DIR {folder} holds an evaluation ({RESULTS}); give another OUTPUT_DIR"
        )


def _describe_device(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch  # a report reads the file without it

    return f"{device} ({torch.cuda.get_device_name(device)})"


def _find_commit() -> str | None:
    """The commit of the checkout that this package lies in; None outside of one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", os.fspath(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
