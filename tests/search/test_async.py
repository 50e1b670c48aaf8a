"""The asynchronous search: learning as results come, workers that never wait, and kills."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial
from planted_child import PlantedChild, read_log
from planted_search import (
    LONG,
    MINIBATCH,
    NUM_TRIALS,
    OPTS,
    config,
    find_finished,
    interrupt_writes,
    is_same_controller,
    kill_and_resume,
    read_controller,
    read_study,
    read_trials,
    search,
)

from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import build_ppo, build_space, get_search_config
from nasnet_det.search.controller_sampler import AsyncControllerSampler
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.samplers import SAMPLERS
from nasnet_det.search.space_sampler import SpaceSampler
from nasnet_det.search.study import Search
from nasnet_det.search.trials import params_to_choices
from nasnet_det.space import Choices

ASYNC = ["SEARCH.ASYNCHRONOUS", "True"]
IN_PROCESS = ["SEARCH.EXECUTOR.NAME", "in_process"]
LARGER = ["SEARCH.SPACE.NUM_BLOCKS", "2"]  # a space where few proposals are the same


class Shuffled:
    """An executor of some workers, of which any may be the next to finish."""

    def __init__(self, search: Search, train: PlantedChild, num_workers: int = 3) -> None:
        self.search, self.train, self.num_workers = search, train, num_workers
        self.num_busy: list[int] = []  # when each result came
        self.num_finished: dict[int, int] = {}  # when a trial was given to a worker

    def run(self, jobs: Iterable[ChildJob | None]) -> Iterator[ChildResult]:
        rng = random.Random(0)
        jobs, busy = iter(jobs), list[ChildJob]()
        while True:
            while len(busy) < self.num_workers and (job := next(jobs, None)) is not None:
                trials = self.search.journal.trials.values()
                self.num_finished[job.number] = sum(t.state.is_finished() for t in trials)
                busy.append(job)
            if not busy:
                return
            self.num_busy.append(len(busy))
            yield self.train(busy.pop(rng.randrange(len(busy))), "cpu")

    def close(self) -> None:
        pass


def search_shuffled(folder: Path, *opts: str) -> Shuffled:
    train = PlantedChild(str(folder / "log"))
    with open_search(config(folder, *ASYNC, *opts), train=train) as opened:
        opened.executor = executor = Shuffled(opened, train)
        opened.run()
    return executor


def check_finished(folder: Path, num_trials: int = NUM_TRIALS) -> list[FrozenTrial]:
    """See that every trial is finished, once; returns them in this order."""
    trials = read_trials(folder)
    assert [trial.number for trial in trials] == list(range(num_trials))
    assert all(trial.state.is_finished() for trial in trials)
    in_order = sorted(trials, key=lambda trial: trial.user_attrs["order"])
    assert [trial.user_attrs["order"] for trial in in_order] == list(range(num_trials))
    first_of_key: dict[str, FrozenTrial] = {}
    for trial in trials:
        first = first_of_key.setdefault(trial.user_attrs["key"], trial)
        assert trial.user_attrs.get("duplicate_of", trial.number) == first.number
        assert trial.values == first.values
    assert set(read_log(folder / "log")) == {trial.number for trial in first_of_key.values()}
    return in_order


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_worker_and_minibatches_of_one_are_the_synchronous_search(
    name: str, tmp_path: Path
) -> None:
    opts = ("SEARCH.SAMPLER.NAME", name, "SEARCH.SAMPLER.MINIBATCH", "1")
    wanted = search(tmp_path / "plain", *opts)
    found = search(tmp_path / "async", *opts, *ASYNC)
    assert [trial[:4] for trial in found] == [trial[:4] for trial in wanted]
    for i, (*_, attributes, _, _) in enumerate(found):
        assert attributes == {**wanted[i][4], "order": i}


def test_workers_are_never_idle_and_every_trial_counts_once(tmp_path: Path) -> None:
    executor = search_shuffled(tmp_path, *LARGER)
    in_order = check_finished(tmp_path)
    assert [trial.number for trial in in_order] != list(range(NUM_TRIALS)), "any order"
    assert executor.num_busy[:-3] == [3] * (len(executor.num_busy) - 3)
    log = read_log(tmp_path / "log")
    assert len(log) == len(set(log))


def test_the_papers_config_uses_more_workers_than_a_minibatch_has(tmp_path: Path) -> None:
    small = [*OPTS, *LARGER, *IN_PROCESS, "OUTPUT_DIR", str(tmp_path)]
    cfg = get_search_config("search/cifar10_paper.yaml", small)
    train = PlantedChild(str(tmp_path / "log"))
    with open_search(cfg, train=train) as opened:
        opened.executor = executor = Shuffled(opened, train, num_workers=3 * MINIBATCH)
        opened.run()
    assert executor.num_busy[0] == 3 * MINIBATCH
    assert executor.num_busy[1] == 3 * MINIBATCH


def test_synchronous_search_says_which_workers_it_can_not_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = ("SEARCH.EXECUTOR.NAME", "local_processes", "SEARCH.EXECUTOR.NUM_WORKERS")
    train = PlantedChild(str(tmp_path / "log"))
    for more in ((*workers, "4"), (*workers, "9"), (*workers, "9", *ASYNC)):
        caplog.clear()
        with open_search(config(tmp_path / str(len(more)), *more), train=train):
            pass
        idle = [m for m in caplog.messages if m.startswith("5 of the 9 workers will have nothing")]
        assert len(idle) == (more == (*workers, "9"))


def test_controller_learns_whole_minibatches_in_the_order_of_their_results(tmp_path: Path) -> None:
    """The same controller, out of the trials alone."""
    opts = [*OPTS, *LARGER]
    executor = search_shuffled(tmp_path, *LARGER)
    in_order = check_finished(tmp_path)
    cfg = get_search_config(opts=opts)
    space = build_space(cfg)
    ppo = build_ppo(cfg, space)
    drawn_by = {n: done // MINIBATCH for n, done in executor.num_finished.items()}
    old = {}
    for i in range(NUM_TRIALS // MINIBATCH):
        for trial in in_order:
            if drawn_by.get(trial.number) == i:
                choices = torch.tensor([params_to_choices(space, trial.params)])
                old[trial.number] = ppo.controller.score(choices).log_probs.item()
        minibatch = [t for t in in_order[i * MINIBATCH : (i + 1) * MINIBATCH] if t.values]
        choices = torch.tensor([params_to_choices(space, trial.params) for trial in minibatch])
        recorded = [trial.system_attrs["controller:log_prob"] for trial in minibatch]
        wanted = [old.get(t.number, r) for t, r in zip(minibatch, recorded, strict=True)]
        assert recorded == pytest.approx(wanted, abs=1e-5)
        ppo.update(choices, [trial.value for trial in minibatch], torch.tensor(recorded))
    ages = [t.user_attrs["order"] // MINIBATCH - drawn_by.get(t.number, 99) for t in in_order]
    assert max(ages) > 0, "some are older than the controller that learns from them"
    state = read_controller(tmp_path)
    assert state["num_learned"] == NUM_TRIALS // MINIBATCH
    for name, weights in ppo.controller.state_dict().items():
        assert torch.equal(state["ppo"]["controller"][name], weights), name


def test_duplicates_of_a_child_under_way_wait_for_it_and_are_bounded(tmp_path: Path) -> None:
    class Constant(SpaceSampler):
        def propose(self, study: Study, number: int) -> Choices:
            return (0,) * len(self.space.decisions)

    num_trials: list[int] = []
    train = PlantedChild(str(tmp_path / "log"))
    with open_search(config(tmp_path, *ASYNC), train=train) as opened:
        opened.mirror.sampler = Constant(opened.space)
        opened.executor = Shuffled(opened, train)
        opened.on_progress = lambda _: num_trials.append(len(opened.journal.trials))
        opened.run()
    assert read_log(tmp_path / "log") == [0]
    assert num_trials == [1, 1 + MINIBATCH, NUM_TRIALS]
    check_finished(tmp_path)


# ---- Kills


@pytest.mark.parametrize(
    ("name", "pruner", "num_writes"),
    [("controller", "''", 4), ("evolution", "''", 4), ("controller", "asha", 9)],
)
def test_one_worker_interrupted_at_every_write_continues_exactly(
    name: str, pruner: str, num_writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opts = (*ASYNC, "SEARCH.SAMPLER.NAME", name, "SEARCH.NUM_TRIALS", "12")
    opts += ("SEARCH.PRUNER.NAME", pruner)
    wanted = search(tmp_path / "plain", *opts)
    assert any(state == "PRUNED" for _, state, *_ in wanted) == (pruner == "asha")
    found = interrupt_writes(
        tmp_path / "killed", *opts, num_writes=num_writes, monkeypatch=monkeypatch
    )
    assert found == wanted
    if name == "controller":
        assert is_same_controller(tmp_path / "killed", tmp_path / "plain")


def test_children_under_way_are_asked_again_and_no_others(tmp_path: Path, repository: Path) -> None:
    _kill(tmp_path / "killed", repository, num_kills=2, num_trials=NUM_TRIALS)


@pytest.mark.slow
def test_search_killed_twenty_times_ends_with_all_trials(tmp_path: Path, repository: Path) -> None:
    _kill(tmp_path / "killed", repository, *LONG, num_kills=20, num_trials=200)


def _kill(folder: Path, repository: Path, *opts: str, num_kills: int, num_trials: int) -> None:
    kills: list[tuple[int, set[int]]] = []

    def note() -> None:
        finished = find_finished(folder)  # before the log: orphans still write into it
        kills.append((len(read_log(folder / "log")), finished))

    kill_and_resume(folder, repository, *ASYNC, *opts, num_kills=num_kills, after_kill=note)
    check_finished(folder, num_trials)
    log = read_log(folder / "log")
    for length, finished in kills:
        assert not finished & set(log[length:]), "a finished child was trained again"


@pytest.mark.parametrize("is_state_there", [True, False])
def test_controller_continues_with_and_without_its_file(
    is_state_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = search(tmp_path / "plain", *ASYNC)
    search(tmp_path / "grown", *ASYNC, "SEARCH.NUM_TRIALS", "11")
    if not is_state_there:
        (tmp_path / "grown" / "controller.pth").unlink()
    learned: list[int] = []
    update = AsyncControllerSampler._update

    def note(self: Any, rewarded: Any) -> None:
        learned.append(self.num_learned)
        update(self, rewarded)

    monkeypatch.setattr(AsyncControllerSampler, "_update", note)
    assert search(tmp_path / "grown", *ASYNC, resume=True) == wanted
    assert learned == ([2, 3] if is_state_there else [0, 1, 2, 3])
    assert is_same_controller(tmp_path / "grown", tmp_path / "plain")


def test_study_of_the_other_mode_is_refused(tmp_path: Path) -> None:
    search(tmp_path, "SEARCH.NUM_TRIALS", "3")
    with pytest.raises(ValueError, match="has SEARCH.ASYNCHRONOUS False instead of True"):
        search(tmp_path, *ASYNC, resume=True)
    assert len(read_study(tmp_path)) == 3
