"""TensorBoard's events of a search: all that the journal has, once, whatever was killed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import TrialState
from planted_child import PlantedChild
from planted_search import MINIBATCH, NUM_TRIALS, OPTS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasnet_det.search.assemble import open_search
from nasnet_det.search.config import get_search_config
from nasnet_det.search.event_log import EventLog
from nasnet_det.search.journal import Journal
from nasnet_det.search.ppo import PPOStats

ASHA = ("SEARCH.PRUNER.NAME", "asha")


def run(folder: Path, *opts: str, is_killed: bool = False) -> Journal:
    """Search with events; a killed one never closes its files."""
    cfg = get_search_config(opts=[*OPTS, *ASHA, "OUTPUT_DIR", str(folder), *opts])
    with open_search(cfg, resume=True, train=PlantedChild(str(folder / "log"))) as opened:
        events = EventLog(folder / "tensorboard", opened.journal)
        opened.on_progress = lambda progress: events.write()
        opened.run()
        if is_killed:
            events._writer.flush()
        else:
            events.close()
    return opened.journal


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every event, by tag."""
    accumulator = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0})
    accumulator.Reload()
    return collect(accumulator)


def collect(accumulator: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    tags = accumulator.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags}


def check(found: dict[str, list[tuple[int, float]]], journal: Journal) -> None:
    """The events are those of the journal, each once; single precision is what they have."""
    trials = list(journal.trials.values())
    for name in ("macs", "params", "seconds"):
        wanted = [(t.number, t.user_attrs[name]) for t in trials if name in t.user_attrs]
        assert found[f"child/{name}"] == _approx(wanted)
    for tag, state in (
        ("child/accuracy", TrialState.COMPLETE),
        ("child/pruned_accuracy", TrialState.PRUNED),
    ):
        wanted = [(t.number, t.values[0]) for t in trials if t.state is state]
        assert wanted
        assert found[tag] == _approx(wanted)
    best, top = [], []
    for number in range(NUM_TRIALS):
        seen = {
            t.user_attrs["key"]: t.values[0]
            for t in trials[: number + 1]
            if t.state is TrialState.COMPLETE
        }
        if seen:
            highest = sorted(seen.values())[-5:]
            best.append((number, max(highest)))
            top.append((number, sum(highest) / len(highest)))
    assert found["search/best"] == _approx(best)
    assert found["search/mean_top_5"] == _approx(top)
    assert len(journal.updates) == (NUM_TRIALS - 1) // MINIBATCH
    for name in PPOStats._fields:
        wanted = [(number, stats[name]) for number, stats in journal.updates.items()]
        assert found[f"controller/{name}"] == _approx(wanted)


def _approx(wanted: list[tuple[int, float]]) -> list[tuple[int, object]]:
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Journal]:
    folder = tmp_path_factory.mktemp("plain")
    return folder, run(folder)


def test_events_are_those_of_the_journal(plain: tuple[Path, Journal]) -> None:
    folder, journal = plain
    check(read(folder), journal)


def test_updates_in_the_journal_are_those_of_the_minibatches(plain: tuple[Path, Journal]) -> None:
    _, journal = plain
    for number, stats in journal.updates.items():
        first = number * MINIBATCH
        values = [journal.trials[n].values for n in range(first, first + MINIBATCH)]
        rewards = [value[0] for value in values if value]
        assert stats["mean_reward"] == pytest.approx(sum(rewards) / len(rewards))
        assert stats["approx_kl"] > 0
        assert stats["grad_norm"] > 0


def test_killed_search_goes_on_without_doubled_or_missing_events(tmp_path: Path) -> None:
    """For a TensorBoard that starts afterwards, and for one that was running all the time."""
    run(tmp_path, "SEARCH.NUM_TRIALS", "7", is_killed=True)
    running = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0})
    running.Reload()
    assert collect(running)["child/macs"][-1][0] == 6
    run(tmp_path, "SEARCH.NUM_TRIALS", "11", is_killed=True)
    running.Reload()
    journal = run(tmp_path)
    running.Reload()
    check(read(tmp_path), journal)
    check(collect(running), journal)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_finished_search_that_is_run_again_has_the_same_events(
    plain: tuple[Path, Journal],
) -> None:
    folder, _ = plain
    before = read(folder)
    run(folder)
    assert read(folder) == before


def test_children_wait_for_those_before_them(plain: tuple[Path, Journal], tmp_path: Path) -> None:
    _, journal = plain
    trial = journal.trials[3]
    state, trial.state = trial.state, TrialState.RUNNING
    try:
        with closing(EventLog(tmp_path / "tensorboard", journal)) as events:
            events.write()
            events._writer.flush()
            assert read(tmp_path)["child/macs"][-1][0] == 2
            trial.state = state
            events.write()
    finally:
        trial.state = state
    check(read(tmp_path), journal)
