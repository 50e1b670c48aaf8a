"""The command ``nasnet-det`` as a user starts it, from whatever folder."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

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


class ForkedCommand:
    """The command on one thread, in a process of its own that need not import anything first.

    Args:
        *words: of the command line.
        stdout, stderr: files, temporary ones if none are given.
        cwd: its folder; none for that of the tests.
        env: variables besides those of the tests.
        start_new_session: whether it and what it starts are a group of processes.

    Attributes:
        pid: of the process.
        returncode: its status once it has ended, minus the number of the signal that ended it.
    """

    def __init__(
        self,
        *words: object,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        cwd: Path | str = "",
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.args = [*COMMAND, *map(str, words)]
        self.returncode: int | None = None
        self._files = [file or _open_temporary() for file in (stdout, stderr)]
        order = {
            "words": list(map(str, words)),
            "cwd": str(cwd or Path.cwd()),
            "environment": os.environ | ENVIRONMENT | (env or {}),
            "new_session": start_new_session,
        }
        connection, other = socket.socketpair()
        with other:
            socket.send_fds(_start_server(), [b"."], [other.fileno()])
        files = [file.fileno() for file in self._files]
        socket.send_fds(connection, [json.dumps(order).encode()], files)
        self._answers = connection.makefile("rb", buffering=0)
        connection.close()
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """The status, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The status with which it ends.

        Raises:
            TimeoutExpired: it runs longer than so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What stands in the temporary files when it has ended.

        Raises:
            TimeoutExpired: it runs longer than so many seconds.
        """
        self.wait(timeout)
        for file in self._files:
            file.seek(0)
        output, errors = (file.read() for file in self._files)
        return output, errors

    def send_signal(self, number: int) -> None:
        """A signal for the process alone, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, which nothing can answer."""
        self.send_signal(signal.SIGKILL)


def _open_temporary() -> IO[str]:
    return tempfile.TemporaryFile("w+")


def run_command(
    *words: object, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, as a :class:`ForkedCommand`.

    With ``options`` of :func:`start_command` other than ``cwd`` it is a new interpreter.
    """
    start = ForkedCommand if options.keys() <= {"cwd"} else start_command
    process = start(*words, **options)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


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
