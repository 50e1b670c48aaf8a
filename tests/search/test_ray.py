"""Children on Ray: what one process finds, with workers and machines that are lost."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_child import PlantedChild, read_log
from planted_search import (
    LONG,
    OPTS,
    WorkerKiller,
    check_same,
    config,
    is_same_controller,
    kill_and_resume,
    read_study,
    search,
)

from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import get_search_config
from nasnet_det.search.devices import ExecutorError
from nasnet_det.search.executors import build_executor
from nasnet_det.search.job import ChildJob, ChildResult

if importlib.util.find_spec("ray") is None:
    pytest.skip("no Ray (pip install 'nasnet-det[ray]')", allow_module_level=True)

from nasnet_det.search import ray_executor
from nasnet_det.search.ray_executor import RayActors

ray = ray_executor.ray  # imported there, after what makes it silent

RAY = ["SEARCH.EXECUTOR.NAME", "ray", "SEARCH.EXECUTOR.NUM_WORKERS", "2"]
JOBS = [ChildJob(n, (n % 3, 1), seed=n + 1) for n in range(6)]


def die(job: ChildJob, device: str) -> ChildResult:
    """A child that takes its worker with it."""
    if job.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return ChildResult(job.number, 0.5, "", 0.0)


def name_device(job: ChildJob, device: str) -> ChildResult:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return ChildResult(job.number, None, f"{device} {gpus} {os.getpid()}", 0.0)


def fail_on_load() -> None:
    raise RuntimeError("this machine lacks something")


class _NeverStarts:
    def __reduce__(self) -> tuple[object, tuple[()]]:
        return fail_on_load, ()


def find_places(repository: Path) -> str:
    """PYTHONPATH with the project and these tests, for Ray's own processes."""
    places = (str(repository), str(repository / "tests/support"), os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(places)


@pytest.fixture(scope="module")
def cluster(repository: Path) -> Iterator[str]:
    """The address of a cluster of another process, with two cores and what Ray takes for a GPU."""
    code = (
        "import ray, sys; ray.init(address='local', num_cpus=2, num_gpus=1, log_to_driver=False,"
        " include_dashboard=False); print(ray.get_runtime_context().gcs_address, flush=True);"
        " sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        # Ray 2.60 would ask who connects for a token, of which we know nothing.
        env={**os.environ, "PYTHONPATH": find_places(repository), "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture
def opened() -> Iterator[list[RayActors]]:
    """Executors to be closed at the end, whatever happens."""
    executors: list[RayActors] = []
    yield executors
    for executor in executors:
        executor.close()


def find_pids(executor: Any) -> list[int]:
    """The workers' processes, of those that have started."""
    places = [worker.place for worker in executor.workers if worker.place]
    return [int(re.findall(r"process (\d+) on ", place)[0]) for place in places]


# ---- The same search


def test_search_on_a_cluster_of_its_own_finds_what_one_process_finds(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Real children, whose images travel: their file is gone before the first is trained."""
    images = tmp_path / "images.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    small = ["SEARCH.NUM_TRIALS", "6", "SEARCH.CHILD.EPOCHS", "2", "SEARCH.CHILD.BATCH_SIZE", "16"]
    small += ["SEARCH.DATA.NUM_HELD_OUT", "30", "SEARCH.DATA.UPSAMPLED_SIZE", "10"]
    small += ["SEARCH.DATA.PATH", str(images)]
    for name, executor in (("plain", []), ("ray", RAY)):
        np.savez(images, x_train=pixels, y_train=np.arange(90) % 3)
        with open_search(config(tmp_path / name, *small, *executor)) as opened:
            assert ray.is_initialized() == (name == "ray")
            images.unlink()
            opened.run()
    assert read_study(tmp_path / "ray") == read_study(tmp_path / "plain")
    assert len({trial[3][0] for trial in read_study(tmp_path / "ray")}) > 1
    assert is_same_controller(tmp_path / "ray", tmp_path / "plain")
    assert not ray.is_initialized(), "the cluster has ended with the search"
    assert capfd.readouterr() == ("", ""), "Ray is silent"


def test_search_whose_workers_are_killed_finds_the_same(tmp_path: Path, cluster: str) -> None:
    search(tmp_path / "plain")
    _search_with_killed_workers(tmp_path / "killed", cluster, num_kills=2)
    check_same(tmp_path / "killed", tmp_path / "plain")


@pytest.mark.slow
def test_search_whose_workers_are_killed_twenty_times_finds_the_same(
    tmp_path: Path, cluster: str
) -> None:
    search(tmp_path / "plain", *LONG)
    _search_with_killed_workers(tmp_path / "killed", cluster, *LONG, num_kills=20)
    check_same(tmp_path / "killed", tmp_path / "plain", num_trials=200)


def _search_with_killed_workers(folder: Path, cluster: str, *opts: str, num_kills: int) -> None:
    folder.mkdir()
    opts = (*RAY, "SEARCH.EXECUTOR.RAY.ADDRESS", cluster, *opts)
    opts += ("SEARCH.EXECUTOR.MAX_RETRIES", str(num_kills))
    train = PlantedChild(str(folder / "log"), seconds=0.1)
    with open_search(config(folder, *opts), train=train) as opened:
        killer = WorkerKiller(lambda: find_pids(opened.executor), num_kills)
        opened.on_progress = killer
        opened.run()
    assert killer.num_left == 0


@pytest.mark.slow
def test_search_killed_at_random_moments_continues_exactly(
    tmp_path: Path, repository: Path
) -> None:
    """Its cluster ends with it, however it ended."""
    opts = (*LONG, "SEARCH.NUM_TRIALS", "40")
    search(tmp_path / "plain", *opts)
    kill_and_resume(tmp_path / "killed", repository, *opts, *RAY, num_kills=4)
    check_same(tmp_path / "killed", tmp_path / "plain", num_trials=40)
    workers = {
        int(line.split()[1]) for line in (tmp_path / "killed" / "log").read_text().splitlines()
    }
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its search"
        time.sleep(0.1)


# ---- The executor


def test_workers_stay_and_a_cluster_that_was_there_too(
    tmp_path: Path, cluster: str, opened: list[RayActors]
) -> None:
    train = PlantedChild(str(tmp_path / "log"))
    for num_executors in (1, 2):
        executor = RayActors(train, address=cluster)
        opened.append(executor)
        assert executor.num_workers == 2, "all that there is room for"
        for _ in range(2):
            numbers = sorted(result.number for result in executor.run(JOBS))
            assert numbers == [job.number for job in JOBS]
        executor.close()
        pids = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
        assert len(pids) <= 2 * num_executors


def test_child_that_kills_its_workers_fails_and_the_others_do_not(
    cluster: str, opened: list[RayActors]
) -> None:
    executor = RayActors(die, 2, address=cluster, max_retries=1)
    opened.append(executor)
    results = {result.number: result for result in executor.run(JOBS)}
    assert results[2].failure.startswith("its worker was lost 2 times, the last: The actor is dead")
    assert results[2].reward is None
    assert [results[n].reward for n in (0, 1, 3, 4, 5)] == [0.5] * 5


def test_workers_that_share_a_gpu_are_told_which(cluster: str, opened: list[RayActors]) -> None:
    executor = RayActors(name_device, address=cluster, cpus_per_child=0.5, gpus_per_child=0.5)
    opened.append(executor)
    assert executor.num_workers == 2
    seen = {result.failure for result in executor.run(JOBS * 5)}
    assert {text.rsplit(" ", 1)[0] for text in seen} == {"cuda 0"}


def test_workers_that_can_not_start_are_one_sentence(
    cluster: str, opened: list[RayActors], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "MAX_FAILED_STARTS", 1)
    executor = RayActors(_NeverStarts(), 1, address=cluster)  # type: ignore[arg-type]
    opened.append(executor)
    with pytest.raises(ExecutorError, match="2 Ray workers .* RuntimeError: this machine lacks"):
        list(executor.run(JOBS))


def test_what_is_no_childs_failure_ends_the_search(cluster: str, opened: list[RayActors]) -> None:
    executor = RayActors(_raise, 1, address=cluster)
    opened.append(executor)
    with pytest.raises(ZeroDivisionError, match="^planted$"):
        list(executor.run(JOBS))


def _raise(job: ChildJob, device: str) -> ChildResult:
    raise ZeroDivisionError("planted")


@pytest.mark.slow
def test_child_of_a_lost_machine_is_trained_on_another(
    repository: Path, tmp_path: Path, opened: list[RayActors], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", find_places(repository))

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        train = PlantedChild(str(tmp_path / "log"), seconds=0.5)
        executor = RayActors(train, address=cluster.address)
        opened.append(executor)
        assert executor.num_workers == 2
        numbers = []
        for result in executor.run(JOBS):
            numbers.append(result.number)
            if len(numbers) == 2:
                cluster.remove_node(nodes[0])
        assert sorted(numbers) == [job.number for job in JOBS]
        assert set(read_log(tmp_path / "log")) == set(numbers)
        executor.close()
    finally:
        cluster.shutdown()


# ---- Choosing it


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (
            "RAY.GPUS_PER_CHILD 1",
            r"wanted 1 CPUs and 1 GPUs for a child, the cluster has \d+ and 0",
        ),
        ("RAY.GPUS_PER_CHILD 2", "more than 0 CPUs and 0 to 1 GPUs for a child, got 1 and 2"),
        ("RAY.CPUS_PER_CHILD 0", "more than 0 CPUs and 0 to 1 GPUs for a child, got 0 and 0"),
        ("NUM_WORKERS -1", "SEARCH.EXECUTOR: wanted 0 or more workers and retries, got -1 and 3"),
        ("MAX_RETRIES -1", "SEARCH.EXECUTOR: wanted 0 or more workers and retries, got 0 and -1"),
        ("DEVICE cuda", "DEVICE: with .*GPUS_PER_CHILD 0 wanted auto or cpu, got 'cuda'"),
        (
            "RAY.ADDRESS 127.0.0.1:1",
            "ADDRESS: no Ray cluster can be used at '127.0.0.1:1' ([^\n]*)",
        ),
    ],
)
def test_impossible_executor_is_one_sentence(opts: str, sentence: str) -> None:
    key, value = opts.split()
    cfg = get_search_config(opts=[*OPTS, *RAY[:2], f"SEARCH.EXECUTOR.{key}", value])
    with pytest.raises(ExecutorError, match=f"{sentence}$"):
        build_executor(cfg, name_device)
    assert not ray.is_initialized()


def test_every_key_reaches_what_it_is_for(cluster: str, opened: list[RayActors]) -> None:
    text = (
        "NAME ray SEARCH.EXECUTOR.NUM_WORKERS 5 SEARCH.EXECUTOR.MAX_RETRIES 4 "
        "SEARCH.EXECUTOR.DEVICE cuda SEARCH.EXECUTOR.RAY.CPUS_PER_CHILD 2 "
        f"SEARCH.EXECUTOR.RAY.GPUS_PER_CHILD 0.25 SEARCH.EXECUTOR.RAY.ADDRESS {cluster}"
    )
    executor = build_executor(
        get_search_config(opts=f"SEARCH.EXECUTOR.{text}".split()), name_device
    )
    assert isinstance(executor, RayActors)
    opened.append(executor)
    assert (executor.num_workers, executor.max_retries, executor.device) == (5, 4, "cuda")
    assert executor.resources == {"CPU": 2.0, "GPU": 0.25}
    assert ray.get_runtime_context().gcs_address == cluster
