"""Executors: one result for each job, in one process or several, and when workers are killed."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from planted_child import PlantedChild, read_log

from nasnet_det.search import local_processes
from nasnet_det.search.child import ChildRecipe, ChildTrainer
from nasnet_det.search.config import get_search_config
from nasnet_det.search.data import DataSource
from nasnet_det.search.devices import DeviceError, ExecutorError, find_devices
from nasnet_det.search.executors import Executor, InProcess, build_executor
from nasnet_det.search.job import ChildJob, ChildResult, TrainChild
from nasnet_det.search.local_processes import LocalProcesses
from nasnet_det.space import SearchSpace

JOBS = [ChildJob(n, (n % 3, 1), seed=n + 1) for n in range(6)]


def die(job: ChildJob, device: str) -> ChildResult:
    """A child that takes its worker with it."""
    if job.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return ChildResult(job.number, 0.5, "", 0.0)


def never_start() -> None:
    """Unpickled in a worker instead of a function."""
    os._exit(3)


class _NeverStarts:
    def __reduce__(self) -> tuple[object, tuple[()]]:
        return never_start, ()


def name_device(job: ChildJob, device: str) -> ChildResult:
    return ChildResult(job.number, None, f"{device} {os.getpid()}", 0.0)


@pytest.fixture
def opened() -> Iterator[list[Executor]]:
    """Executors to be closed at the end, whatever happens."""
    executors: list[Executor] = []
    yield executors
    for executor in executors:
        executor.close()


def test_processes_give_the_results_of_one_process(tmp_path: Path, opened: list[Executor]) -> None:
    train = PlantedChild(str(tmp_path / "log"))
    wanted = list(InProcess(train).run(JOBS))
    assert [result.number for result in wanted] == list(range(6))
    processes = LocalProcesses(train, ["cpu", "cpu"])
    opened.append(processes)
    for _ in range(2):  # the workers stay between minibatches
        assert sorted(processes.run(JOBS), key=lambda result: result.number) == wanted
    pids = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(pids) == 3


@pytest.mark.parametrize("kind", [InProcess, LocalProcesses])
def test_jobs_are_taken_when_a_worker_is_free_and_knows_all_results(
    kind: type[InProcess] | type[LocalProcesses], tmp_path: Path, opened: list[Executor]
) -> None:
    executor = kind(PlantedChild(str(tmp_path / "log")))
    opened.append(executor)
    received: list[int] = []

    def make_jobs() -> Iterator[ChildJob]:
        for job in JOBS:
            assert received == [earlier.number for earlier in JOBS[: job.number]]
            yield job

    for result in executor.run(make_jobs()):
        received.append(result.number)
    assert received == [job.number for job in JOBS]


def test_worker_without_a_job_is_asked_again_after_the_next_result(
    tmp_path: Path, opened: list[Executor]
) -> None:
    executor = LocalProcesses(PlantedChild(str(tmp_path / "log")), ["cpu", "cpu"])
    opened.append(executor)
    jobs = [JOBS[0], None, JOBS[1], JOBS[2], None, JOBS[3]]
    assert sorted(result.number for result in executor.run(jobs)) == [0, 1, 2, 3]


def test_each_worker_has_its_device(opened: list[Executor]) -> None:
    processes = LocalProcesses(name_device, ["cpu", "cuda:0"])
    opened.append(processes)
    seen = {result.failure for result in processes.run(JOBS * 5)}
    assert {text.split()[0] for text in seen} == {"cpu", "cuda:0"}
    assert len(seen) == 2


def test_child_that_kills_its_workers_fails_and_the_others_do_not(opened: list[Executor]) -> None:
    processes = LocalProcesses(die, ["cpu"], max_retries=1)
    opened.append(processes)
    results = {result.number: result for result in processes.run(JOBS[:4])}
    assert results[2].failure == (
        "its worker was lost 2 times, the last: its process ended with SIGKILL"
    )
    assert results[2].reward is None
    assert [results[n].reward for n in (0, 1, 3)] == [0.5] * 3


def test_killed_workers_lose_and_double_nothing(tmp_path: Path, opened: list[Executor]) -> None:
    """Workers are killed idle, while they start and while they train."""
    _kill_workers(tmp_path, opened, num_kills=3, num_jobs=16)


@pytest.mark.slow
def test_twenty_killed_workers_lose_and_double_nothing(
    tmp_path: Path, opened: list[Executor]
) -> None:
    _kill_workers(tmp_path, opened, num_kills=20, num_jobs=120)


def _kill_workers(folder: Path, opened: list[Executor], num_kills: int, num_jobs: int) -> None:
    rng = random.Random(0)
    train = PlantedChild(str(folder / "log"), seconds=0.1)
    processes = LocalProcesses(train, ["cpu", "cpu"], max_retries=num_kills)
    opened.append(processes)
    jobs = [ChildJob(n, (0, 1), seed=1) for n in range(num_jobs)]
    results: list[int] = []
    killed = 0
    for part in (jobs[: num_jobs // 2], jobs[num_jobs // 2 :]):
        for result in processes.run(part):
            results.append(result.number)
            if killed < num_kills and rng.random() < 0.5:
                time.sleep(rng.random() / 5)
                processes.workers[rng.randrange(2)].process.kill()
                killed += 1
    assert killed == num_kills
    assert sorted(results) == list(range(num_jobs))
    assert set(read_log(folder / "log")) == set(range(num_jobs))


def test_workers_that_can_not_start_are_one_sentence(
    opened: list[Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_processes, "MAX_FAILED_STARTS", 1)
    processes = LocalProcesses(_NeverStarts(), ["cpu"])  # type: ignore[arg-type]
    opened.append(processes)
    with pytest.raises(ExecutorError, match="2 worker processes one after another ended before"):
        list(processes.run(JOBS))


# ---- Devices that break, and children that hang: workers are threads here, which start at once


class _Thread:
    """Stands for a process."""

    exitcode = 1

    def __init__(self, connection: Connection, train: TrainChild, device: str) -> None:
        def run() -> None:
            with suppress(EOFError, OSError):
                local_processes.serve(connection, train, device)
            connection.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def join(self, timeout: float = 0.0) -> None:
        pass

    def kill(self) -> None:
        pass


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: LocalProcesses, device: str) -> tuple[_Thread, Connection]:
        here, there = multiprocessing.Pipe()
        return _Thread(there, self.train, device), here

    monkeypatch.setattr(LocalProcesses, "_start_process", start)


def break_on(*devices: str, numbers: Collection[int] = range(100)) -> TrainChild:
    """Training that breaks some devices, by some children."""

    def train(job: ChildJob, device: str) -> ChildResult:
        if device in devices and job.number in numbers:
            raise DeviceError(f"{device} computes no more")
        time.sleep(0.005)
        return ChildResult(job.number, 0.5, "", 0.0)

    return train


def test_broken_device_costs_no_child_and_is_given_up(
    threads: None, opened: list[Executor], caplog: pytest.LogCaptureFixture
) -> None:
    executor = LocalProcesses(break_on("cuda:1"), ["cuda:0", "cuda:1"])
    opened.append(executor)
    jobs = [ChildJob(n, (0, 1), seed=1) for n in range(80)]
    results = [*executor.run(jobs[:40]), *executor.run(jobs[40:])]
    assert sorted(result.number for result in results) == list(range(80))
    assert {result.reward for result in results} == {0.5}
    assert caplog.messages == ["a worker on cuda:1 is given up: cuda:1 computes no more"]


def test_last_child_goes_to_the_device_that_it_was_not_lost_on(
    threads: None, opened: list[Executor]
) -> None:
    executor = LocalProcesses(break_on("cuda:0"), ["cuda:0", "cuda:0", "cuda:1"])
    opened.append(executor)
    assert [result.reward for result in executor.run(JOBS[:1])] == [0.5]


@pytest.mark.parametrize("num_workers", [1, 4])
def test_search_stops_where_nothing_gets_through(
    num_workers: int, threads: None, opened: list[Executor]
) -> None:
    executor = LocalProcesses(break_on("cuda:0"), ["cuda:0"] * num_workers)
    opened.append(executor)
    results: list[ChildResult] = []
    sentence = (
        rf"^{num_workers + 2} children one after another were lost with their workers, most often: "
        r"cuda:0 computes no more; .* go on with --resume$"
    )
    with pytest.raises(ExecutorError, match=sentence):
        results.extend(executor.run(JOBS))
    assert results == [], "no child is to blame"


def test_child_that_breaks_devices_is_to_blame_where_others_get_through(
    threads: None, opened: list[Executor]
) -> None:
    devices = ["cuda:0", "cuda:1"]
    executor = LocalProcesses(break_on(*devices, numbers=[2]), devices, max_retries=2)
    opened.append(executor)
    results = {result.number: result for result in executor.run(JOBS)}
    assert [results[n].reward for n in range(6)] == [0.5, 0.5, None, 0.5, 0.5, 0.5]
    failure = results[2].failure
    assert failure.startswith("its worker was lost 3 times, the last: cuda:")


def test_worker_that_can_not_start_says_why(opened: list[Executor], threads: None) -> None:
    missing = DataSource("/nowhere/at/all.npz")
    trainer = ChildTrainer(ChildRecipe(), SearchSpace(), missing)
    executor = LocalProcesses(trainer, ["cpu"])
    opened.append(executor)
    with pytest.raises(ExecutorError, match=r"can be started on cpu: .*/nowhere/at/all.npz"):
        list(executor.run(JOBS))


def test_hung_child_ends_at_its_time_limit(
    threads: None, opened: list[Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_processes, "GRACE_S", 0.1)
    over = threading.Event()

    def hang(job: ChildJob, device: str) -> ChildResult:
        if job.number == 1:
            over.wait(60)
        return ChildResult(job.number, 0.5, "", 0.0)

    executor = LocalProcesses(hang, ["cpu"])
    opened.append(executor)
    jobs = [dataclasses.replace(job, time_limit_s=0.2) for job in JOBS[:3]]
    results = {result.number: result for result in executor.run(jobs)}
    over.set()
    assert [results[n].reward for n in range(3)] == [0.5, None, 0.5]
    assert results[1].failure == "out of time: it hung, 0 s with a limit of 0.2 s"


def test_workers_end_with_a_killed_search(tmp_path: Path, repository: Path) -> None:
    code = (
        "from planted_child import PlantedChild\n"
        "from nasnet_det.search.executors import LocalProcesses\n"
        "from nasnet_det.search.job import ChildJob\n"
        "if __name__ == '__main__':\n"
        f"    e = LocalProcesses(PlantedChild({str(tmp_path / 'log')!r}, 0.5), ['cpu', 'cpu'])\n"
        "    for r in e.run([ChildJob(n, (0,), n + 1) for n in range(1000)]):\n"
        "        print(*[w.process.pid for w in e.workers], flush=True)\n"
    )
    script = tmp_path / "search_like.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests/support'}"}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(_is_alive, workers)):
        assert time.monotonic() < deadline, "a worker outlived its search"
        time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and ") Z " in stat.read_text())


# ---- Choosing one


def test_devices_are_shared_out_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_devices("cpu", 3) == ["cpu"] * 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_devices("auto", 0) == ["cuda:0", "cuda:1"]
    assert find_devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert find_devices("cuda:1", 2) == ["cuda:1"] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert set(find_devices("auto", 0)) == {"cpu"}


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("NAME local_proceses", "unknown executor 'local_proceses', did you mean 'local_process"),
        ("DEVICE cpuu", "SEARCH.EXECUTOR.DEVICE: unknown device 'cpuu', did you mean 'cpu'"),
        ("NAME local_processes SEARCH.EXECUTOR.NUM_WORKERS -1", "NUM_WORKERS: wanted 0 or more"),
        ("NAME local_processes SEARCH.EXECUTOR.MAX_RETRIES -1", "0 or more retries, got .* and -1"),
    ],
)
def test_impossible_executor_is_one_sentence(opts: str, sentence: str) -> None:
    cfg = get_search_config(opts=f"SEARCH.EXECUTOR.{opts}".split())
    with pytest.raises(ExecutorError, match=sentence):
        build_executor(cfg, name_device)


def test_missing_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "nasnet_det.search.ray_executor", raising=False)
    cfg = get_search_config(opts=["SEARCH.EXECUTOR.NAME", "ray"])
    with pytest.raises(ExecutorError, match=r"not installed \(pip install 'nasnet-det\[ray\]'\)$"):
        build_executor(cfg, name_device)


def test_missing_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExecutorError, match="wanted a CUDA GPU, but torch finds none"):
        find_devices("cuda", 0)


def test_every_key_of_local_processes_reaches_them() -> None:
    text = "NAME local_processes SEARCH.EXECUTOR.NUM_WORKERS 3 SEARCH.EXECUTOR.MAX_RETRIES 5"
    opts = f"SEARCH.EXECUTOR.DEVICE cpu SEARCH.EXECUTOR.{text}".split()
    executor = build_executor(get_search_config(opts=opts), name_device)
    assert isinstance(executor, LocalProcesses)
    assert (executor.devices, executor.max_retries) == (("cpu",) * 3, 5)
