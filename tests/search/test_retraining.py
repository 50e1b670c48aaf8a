"""Retraining: of the best alone, once each whatever is killed, and the best of them is the result."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from planted_child import PlantedChild, read_log
from planted_search import OPTS, Killed, WriteKiller, search

from nasnet_det.search.assemble import build_recipe, build_source, open_search
from nasnet_det.search.best import find_best, find_best_trials
from nasnet_det.search.config import get_search_config
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.progress import Progress
from nasnet_det.search.retraining import get_retraining_config, open_retraining

NUM_BEST = 5
PROCESSES = ("SEARCH.EXECUTOR.NAME", "local_processes", "SEARCH.EXECUTOR.NUM_WORKERS", "2")


class LongChild(PlantedChild):
    """Trained for longer, the last are first: the reward is what the planted one is below 1."""

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        result = super().__call__(job, device)
        if result.reward is None:
            return result
        return ChildResult(job.number, 1 - result.reward, "", result.seconds)


class AlwaysFailing(PlantedChild):
    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        return ChildResult(job.number, None, "planted failure", 0.5)


def config(folder: Path, *opts: str) -> Any:
    # A seed with which none of the best fails when it is retrained.
    best = ("SEARCH.RETRAIN.NUM_BEST", str(NUM_BEST), "SEARCH.SEED", "2")
    return get_search_config(opts=[*OPTS, *best, "OUTPUT_DIR", str(folder), *opts])


def retrain(folder: Path, *opts: str, train: Any = None, **changed: Any) -> Any:
    """Retrain after the search in a folder; its log is beside that of the search."""
    cfg = config(folder, *opts)
    train = train or LongChild(str(folder / "retrained.log"))
    with open_search(cfg, resume=True, train=PlantedChild(str(folder / "log"))) as opened:
        opened.run()
        best = find_best_trials(opened.journal, cfg.SEARCH.RETRAIN.NUM_BEST)
    with open_retraining(cfg, train=train, **changed) as retraining:
        return retraining.run(best)


def read_retrained(folder: Path, name: str = "retrained") -> list[FrozenTrial]:
    url = f"sqlite:///{folder / 'study.db'}"
    return optuna.load_study(study_name=f"search.{name}", storage=url).trials


def read_results(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What counts of each retrained architecture, by its canonical form."""
    return {
        t.user_attrs["key"]: (t.values, t.params, t.user_attrs["seed"], t.user_attrs["macs"])
        for t in read_retrained(folder)
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with its retraining, uninterrupted, in one process."""
    folder = tmp_path_factory.mktemp("plain")
    retrain(folder)
    return folder


# ---- Who is retrained, and who is chosen


def test_best_trials_are_distinct_complete_and_in_order() -> None:
    class Journal:
        def __init__(self, *rows: tuple[str, float, TrialState]) -> None:
            self.trials = {}
            for number, (key, value, state) in enumerate(rows):
                trial = create_trial(state=state, value=value, user_attrs={"key": key})
                trial.number = number
                self.trials[number] = trial

    done, pruned = TrialState.COMPLETE, TrialState.PRUNED
    journal: Any = Journal(
        ("a", 0.5, done), ("b", 0.7, done), ("c", 0.9, pruned), ("b", 0.7, done), ("d", 0.7, done)
    )
    assert [t.number for t in find_best_trials(journal, 10)] == [1, 4, 0]
    assert [t.number for t in find_best_trials(journal, 2)] == [1, 4]
    best = find_best(journal)
    assert best is not None
    assert best.number == 1
    assert find_best(Journal(("c", 0.9, pruned))) is None  # type: ignore[arg-type]


def test_best_of_the_search_are_retrained_and_the_best_of_them_is_chosen(plain: Path) -> None:
    url = f"sqlite:///{plain / 'study.db'}"
    searched = optuna.load_study(study_name="search", storage=url).trials
    rewards = {}
    for trial in searched:
        if trial.state is TrialState.COMPLETE:
            rewards.setdefault(trial.user_attrs["key"], trial.value)
    wanted = sorted(rewards, key=lambda key: -rewards[key])[:NUM_BEST]
    retrained = read_retrained(plain)
    assert [t.user_attrs["key"] for t in retrained] == wanted
    assert len({t.user_attrs["seed"] for t in retrained}) == NUM_BEST
    for trial in retrained:
        origin = searched[trial.user_attrs["searched_as"]]
        assert origin.params == trial.params
        assert origin.value == rewards[trial.user_attrs["key"]]
    pair = retrain(plain)
    assert pair is not None
    assert pair[1].value == max(t.value for t in retrained)
    assert pair[0].params == pair[1].params
    assert pair[0].value < max(rewards.values()), "the order has changed"


def test_first_of_equal_ones_is_chosen(plain: Path) -> None:
    class Equal(PlantedChild):
        def __call__(self, job: ChildJob, device: str) -> ChildResult:
            return ChildResult(job.number, 0.5, "", 0.0)

    pair = retrain(plain, "SEARCH.RETRAIN.NAME", "equal", train=Equal(""))
    assert pair is not None
    assert pair[1].number == 0


def test_all_are_retrained_where_there_are_fewer(tmp_path: Path) -> None:
    retrain(tmp_path, "SEARCH.NUM_TRIALS", "4", "SEARCH.RETRAIN.NUM_BEST", "100")
    assert 0 < len(read_retrained(tmp_path)) <= 4


def test_failures_are_recorded_and_none_is_chosen(
    plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[Progress] = []
    name = ("SEARCH.RETRAIN.NAME", "failing")
    assert retrain(plain, *name, train=AlwaysFailing(""), on_progress=lines.append) is None
    trials = read_retrained(plain, "failing")
    assert {t.state for t in trials} == {TrialState.FAIL}
    assert {t.user_attrs["failure"] for t in trials} == {"planted failure"}
    number = trials[0].user_attrs["searched_as"]
    assert f"child {number} failed when retrained: planted failure" in caplog.text
    assert str(lines[-1]).startswith(
        f"{NUM_BEST}/{NUM_BEST} best children retrained: 0 done, {NUM_BEST} failed, 0 running, be"
    )


# ---- Once each, the same for any number of workers and any kill


def test_two_workers_retrain_what_one_retrains(plain: Path, tmp_path: Path) -> None:
    search(tmp_path, "SEARCH.SEED", "2")
    train = LongChild(str(tmp_path / "retrained.log"), 0.02)
    pair = retrain(tmp_path, *PROCESSES, train=train)
    assert pair is not None
    assert pair[0].number == retrain(plain)[0].number
    assert read_results(tmp_path) == read_results(plain)


def test_retraining_interrupted_at_every_write_trains_none_twice(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path, "SEARCH.SEED", "2")
    killer, num_runs = WriteKiller(monkeypatch), 0
    log = tmp_path / "retrained.log"
    pair, finished = None, set[int]()
    while pair is None:
        killer.left, num_runs = 2 + num_runs % 2, num_runs + 1
        before = len(read_log(log))
        with suppress(Killed):
            pair = retrain(tmp_path)
        assert not finished & set(read_log(log)[before:])
        now = {t.number for t in read_retrained(tmp_path) if t.state.is_finished()}
        assert finished <= now
        finished = now
    assert num_runs > 5
    assert read_results(tmp_path) == read_results(plain)


def test_children_with_a_result_are_not_retrained_again(tmp_path: Path) -> None:
    """Of a killed run, of one with fewer, of a shorter search: whatever has a result keeps it."""
    rng = random.Random(0)

    class KilledChild(LongChild):
        def __call__(self, job: ChildJob, device: str) -> ChildResult:
            if rng.random() < 0.7:
                raise Killed
            return super().__call__(job, device)

    log = str(tmp_path / "retrained.log")
    num_kills = 0
    sampler = ("SEARCH.SAMPLER.NAME", "random")
    for opts in (
        ("SEARCH.NUM_TRIALS", "8", "SEARCH.RETRAIN.NUM_BEST", "3"),
        ("SEARCH.NUM_TRIALS", "8"),
        (),
    ):
        while True:
            try:
                pair = retrain(tmp_path, *sampler, *opts, train=KilledChild(log))
                break
            except Killed:
                num_kills += 1
    assert num_kills > 3
    trained = read_log(log)
    assert len(trained) == len(set(trained)) == len(read_retrained(tmp_path)) > NUM_BEST
    assert pair is not None
    (tmp_path / "plain").mkdir()
    assert pair[1].value == retrain(tmp_path / "plain", *sampler)[1].value


# ---- The recipe


def test_recipe_is_that_of_the_children_but_for_what_is_given() -> None:
    text = (
        "SEARCH.CHILD.EPOCHS 3 SEARCH.CHILD.MOMENTUM 0.5 SEARCH.CHILD.LR 0.3 "
        "SEARCH.CHILD.TIME_LIMIT_S 9 SEARCH.DATA.NUM_TRAIN 50 SEARCH.DATA.PATH a"
    )
    cfg = get_search_config(opts=text.split())
    changed = get_retraining_config(cfg)
    assert build_recipe(changed) == build_recipe(cfg)
    assert build_source(changed) == build_source(cfg)
    assert changed.SEARCH.CHILD.TIME_LIMIT_S == 0, "a limit on short children is none on long ones"


@pytest.mark.parametrize(
    ("node", "key", "value"),
    [
        ("CHILD", "EPOCHS", 30),
        ("CHILD", "NUM_CELLS_PER_STAGE", 6),
        ("CHILD", "CHANNELS", 16),
        ("CHILD", "BATCH_SIZE", 8),
        ("CHILD", "LR", 0.1),
        ("CHILD", "WEIGHT_DECAY", 0.0),
        ("CHILD", "DROP_PATH_PROB", 0.4),
        ("CHILD", "AUX_WEIGHT", 0.4),
        ("CHILD", "TIME_LIMIT_S", 99.0),
        ("DATA", "NUM_TRAIN", 0),
        ("DATA", "IMAGE_SIZE", 24),
        ("DATA", "UPSAMPLED_SIZE", 30),
        ("DATA", "RESIZE", "bicubic"),
    ],
)
def test_each_key_of_the_retraining_changes_its_own(
    node: str, key: str, value: float | str
) -> None:
    opts = ["SEARCH.DATA.NUM_TRAIN", "50", f"SEARCH.RETRAIN.{key}", str(value)]
    cfg = get_search_config(opts=opts)
    changed = get_retraining_config(cfg)
    assert changed.SEARCH[node][key] == value != cfg.SEARCH[node][key]
    cfg.SEARCH[node][key] = value
    assert changed == cfg


def test_another_recipe_is_another_study(plain: Path) -> None:
    other = ("SEARCH.RETRAIN.EPOCHS", "40")
    with pytest.raises(
        ValueError,
        match=r"study 'search.retrained' in .* has SEARCH.CHILD.EPOCHS 20 instead of 40; "
        "give another SEARCH.RETRAIN.NAME",
    ):
        retrain(plain, *other)
    assert len(read_retrained(plain)) == NUM_BEST
    retrain(plain, *other, "SEARCH.RETRAIN.NAME", "longer")
    assert len(read_retrained(plain, "longer")) == NUM_BEST


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("NUM_BEST -1", "SEARCH.RETRAIN.NUM_BEST: wanted 0 or more, got -1"),
        ("EPOCHS 0", "SEARCH.RETRAIN: SEARCH.CHILD.EPOCHS: wanted at least 1, got 0"),
        ("CHANNELS 1", "SEARCH.RETRAIN: .*channels: wanted at least 2"),
        (
            "AUX_WEIGHT 0.4",
            "SEARCH.RETRAIN: the auxiliary head needs a feature map of at least 5x5",
        ),
    ],
)
def test_impossible_retraining_is_one_sentence(opts: str, sentence: str, tmp_path: Path) -> None:
    cfg = config(tmp_path, *f"SEARCH.RETRAIN.{opts}".split())
    with (
        pytest.raises(ValueError, match=sentence) as info,
        open_retraining(cfg, train=LongChild("")),
    ):
        pass
    assert "\n" not in str(info.value)
