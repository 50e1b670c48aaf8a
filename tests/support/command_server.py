"""A process that has imported what the commands need, and forks for each of them.

A command spends seconds on imports before it does anything. ``python command_server.py SOCKET``
connects to SOCKET, where it gets one connection for each command: its words, folder, environment
and two files for its output. On it, it answers with the number of the command's process and then,
in a second line, with its status. The processes of a training of several are forks too, where a
command of a user's spawns them.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import random
import runpy
import socket
import sys

import numpy as np
from torch import multiprocessing

PACKAGES = (
    "nasnet_det.cli.main",
    "nasnet_det.classification.session",
    "nasnet_det.detection.session",
    "nasnet_det.report",
    "nasnet_det.search.session",
)


def serve(orders: socket.socket) -> None:
    """Take connections until the other end closes."""
    minders: set[int] = set()
    while True:
        message, files, _, _ = socket.recv_fds(orders, 1, 1)
        if not message:
            return
        minders -= {pid for pid in minders if os.waitpid(pid, os.WNOHANG)[0]}
        minder = os.fork()
        if not minder:
            orders.close()
            mind(socket.socket(fileno=files[0]))
            os._exit(0)
        minders.add(minder)
        os.close(files[0])


def mind(connection: socket.socket) -> None:
    """One command, to its end."""
    message, files, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    pid = os.fork()
    if not pid:
        connection.close()
        run(**json.loads(message), files=files)
    for file in files:
        os.close(file)
    connection.sendall(b"%d\n" % pid)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def run(
    words: list[str], cwd: str, environment: dict[str, str], new_session: bool, files: list[int]
) -> None:
    """``python -m nasnet_det`` in this process, to its end."""
    if new_session:
        os.setsid()
    for place, file in enumerate(files, start=1):
        os.dup2(file, place)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    np.random.seed()
    fork = functools.partial(multiprocessing.start_processes, start_method="fork")
    multiprocessing.start_processes = fork  # type: ignore[assignment]
    sys.argv = ["nasnet_det", *words]
    runpy.run_module("nasnet_det", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    for name in PACKAGES:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(sys.argv[1])
        serve(own)
