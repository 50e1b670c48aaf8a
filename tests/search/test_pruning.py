"""Pruning: Optuna's own rules, on children of earlier minibatches alone, and what is left of it."""

from __future__ import annotations

import pickle
import random
import statistics
from pathlib import Path

import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from planted_child import EPOCHS, PlantedChild
from planted_search import (
    MINIBATCH,
    NUM_TRIALS,
    OPTS,
    check_same,
    kill_and_resume,
    read_study,
    read_trials,
    search,
)

from nasnet_det.search.assemble import open_search
from nasnet_det.search.best import find_best
from nasnet_det.search.config import get_search_config
from nasnet_det.search.job import Curve
from nasnet_det.search.journal import Journal
from nasnet_det.search.progress import Progress
from nasnet_det.search.pruning import (
    PRUNERS,
    Comparison,
    HalvingPruner,
    MedianPruner,
    build_pruner,
)
from nasnet_det.search.storage import open_storage

ASHA = ("SEARCH.PRUNER.NAME", "asha")
MEDIAN = ("SEARCH.PRUNER.NAME", "median")


def read_epochs(log: Path) -> dict[int, int]:
    """Number of each trained child, and of its epochs."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return {int(number): int(epochs) for number, _, epochs in lines}


def is_trained(trial: FrozenTrial) -> bool:
    return trial.state is not TrialState.FAIL and "duplicate_of" not in trial.user_attrs


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted search in one process."""
    folder = tmp_path_factory.mktemp("pruned")
    search(folder, *ASHA)
    return folder


# ---- Who is pruned


@pytest.mark.parametrize(
    ("pruner", "ours"),
    [
        (
            optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2),
            MedianPruner(num_startup_trials=3, min_epochs=2),
        ),
        *(
            (
                optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor),
                HalvingPruner(min_epochs=least, reduction_factor=factor),
            )
            for least, factor in ((1, 2), (2, 3))
        ),
    ],
)
def test_children_are_pruned_as_a_study_of_optuna_prunes(
    pruner: BasePruner, ours: MedianPruner | HalvingPruner
) -> None:
    """One child after another, each judged by all before it."""
    rng = random.Random(0)
    curves = [sorted(rng.random() for _ in range(8)) for _ in range(60)]

    def objective(trial: optuna.Trial) -> float:
        for epoch, accuracy in enumerate(curves[trial.number], start=1):
            trial.report(accuracy, epoch)
            if epoch < 8 and trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=len(curves))
    num_complete = 0
    for trial in study.trials:
        comparison: Comparison = pickle.loads(pickle.dumps(ours.compare()))
        accuracies: list[float] = []
        for accuracy in curves[trial.number]:
            accuracies.append(accuracy)
            if len(accuracies) < 8 and comparison.is_hopeless(accuracies):
                break
        is_complete = len(accuracies) == 8
        num_complete += is_complete
        ours.add(Curve(tuple(accuracies), is_complete))
        assert accuracies == list(trial.intermediate_values.values())
        assert trial.state is (TrialState.COMPLETE if is_complete else TrialState.PRUNED)
    assert 3 < num_complete < 50


@pytest.mark.parametrize("name", PRUNERS)
def test_comparison_is_as_small_after_many_children_as_after_a_few(name: str) -> None:
    """It travels with every job."""
    pruner = build_pruner(get_search_config(opts=["SEARCH.PRUNER.NAME", name]))
    assert pruner is not None
    rng = random.Random(0)
    sizes = []
    for number in range(3000):
        pruner.add(Curve(tuple(rng.random() for _ in range(20)), is_complete=True))
        if number in (9, 2999):
            sizes.append(len(pickle.dumps(pruner.compare())))
    assert sizes[1] == sizes[0] < 1000


def test_children_below_the_median_of_earlier_minibatches_are_pruned(tmp_path: Path) -> None:
    """The rule written out again, for every epoch of every child."""
    search(tmp_path, *MEDIAN)
    trials = read_trials(tmp_path)
    for trial in filter(is_trained, trials):
        earlier = [
            t
            for t in trials[: trial.number // MINIBATCH * MINIBATCH]
            if is_trained(t) and t.state is TrialState.COMPLETE
        ]
        for epoch, accuracy in trial.intermediate_values.items():
            is_last = epoch == max(trial.intermediate_values)
            is_pruned_here = is_last and trial.state is TrialState.PRUNED
            is_hopeless = (
                bool(earlier)
                and epoch < EPOCHS
                and accuracy < statistics.median(t.intermediate_values[epoch] for t in earlier)
            )
            assert is_hopeless == is_pruned_here
    assert TrialState.PRUNED in {trial.state for trial in trials}


def test_children_of_one_minibatch_are_not_compared(pruned: Path, tmp_path: Path) -> None:
    search(tmp_path, *ASHA, "SEARCH.SAMPLER.MINIBATCH", str(NUM_TRIALS))
    assert TrialState.PRUNED not in {trial.state for trial in read_trials(tmp_path)}
    states = [trial.state for trial in read_trials(pruned)]
    assert TrialState.PRUNED not in states[:MINIBATCH]
    assert TrialState.PRUNED in states[MINIBATCH:]


# ---- What is left of it


def test_pruned_children_end_early_with_their_last_accuracy(pruned: Path) -> None:
    epochs = read_epochs(pruned / "log")
    trials = [trial for trial in read_trials(pruned) if is_trained(trial)]
    for trial in trials:
        assert len(trial.intermediate_values) == epochs[trial.number]
        assert (epochs[trial.number] < EPOCHS) == (trial.state is TrialState.PRUNED)
        assert trial.value == trial.intermediate_values[epochs[trial.number]]
    assert sum(epochs[t.number] for t in trials) < len(trials) * EPOCHS


def test_duplicate_of_a_pruned_child_is_pruned_and_not_trained(tmp_path: Path) -> None:
    few = ("SEARCH.SAMPLER.NAME", "random", "SEARCH.SPACE.OPERATIONS", "['identity']")
    search(tmp_path, *ASHA, *few)
    trials = read_trials(tmp_path)
    duplicates = [
        t for t in trials if t.state is TrialState.PRUNED and "duplicate_of" in t.user_attrs
    ]
    assert duplicates
    for trial in duplicates:
        first = trials[trial.user_attrs["duplicate_of"]]
        assert first.state is TrialState.PRUNED
        assert trial.intermediate_values == first.intermediate_values
        assert trial.value == first.value
    assert not {t.number for t in duplicates} & set(read_epochs(tmp_path / "log"))


def test_progress_counts_the_pruned_and_the_best_is_none_of_them(tmp_path: Path) -> None:
    lines: list[Progress] = []
    cfg = get_search_config(opts=[*OPTS, *ASHA, "OUTPUT_DIR", str(tmp_path)])
    train = PlantedChild(str(tmp_path / "log"))
    with open_search(cfg, train=train, on_progress=lines.append) as opened:
        opened.run()
        pruned = next(t for t in opened.journal.trials.values() if t.state is TrialState.PRUNED)
        pruned.values = [2.0]
        best = find_best(opened.journal)
    assert best is not None
    assert best.state is TrialState.COMPLETE
    counts = [trial.state for trial in read_trials(tmp_path)].count
    last = lines[-1]
    assert last.pruned == counts(TrialState.PRUNED) > 0
    assert (last.done, last.failed) == (counts(TrialState.COMPLETE), counts(TrialState.FAIL))
    assert last.finished == NUM_TRIALS
    assert f" done, {last.pruned} pruned, " in str(last)


# ---- The same for any number of workers and any kill (more in test_search_study.py)


def test_two_workers_prune_what_one_prunes(pruned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    processes = ("SEARCH.EXECUTOR.NAME", "local_processes", "SEARCH.EXECUTOR.NUM_WORKERS", "2")
    search(folder, *ASHA, *processes, train=PlantedChild(str(folder / "log"), 0.02))
    check_same(folder, pruned)
    assert read_epochs(folder / "log") == read_epochs(pruned / "log")


@pytest.mark.slow
@pytest.mark.parametrize("pruner", [ASHA, MEDIAN])
def test_search_with_a_pruner_killed_at_random_moments_continues_exactly(
    pruner: tuple[str, str], tmp_path: Path, repository: Path
) -> None:
    opts = (*pruner, "SEARCH.PPO.LR", "0.001", "SEARCH.NUM_TRIALS", "80")
    search(tmp_path / "plain", *opts)
    kill_and_resume(tmp_path / "killed", repository, *opts, num_kills=8)
    check_same(tmp_path / "killed", tmp_path / "plain", num_trials=80)


def test_search_with_a_pruner_can_be_made_longer(pruned: Path, tmp_path: Path) -> None:
    search(tmp_path, *ASHA, "SEARCH.NUM_TRIALS", "10")
    search(tmp_path, *ASHA, resume=True)
    assert read_study(tmp_path) == read_study(pruned)


def test_pruned_trial_has_the_value_of_its_last_step_whatever_a_kill_left(tmp_path: Path) -> None:
    """Where a training can't be repeated exactly, a kill may leave a step that comes no more."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    directions = [optuna.study.StudyDirection.MAXIMIZE]

    def open_journal() -> Journal:
        return Journal(
            open_storage(url),
            "search",
            directions=directions,
            identity={},
            defaults={},
            resume=True,
        )

    killed = open_journal()
    killed.ask(0, {}, {}, attributes={}, system_attributes={})
    killed.storage.set_trial_intermediate_value(killed.trials[0]._trial_id, 3, 0.7)
    killed.close()
    journal = open_journal()
    journal.tell(0, [0.4], {}, Curve((0.2, 0.4), False))
    stored = optuna.load_study(study_name="search", storage=url).trials[0]
    for trial in (stored, journal.trials[0]):
        assert trial.state is TrialState.PRUNED
        assert trial.intermediate_values == {1: 0.2, 2: 0.4, 3: 0.7}
        assert trial.values == [0.7]
    journal.close()


# ---- What is refused


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("NAME mediann", "SEARCH.PRUNER.NAME: unknown pruner 'mediann', did you mean 'median'"),
        (
            "NAME asha SEARCH.PRUNER.REDUCTION_FACTOR 1",
            "REDUCTION_FACTOR: wanted at least 2, got 1",
        ),
        ("NAME asha SEARCH.PRUNER.MIN_EPOCHS 0", "MIN_EPOCHS: wanted at least 1, got 0"),
        ("NAME median SEARCH.PRUNER.NUM_STARTUP_TRIALS -1", "wanted at least 0, got -1"),
        (
            "NAME median SEARCH.CHILD.EPOCHS 1",
            r"MIN_EPOCHS: wanted less than SEARCH.CHILD.EPOCHS \(1\), .* got 1",
        ),
        (
            "NAME asha SEARCH.SAMPLER.NAME nsga2 SEARCH.GOALS ['accuracy','macs']",
            r"the pruner asha compares accuracy alone, wanted SEARCH.GOALS \['accuracy'\], got",
        ),
    ],
)
def test_impossible_pruner_is_one_sentence(opts: str, sentence: str) -> None:
    cfg = get_search_config(opts=f"SEARCH.PRUNER.{opts}".split())
    with pytest.raises(ValueError, match=sentence) as info:
        build_pruner(cfg)
    assert "\n" not in str(info.value)


def test_study_without_a_pruner_is_not_continued_with_one(tmp_path: Path) -> None:
    search(tmp_path, "SEARCH.NUM_TRIALS", "3")
    with pytest.raises(ValueError, match="has SEARCH.PRUNER.NAME '' instead of 'asha'"):
        search(tmp_path, *ASHA, resume=True)


def test_every_key_of_a_pruner_reaches_it() -> None:
    text = (
        "SEARCH.PRUNER.MIN_EPOCHS 2 SEARCH.PRUNER.NUM_STARTUP_TRIALS 7 "
        "SEARCH.PRUNER.REDUCTION_FACTOR 3 SEARCH.PRUNER.NAME"
    )
    median = build_pruner(get_search_config(opts=[*text.split(), "median"]))
    assert isinstance(median, MedianPruner)
    assert (median.num_startup_trials, median.min_epochs) == (7, 2)
    asha = build_pruner(get_search_config(opts=[*text.split(), "asha"]))
    assert isinstance(asha, HalvingPruner)
    assert (asha.min_epochs, asha.reduction_factor) == (2, 3)
    assert build_pruner(get_search_config()) is None
