"""Searches with planted children, what they leave, and how they and their workers are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from planted_child import PlantedChild, read_log

from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import get_search_config
from nasnet_det.search.progress import Progress

MINIBATCH = 4
NUM_TRIALS = 18  # the last minibatch has two
OPTS = (
    f"SEARCH.NUM_TRIALS {NUM_TRIALS} SEARCH.SAMPLER.MINIBATCH {MINIBATCH} "
    "SEARCH.SPACE.NUM_BLOCKS 1 SEARCH.SPACE.COMBINERS ['add'] "
    "SEARCH.SPACE.OPERATIONS ['identity','sep_conv_3x3','max_pool_3x3'] "
    "SEARCH.CHILD.NUM_CELLS_PER_STAGE 1 SEARCH.CHILD.CHANNELS 4 SEARCH.DATA.IMAGE_SIZE 8 "
    "SEARCH.EVOLUTION.POPULATION 8 SEARCH.EVOLUTION.TOURNAMENT 3 SEARCH.NSGA2.POPULATION 6 "
    "SEARCH.PREDICTOR.NUM_STARTUP_TRIALS 3 SEARCH.PREDICTOR.NUM_CANDIDATES 8 "
    "SEARCH.PREDICTOR.NUM_MEASURED 2 "
    "SEARCH.TPE.NUM_STARTUP_TRIALS 4 SEARCH.PPO.LR 0.05 SEARCH.PRUNER.NUM_STARTUP_TRIALS 1"
).split()
# A controller that learns slowly: one that has learned proposes what was trained before, and all
# ends early.
LONG = ["SEARCH.PPO.LR", "0.001", "SEARCH.NUM_TRIALS", "200"]
TWO_PROCESSES = ["SEARCH.EXECUTOR.NAME", "local_processes", "SEARCH.EXECUTOR.NUM_WORKERS", "2"]
# How a search that is to be killed is run: whatever it needs is imported once, and each start and
# each worker is a fork of it.
RUN = """
import multiprocessing, os, sys, torch, traceback
from planted_child import PlantedChild
from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import get_search_config

def run(log, seconds, *opts):
    train = PlantedChild(log, float(seconds))
    with open_search(get_search_config(opts=opts), resume=True, train=train) as search:
        search.run()
    os._exit(0)

if __name__ == "__main__":
    torch.set_num_threads(1)  # its threads don't survive a fork
    get_context = multiprocessing.get_context
    multiprocessing.get_context = lambda method: get_context("fork")
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                run(*sys.argv[1:])
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os.setpgid(pid, pid)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
"""


def config(folder: Path, *opts: str) -> Any:
    return get_search_config(opts=[*OPTS, "OUTPUT_DIR", str(folder), *opts])


def search(folder: Path, *opts: str, resume: bool = False, **changed: Any) -> list[tuple]:
    """Run with the planted child; returns what is compared."""
    train = changed.pop("train", PlantedChild(str(folder / "log")))
    folder.mkdir(exist_ok=True)
    with open_search(config(folder, *opts), resume=resume, train=train, **changed) as opened:
        opened.run()
    return read_study(folder, opened.journal.storage)


def read_study(folder: Path, storage: str | BaseStorage = "") -> list[tuple]:
    """Everything of each trial but times."""
    return [
        (
            trial.number,
            trial.state.name,
            tuple(trial.params.items()),
            trial.values,
            {key: value for key, value in trial.user_attrs.items() if key != "seconds"},
            trial.system_attrs,
            trial.intermediate_values,
        )
        for trial in read_trials(folder, storage)
    ]


def read_trials(folder: Path, storage: str | BaseStorage = "") -> list[FrozenTrial]:
    url = storage or f"sqlite:///{folder / 'study.db'}"
    return optuna.load_study(study_name="search", storage=url).trials


def read_updates(folder: Path, storage: str | BaseStorage = "") -> dict[str, Any]:
    """What the controller's updates did, as the study has it."""
    url = storage or f"sqlite:///{folder / 'study.db'}"
    attributes = optuna.load_study(study_name="search", storage=url).user_attrs
    return {key: value for key, value in attributes.items() if key.startswith("update.")}


def read_controller(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "controller.pth", weights_only=True)["sampler"]


def is_same_controller(folder: Path, wanted: Path) -> bool:
    weights, wanted_weights = (
        read_controller(place)["ppo"]["controller"] for place in (folder, wanted)
    )
    return all(torch.equal(weights[name], wanted_weights[name]) for name in wanted_weights)


def check_same(
    folder: Path,
    wanted: Path,
    *,
    storage: str = "",
    num_trials: int = NUM_TRIALS,
    num_trainings: int | None = None,
) -> None:
    """See that two studies, their controllers and the children that were trained are the same."""
    assert read_study(folder, storage) == read_study(wanted)
    assert len(read_study(folder, storage)) == num_trials
    for place in (folder, wanted):
        assert read_controller(place)["num_learned"] == (num_trials - 1) // MINIBATCH
    assert is_same_controller(folder, wanted)
    assert read_updates(folder, storage) == read_updates(wanted)
    assert len(read_updates(wanted)) == (num_trials - 1) // MINIBATCH
    trained = read_log(folder / "log")
    assert set(trained) == set(read_log(wanted / "log"))
    if num_trainings is not None:
        assert len(trained) == num_trainings


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the search runs after it but closing."""


class WriteKiller:
    """Interrupts whatever uses Optuna's storage.

    Args:
        monkeypatch: changes the storage.

    Attributes:
        left: transactions before the next interruption.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        storage = optuna.storages.RDBStorage
        for method in (
            "create_new_trial",
            "set_trial_user_attr",
            "set_trial_system_attr",
            "set_trial_intermediate_value",
            "set_trial_state_values",
            "set_study_user_attr",
        ):
            monkeypatch.setattr(storage, method, self._count(getattr(storage, method)))

    def _count(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise Killed
            return result

        return write


def interrupt_writes(
    folder: Path, *opts: str, num_writes: int = 3, monkeypatch: pytest.MonkeyPatch
) -> list[tuple]:
    """Interrupt a search after a few transactions of its storage, until it is finished.

    Args:
        folder, opts: of the search.
        num_writes: at least so many, as a child that is finished takes 3; above 3 not always as
            many.
        monkeypatch: changes the storage.
    """
    killer = WriteKiller(monkeypatch)
    num_runs = 0
    while True:
        killer.left, num_runs = num_writes + num_runs % (num_writes - 2), num_runs + 1
        try:
            found = search(folder, *opts, resume=True)
            break
        except Killed:
            continue
    assert num_runs > 5
    return found


class WorkerKiller:
    """``on_progress`` of a search: SIGKILL for a random worker, again and again.

    Args:
        get_pids: processes of the workers.
        num_kills: in all.
    """

    def __init__(self, get_pids: Callable[[], list[int]], num_kills: int) -> None:
        self.get_pids, self.num_left = get_pids, num_kills
        self._rng = random.Random(0)

    def __call__(self, progress: Progress) -> None:
        pids = self.get_pids()
        if self.num_left and pids and self._rng.random() < 0.5:
            time.sleep(self._rng.random() / 5)
            with suppress(ProcessLookupError):  # it is just gone
                os.kill(self._rng.choice(pids), signal.SIGKILL)
                self.num_left -= 1


def search_with_killed_processes(folder: Path, *opts: str, num_kills: int) -> None:
    """Search with two local processes, one of which is killed now and then."""
    folder.mkdir()
    train = PlantedChild(str(folder / "log"), seconds=0.1)
    opts = (*TWO_PROCESSES, "SEARCH.EXECUTOR.MAX_RETRIES", str(num_kills), *opts)
    with open_search(config(folder, *opts), train=train) as opened:
        workers = opened.executor.workers  # type: ignore[attr-defined]
        killer = WorkerKiller(lambda: [worker.process.pid for worker in workers], num_kills)
        opened.on_progress = killer
        opened.run()
    assert killer.num_left == 0


def kill_and_resume(
    folder: Path,
    repository: Path,
    *opts: str,
    num_kills: int,
    storage: str = "",
    after_kill: Callable[[], None] = lambda: None,
) -> None:
    """SIGKILL for the search alone or for it and its workers, while it starts or works."""
    folder.mkdir()
    script = folder / "run.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(folder / "log"), "0.15", *OPTS]
    command += ["OUTPUT_DIR", str(folder), "SEARCH.STUDY.STORAGE", storage, *TWO_PROCESSES, *opts]
    places = (str(repository), str(repository / "tests/support"), os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    rng = random.Random(0)
    num_finished = 0
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as starter:
        assert starter.stdin
        assert starter.stdout

        def start() -> int:
            print(file=starter.stdin, flush=True)
            return int(starter.stdout.readline())

        for i in range(num_kills):
            pid = start()
            _wait_for_the_moment(pid, folder / "log", rng, in_start=i % 4 == 2)
            assert _is_running(pid), "it was finished before it was killed often enough"
            (os.killpg if rng.random() < 0.5 else os.kill)(pid, signal.SIGKILL)
            assert int(starter.stdout.readline()) == signal.SIGKILL
            assert len(find_finished(folder, storage)) >= num_finished, "what was finished stays"
            num_finished = len(find_finished(folder, storage))
            after_kill()
        assert num_finished > 0
        start()
        assert int(starter.stdout.readline()) == 0
        starter.stdin.close()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_the_moment(pid: int, log: Path, rng: random.Random, *, in_start: bool) -> None:
    if in_start:
        time.sleep(rng.uniform(0, 0.3))
        return
    before = len(read_log(log))
    while _is_running(pid) and len(read_log(log)) == before:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))


def find_finished(folder: Path, storage: str = "") -> set[int]:
    """Numbers of the trials that are finished; none where a kill came before the study."""
    try:
        return {t.number for t in read_trials(folder, storage) if t.state.is_finished()}
    except (KeyError, RuntimeError, optuna.exceptions.OptunaError):
        return set()
