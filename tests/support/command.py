"""The command ``nasnet-det`` as a user starts it, from whatever folder."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("command_server.py")
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
    """Run it to its end, in a process of its own that need not import anything first.

    With ``options`` of :func:`start_command` other than ``cwd`` it is a new interpreter.
    """
    if not options.keys() <= {"cwd"}:
        with start_command(*words, **options) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    order = {
        "words": list(map(str, words)),
        "cwd": str(options.get("cwd") or Path.cwd()),
        "environment": os.environ | ENVIRONMENT,
    }
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        status = _run_in_server(order, [output, errors], timeout)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess([*COMMAND, *order["words"]], status, *texts)


def _run_in_server(order: dict[str, Any], files: list[BinaryIO], timeout: float) -> int:
    connection = _start_server()
    socket.send_fds(connection, [json.dumps(order).encode()], [file.fileno() for file in files])
    with connection.makefile() as answers:
        pid = int(answers.readline())
        connection.settimeout(timeout)
        try:
            return int(answers.readline())
        except TimeoutError as error:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(order["words"], timeout) from error
        finally:
            connection.settimeout(None)


@cache
def _start_server() -> socket.socket:
    """The other end of the server that this process has; it ends with it."""
    folder = tempfile.TemporaryDirectory()
    path = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        command = [sys.executable, str(SERVER), path]
        process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, cwd=REPOSITORY)
        connection, _ = listener.accept()

    def stop() -> None:
        connection.close()
        process.wait()
        folder.cleanup()

    atexit.register(stop)
    return connection


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
