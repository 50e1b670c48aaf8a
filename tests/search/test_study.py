"""The search: the same for any number of workers and any kills; limits, duplicates, other studies."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from planted_child import PlantedChild, read_log
from planted_search import (
    LONG,
    NUM_TRIALS,
    OPTS,
    TWO_PROCESSES,
    Killed,
    check_same,
    config,
    interrupt_writes,
    kill_and_resume,
    read_study,
    read_trials,
    search,
    search_with_killed_processes,
)

from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.controller_sampler import ControllerSampler
from nasnet_det.search.devices import DeviceError
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.progress import Progress
from nasnet_det.search.samplers import SAMPLERS
from nasnet_det.search.space_sampler import SpaceSampler
from nasnet_det.search.trials import params_to_choices
from nasnet_det.space import Choices


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted search in one process."""
    folder = tmp_path_factory.mktemp("plain")
    search(folder)
    return folder


# ---- What a search leaves


def test_every_trial_is_finished_once_and_says_what_it_was(plain: Path) -> None:
    trials = read_trials(plain)
    assert [trial.number for trial in trials] == list(range(NUM_TRIALS))
    states = {trial.state for trial in trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}
    for trial in trials:
        assert {"key", "seed", "params", "macs"} <= set(trial.user_attrs)
        assert (trial.values is None) == (trial.user_attrs.get("failure") is not None)
    trained = read_log(plain / "log")
    assert len(trained) == len(set(trained)), "no child twice"


def test_duplicates_have_the_result_of_the_first_and_are_not_trained(plain: Path) -> None:
    trials = read_trials(plain)
    space = build_space(get_search_config(opts=OPTS))
    keys = [space.canonicalize(params_to_choices(space, trial.params)) for trial in trials]
    trained = [n for n in range(NUM_TRIALS) if keys.index(keys[n]) == n]
    assert len(trained) < NUM_TRIALS, "the search proposes some architecture twice"
    assert sorted(read_log(plain / "log")) == trained
    for number, trial in enumerate(trials):
        first = keys.index(keys[number])
        assert trial.user_attrs.get("duplicate_of", number) == first
        assert trial.values == trials[first].values
        assert trial.user_attrs.get("failure") == trials[first].user_attrs.get("failure")


# ---- The same for any number of workers and any kill


def test_two_workers_find_what_one_finds(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    search(folder, *TWO_PROCESSES, train=PlantedChild(str(folder / "log"), 0.02))
    check_same(folder, plain, num_trainings=len(read_log(plain / "log")))


@pytest.mark.parametrize(
    ("name", "pruner", "num_writes"),
    [*((name, "''", 3) for name in SAMPLERS), ("controller", "asha", 9), ("tpe", "median", 9)],
)
def test_search_interrupted_at_every_write_continues_exactly(
    name: str, pruner: str, num_writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where children are pruned, each has more writes than 3, so a run has more."""
    opts = ("SEARCH.SAMPLER.NAME", name, "SEARCH.NUM_TRIALS", "10", "SEARCH.PRUNER.NAME", pruner)
    wanted = search(tmp_path / "plain", *opts)
    assert any(state == "PRUNED" for _, state, *_ in wanted) == (pruner != "''")
    found = interrupt_writes(
        tmp_path / "killed", *opts, num_writes=num_writes, monkeypatch=monkeypatch
    )
    assert found == wanted
    first, second = (read_log(tmp_path / place / "log") for place in ("plain", "killed"))
    assert set(first) == set(second)


def test_search_with_a_limit_interrupted_at_every_write_continues_exactly(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill may come between a child that is too large and the note that it is."""
    limit = sorted(measure_plain(plain))[NUM_TRIALS // 2]
    opts = ("SEARCH.LIMITS.MAX_PARAMS", str(limit), "SEARCH.SAMPLER.NAME", "random")
    wanted = search(tmp_path / "plain", *opts)
    found = interrupt_writes(tmp_path / "killed", *opts, num_writes=4, monkeypatch=monkeypatch)
    assert found == wanted


def test_search_killed_at_random_moments_continues_exactly(
    plain: Path, tmp_path: Path, repository: Path
) -> None:
    kill_and_resume(tmp_path / "killed", repository, num_kills=2)
    check_same(tmp_path / "killed", plain)


@pytest.mark.slow
def test_search_killed_twenty_times_continues_exactly(tmp_path: Path, repository: Path) -> None:
    search(tmp_path / "plain", *LONG)
    kill_and_resume(tmp_path / "killed", repository, *LONG, num_kills=20)
    check_same(tmp_path / "killed", tmp_path / "plain", num_trials=200)


def test_search_whose_workers_are_killed_finds_the_same(plain: Path, tmp_path: Path) -> None:
    search_with_killed_processes(tmp_path / "killed", num_kills=2)
    check_same(tmp_path / "killed", plain)


@pytest.mark.slow
def test_search_whose_workers_are_killed_twenty_times_finds_the_same(tmp_path: Path) -> None:
    search(tmp_path / "plain", *LONG)
    search_with_killed_processes(tmp_path / "killed", *LONG, num_kills=20)
    check_same(tmp_path / "killed", tmp_path / "plain", num_trials=200)


def test_resume_retrains_only_what_was_under_way(tmp_path: Path) -> None:
    class KilledChild(PlantedChild):
        def __call__(self, job: ChildJob, device: str) -> ChildResult:
            if job.number == 6:
                raise Killed
            return super().__call__(job, device)

    log = str(tmp_path / "log")
    with pytest.raises(Killed):
        search(tmp_path, train=KilledChild(log))
    states = [trial.state for trial in read_trials(tmp_path)]
    assert states.count(TrialState.RUNNING) > 0
    before = read_log(log)
    search(tmp_path, resume=True)
    after = read_log(log)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)


def test_children_of_a_broken_device_are_trained_after_a_resume(
    plain: Path, tmp_path: Path
) -> None:
    """The search stops, none of them has failed, and what is found in the end is the same."""

    class BreakingChild(PlantedChild):
        def __call__(self, job: ChildJob, device: str) -> ChildResult:
            if job.number >= 6:
                raise DeviceError(f"{device} computes no more")
            return super().__call__(job, device)

    with pytest.raises(DeviceError):
        search(tmp_path, train=BreakingChild(str(tmp_path / "log")))
    wanted = read_study(plain)
    assert [trial for trial in read_study(tmp_path) if trial[1] != "RUNNING"] == wanted[:6]
    search(tmp_path, resume=True)
    check_same(tmp_path, plain, num_trainings=len(read_log(plain / "log")))


@pytest.mark.parametrize("name", SAMPLERS)
def test_search_can_be_made_longer(name: str, tmp_path: Path) -> None:
    wanted = search(tmp_path / "long", "SEARCH.SAMPLER.NAME", name)
    opts = ("SEARCH.SAMPLER.NAME", name, "SEARCH.NUM_TRIALS", "6")
    search(tmp_path / "grown", *opts)
    assert search(tmp_path / "grown", "SEARCH.SAMPLER.NAME", name, resume=True) == wanted


@pytest.mark.parametrize("damage", ["missing", "torn", "of another study"])
def test_controller_state_that_is_lost_is_learned_again(
    damage: str, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lost"
    search(folder, "SEARCH.NUM_TRIALS", "12")
    state = folder / "controller.pth"
    if damage == "missing":
        state.unlink()
    elif damage == "torn":
        state.write_bytes(state.read_bytes()[:1000])
    else:
        search(tmp_path / "other", "SEARCH.SEED", "1", "SEARCH.NUM_TRIALS", "12")
        state.write_bytes((tmp_path / "other" / "controller.pth").read_bytes())
    search(folder, resume=True)
    check_same(folder, plain)
    assert ("relearning from the study" in caplog.text) == (damage != "missing")


def test_saved_controller_state_is_used(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []
    learn = ControllerSampler._learn
    monkeypatch.setattr(
        ControllerSampler,
        "_learn",
        lambda self, study: (learned.append(self.num_learned), learn(self, study)),
    )
    folder = tmp_path / "saved"
    search(folder, "SEARCH.NUM_TRIALS", "12")
    assert learned == [0, 1]
    search(folder, resume=True)
    assert learned == [0, 1, 2, 3]
    check_same(folder, plain)


def test_trials_of_other_proposals_are_refused(tmp_path: Path) -> None:
    search(tmp_path, "SEARCH.NUM_TRIALS", "3")
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute(
            "update trial_params set param_value = 1 - param_value "
            "where trial_id = 1 and param_name = 'normal.0.input_0'"
        )
    with pytest.raises(ValueError, match="its trial 0 is not what this search proposes there"):
        search(tmp_path, resume=True)


# ---- Limits and goals


class ConstantSampler(SpaceSampler):
    def propose(self, study: optuna.Study, number: int) -> Choices:
        return (0,) * len(self.space.decisions)


def measure_plain(plain: Path) -> list[int]:
    return [trial.user_attrs["params"] for trial in read_trials(plain)]


def test_children_above_a_limit_fail_untrained(plain: Path, tmp_path: Path) -> None:
    limit = sorted(measure_plain(plain))[NUM_TRIALS // 2]
    search(tmp_path, "SEARCH.LIMITS.MAX_PARAMS", str(limit), "SEARCH.SAMPLER.NAME", "random")
    trials = read_trials(tmp_path)
    too_large = [t for t in trials if t.user_attrs["params"] > limit]
    assert 0 < len(too_large) < NUM_TRIALS
    for trial in too_large:
        assert trial.state is TrialState.FAIL
        assert trial.user_attrs["failure"].startswith("too large: ")
        assert trial.user_attrs["failure"].endswith(f" parameters, the limit is {limit:,}")
    assert not {t.number for t in too_large} & set(read_log(tmp_path / "log"))


@pytest.mark.parametrize(("key", "limit"), [("MAX_PARAMS", "500"), ("MAX_MACS", "1000")])
def test_limit_that_nothing_meets_is_one_sentence(key: str, limit: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"SEARCH.LIMITS.{key}: wanted at least \d+, .* {limit}$"):
        search(tmp_path, f"SEARCH.LIMITS.{key}", limit)
    assert not read_log(tmp_path / "log")


def test_two_goals_are_both_recorded(tmp_path: Path) -> None:
    search(tmp_path, "SEARCH.SAMPLER.NAME", "nsga2", "SEARCH.GOALS", "['accuracy','macs']")
    done = [t for t in read_trials(tmp_path) if t.state is TrialState.COMPLETE]
    assert done
    assert all(t.values[1] == t.user_attrs["macs"] for t in done)


def test_search_that_repeats_itself_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[Progress] = []
    train = PlantedChild(str(tmp_path / "log"))
    with open_search(config(tmp_path), train=train, on_progress=lines.append) as opened:
        opened.mirror.sampler = ConstantSampler(opened.space)
        opened.run()
    said = [m for m in caplog.messages if "the search repeats itself" in m]
    assert said[0] == ("children 0 to 3: 3 of 4 had been trained before; the search repeats itself")
    assert len(said) == 5
    assert lines[-1].seen_before == NUM_TRIALS - 1
    assert f" running, {NUM_TRIALS - 1} seen before, best" in str(lines[-1])


def test_controller_that_has_settled_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rate, wanted in (("0.01", 0), ("1", 1)):
        caplog.clear()
        search(tmp_path / rate, "SEARCH.PPO.LR", rate)
        said = [m for m in caplog.messages if "the controller has settled, its entropy is" in m]
        assert len(said) == wanted


# ---- What is refused


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("SEARCH.SPACE.NUM_BLOCKS 2", "has SEARCH.SPACE.NUM_BLOCKS 1 instead of 2; give another S"),
        ("SEARCH.SEED 1", "has SEARCH.SEED 0 instead of 1"),
        ("SEARCH.CHILD.LR 1 SEARCH.PPO.LR 1", "CHILD.LR 0.025 instead of 1.0|PPO.LR 0.05 instead"),
    ],
)
def test_study_of_another_search_is_refused(opts: str, sentence: str, plain: Path) -> None:
    before = read_study(plain)
    with pytest.raises(ValueError, match=sentence):
        search(plain, *opts.split(), resume=True)
    assert read_study(plain) == before


def test_study_with_trials_is_not_continued_by_chance(plain: Path) -> None:
    with pytest.raises(ValueError, match=r"has 18 trials already; resume it \(--resume\), or give"):
        search(plain)


def test_study_of_something_else_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=url, study_name="search")
    study.tell(study.ask(), 1.0)
    with pytest.raises(ValueError, match="study 'search' in .* was not made by this search"):
        search(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("SEARCH.STUDY.STORAGE sqlite:////nowhere/at/all.db", "all.db can't be used .*unable to o"),
        (
            "SEARCH.STUDY.STORAGE nonsense",
            "'nonsense' can't be used .*a file is sqlite:///nonsense",
        ),
        (
            "SEARCH.STUDY.STORAGE nosuchsql://me:secret@host/db",
            r"nosuchsql://me:\*\*\*@host/db can",
        ),
        ("SEARCH.SAMPLER.NAME evolutoin", "unknown sampler 'evolutoin', did you mean 'evolution'"),
        ("SEARCH.EXECUTOR.NAME inprocess", "unknown executor 'inprocess', did you mean 'in_proces"),
        ("SEARCH.NUM_TRIALS 0", "SEARCH.NUM_TRIALS: wanted at least 1, got 0"),
        ("SEARCH.GOALS ['macs']", "SEARCH.GOALS: wanted accuracy first"),
        ("SEARCH.GOALS ['accuracy','speed']", "SEARCH.GOALS: unknown goal 'speed'"),
        ("SEARCH.GOALS ['accuracy','macs']", "the sampler controller learns from accuracy alone"),
        ("SEARCH.CHILD.EPOCHS 0", "SEARCH.CHILD.EPOCHS: wanted at least 1, got 0"),
        ("SEARCH.CHILD.PRECISION bfloat", "unknown precision 'bfloat', did you mean 'bfloat16'"),
        ("SEARCH.CHILD.CHANNELS 1", "channels: wanted at least 2"),
    ],
)
def test_impossible_search_is_one_sentence(opts: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence) as info:
        search(tmp_path, *opts.split())
    assert "\n" not in str(info.value)
    assert "secret" not in str(info.value)
