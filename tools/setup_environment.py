"""Make the project's environment, or bring it up to date; ``make setup`` runs this.

    python tools/setup_environment.py [FOLDER]     # default: .venv

It holds the locked packages, Detectron2 and the project itself (editable). FOLDER/.setup-stamp
says what an earlier run installed, so a run with nothing to do ends at once; after a killed run it
says "unfinished", and the next run starts from nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
INSTALLER = ROOT / "nasnet_det" / "detectron2_wheel.py"
STAMPED = (LOCK, ROOT / "pyproject.toml", ROOT / "setup.py", INSTALLER, Path(__file__).resolve())
UNFINISHED = "unfinished"


class SetupError(Exception):
    """One sentence: what failed and what to do."""


def compute_digest() -> str:
    """A digest of all that decides what the environment holds."""
    digest = hashlib.sha256(str(ROOT).encode())  # an editable install knows where its source lies
    for path in STAMPED:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp(stamp: Path) -> str | None:
    """What the last run left behind, None where none did."""
    try:
        return stamp.read_text().strip()
    except FileNotFoundError:
        return None


def wait_for_other_runs() -> int:
    """Take the lock of this checkout; it is held until this process and its pip have ended.

    After ``kill -9`` pip may go on for a while and would write into the new environment.
    """
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another set-up is still running here; waiting for its end.", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks
    return descriptor


def run(lock: int, failure: str, command: Sequence[str]) -> None:
    """Run a step; its own output is the user's progress bar.

    Raises:
        SetupError: ``failure``, where the step ends with an error.
    """
    if subprocess.run(command, pass_fds=[lock], check=False).returncode:
        raise SetupError(failure)


def install(venv: Path, lock: int) -> None:
    """Install everything into an environment, locked packages first."""
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install"]
    again = "see the message above, then run the set-up again"
    # The few packages without a wheel are built with the locked setuptools, not with any newer
    # one that pip would fetch for itself.
    build = ["--use-pep517", "--no-build-isolation"]
    first = venv / ".setup-first.txt"
    first.write_text(find_entry("setuptools"))
    builder = [*pip, "--require-hashes", "-r", str(first)]
    run(lock, f"setuptools could not be installed: {again}", builder)
    locked = [*pip, "--require-hashes", *build, "-r", str(LOCK)]
    run(lock, f"the locked packages could not be installed: {again}", locked)
    project = [*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    run(lock, f"the project itself could not be installed: {again}", project)
    detectron2 = [python, "-m", "nasnet_det", "install-detectron2"]
    run(lock, "Detectron2 could not be installed: see the line above", detectron2)


def find_entry(package: str) -> str:
    """A package's line in the lock, with its hashes."""
    entry = re.search(rf"^{package}==(.*\\\n)*.*\n", LOCK.read_text(), re.MULTILINE)
    if entry is None:
        raise SetupError(f"requirements.lock names no {package}: make it again with `make lock`")
    return entry.group()


def check_python() -> None:
    """Raise SetupError unless this Python is one that the lock is made for."""
    if not (3, 10) <= sys.version_info[:2] < (3, 14):
        version = ".".join(str(part) for part in sys.version_info[:3])
        raise SetupError(
            f"Python 3.10 to 3.13 is needed and {sys.executable} is {version}: "
            "name another one, as in `make setup PYTHON=python3.12`"
        )


def set_up(venv: Path, lock: int) -> None:
    """Make the environment, or update one that a finished run made.

    A new one is removed again where a step fails; an older one stays as pip left it.
    """
    stamp = venv / ".setup-stamp"
    found = read_stamp(stamp)
    digest = compute_digest()
    if found == digest:
        print(f"{venv} is up to date.")
        return
    if found == UNFINISHED:
        print(f"Removing {venv}, which an earlier run left unfinished.", flush=True)
        shutil.rmtree(venv)
    is_new = not venv.exists() or not any(venv.iterdir())
    if not is_new and not (venv / "bin" / "python").exists():
        raise SetupError(f"{venv} is no Python environment: remove it or name another folder")
    try:
        if is_new:
            check_python()
            venv.mkdir(parents=True, exist_ok=True)
            stamp.write_text(UNFINISHED)
            command = [sys.executable, "-m", "venv", str(venv)]
            run(lock, f"{sys.executable} could not make {venv}: see the message above", command)
        elif found:
            stamp.write_text(UNFINISHED)
        install(venv, lock)
        stamp.write_text(digest + "\n")
    except (Exception, KeyboardInterrupt):
        if is_new:
            shutil.rmtree(venv, ignore_errors=True)
        elif found:
            with contextlib.suppress(OSError):
                stamp.write_text(found)
        raise
    print(f"{venv} is ready.")


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0, or 1 and a sentence after a failure."""
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        print("usage: python tools/setup_environment.py [FOLDER]", file=sys.stderr)
        return 2
    try:
        set_up(Path(arguments[0] if arguments else ".venv"), wait_for_other_runs())
    except SetupError as error:
        print(f"Set-up stopped: {error}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Set-up stopped: {error}; mend that and run it again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Set-up interrupted; run it again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
