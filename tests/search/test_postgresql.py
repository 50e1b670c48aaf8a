"""Searches whose study is in PostgreSQL, with a server that is started here."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted_child import PlantedChild
from planted_search import (
    LONG,
    check_same,
    config,
    kill_and_resume,
    search,
    search_with_killed_processes,
)

from nasnet_det.search.assemble import open_search
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.storage import StudyError, open_storage

if importlib.util.find_spec("psycopg") is None:
    pytest.skip("no psycopg (pip install 'nasnet-det[postgresql]')", allow_module_level=True)


class Server:
    """A PostgreSQL server in a folder, reached through a socket there."""

    def __init__(self, programs: Path, folder: Path, user: str) -> None:
        self.programs, self.folder, self.user = programs, folder, user
        self._run("initdb", "--auth=trust", "--username=search", "--no-sync")
        self.start()

    def start(self) -> None:
        # No port, and what is written survives the death of its processes, not of the machine.
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "--wait", "-o", options, "--log", log)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=fast")

    def create_database(self, name: str) -> str:
        """A new database; returns its URL."""
        self._run("createdb", "-h", str(self.folder), "-U", "search", name)
        return f"postgresql+psycopg://search@/{name}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        place = [] if program == "createdb" else ["--pgdata", str(self.folder / "data")]
        subprocess.run(
            [self.programs / program, *place, *arguments],
            user=self.user or None,  # it refuses to run as root
            cwd=self.folder,
            stdout=subprocess.DEVNULL,  # the server inherits it
            check=True,
        )


def find_programs() -> Path | None:
    """The folder of PostgreSQL's programs; distributions keep some of them out of PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").is_file()), None)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    programs, user = find_programs(), ""
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine")
    with tempfile.TemporaryDirectory() as folder:  # pytest's are closed to other users
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, user)
        server = Server(programs, Path(folder), user)
        yield server
        server.stop()


def test_search_whose_workers_are_killed_finds_the_same(server: Server, tmp_path: Path) -> None:
    url = server.create_database("workers")
    search(tmp_path / "plain")
    search_with_killed_processes(tmp_path / "killed", "SEARCH.STUDY.STORAGE", url, num_kills=2)
    check_same(tmp_path / "killed", tmp_path / "plain", storage=url)


def test_search_killed_at_random_moments_continues_exactly(
    server: Server, tmp_path: Path, repository: Path
) -> None:
    url = server.create_database("kills")
    search(tmp_path / "plain")
    kill_and_resume(tmp_path / "killed", repository, num_kills=1, storage=url)
    check_same(tmp_path / "killed", tmp_path / "plain", storage=url)


@pytest.mark.slow
def test_twenty_kills_of_workers_and_of_the_search_change_nothing(
    server: Server, tmp_path: Path, repository: Path
) -> None:
    search(tmp_path / "plain", *LONG)
    url = server.create_database("many_workers")
    opts = (*LONG, "SEARCH.STUDY.STORAGE", url)
    search_with_killed_processes(tmp_path / "workers", *opts, num_kills=20)
    check_same(tmp_path / "workers", tmp_path / "plain", storage=url, num_trials=200)
    url = server.create_database("many_kills")
    kill_and_resume(tmp_path / "killed", repository, *LONG, num_kills=20, storage=url)
    check_same(tmp_path / "killed", tmp_path / "plain", storage=url, num_trials=200)


def test_server_that_restarts_between_two_children_is_not_noticed(
    server: Server, tmp_path: Path
) -> None:
    class Restarting(PlantedChild):
        def __call__(self, job: ChildJob, device: str) -> ChildResult:
            if job.number == 5:
                server.stop()
                server.start()
            return super().__call__(job, device)

    url = server.create_database("restarts")
    search(tmp_path / "plain")
    train = Restarting(str(tmp_path / "log"))
    with open_search(config(tmp_path, "SEARCH.STUDY.STORAGE", url), train=train) as opened:
        opened.run()
    check_same(tmp_path, tmp_path / "plain", storage=url)


def test_server_that_is_not_there_is_one_sentence() -> None:
    url = "postgresql+psycopg://me:secret@localhost:1/search"
    with pytest.raises(StudyError, match="SEARCH.STUDY.STORAGE: .*can't be used .*refused") as info:
        open_storage(url)
    assert "\n" not in str(info.value)
    assert "secret" not in str(info.value)
