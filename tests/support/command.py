"""The command ``nasnet-det`` as a user starts it, from whatever folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "nasnet_det"]


def start_command(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start it on one thread; standard output and error are pipes unless given."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | ENVIRONMENT | options.pop("env", {})
    given = {**pipes, "text": True, **options}
    return subprocess.Popen([*COMMAND, *map(str, words)], env=environment, **given)


def run_command(
    *words: object, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with start_command(*words, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_without(package: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run it where a package can't be imported."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from nasnet_det.cli.main import main; sys.exit(main({[str(word) for word in words]!r}))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
