"""benchmarks/ranking.py: whom it trains, its numbers, how it goes on, and one whole small run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("optuna")

from benchmarks import ranking as benchmark
from benchmarks import ranking_analysis as analysis
from nasnet_det.report.front import ranks
from nasnet_det.runs.study_results import Child, Study, save_studies, write_decisions
from nasnet_det.search.child import train_child
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.zero_cost import MEASURES
from nasnet_det.space import SearchSpace

SPACE = SearchSpace(1, ("identity", "sep_conv_3x3", "max_pool_3x3", "conv_1x1"), ("add",))
SIZES = [
    "SEARCH.DATA.NUM_TRAIN", "64", "SEARCH.DATA.NUM_HELD_OUT", "50", "SEARCH.DATA.IMAGE_SIZE", "8",
    "SEARCH.DATA.UPSAMPLED_SIZE", "10", "SEARCH.CHILD.CHANNELS", "2", "SEARCH.CHILD.BATCH_SIZE", "16",
]  # fmt: skip


def _draw_choices(number: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(1)
    return [tuple(int(rng.integers(n)) for n in SPACE.num_choices) for _ in range(number)]


# ---- Who is trained


def test_one_of_each_stratum_is_chosen_and_always_the_same() -> None:
    rewards = np.random.default_rng(3).permutation(20).tolist()
    chosen = benchmark.choose(rewards, 5)
    assert chosen == benchmark.choose(rewards, 5)
    assert sorted(rewards[place] // 4 for place in chosen) == [0, 1, 2, 3, 4]
    assert [rewards[p] for p in chosen] != sorted(rewards[p] for p in chosen), "not in their order"
    assert sorted(benchmark.choose([0.5] * 7, 7)) == list(range(7))


@pytest.mark.parametrize("number", [2, 8])
def test_strata_without_a_child_are_one_sentence(number: int) -> None:
    with pytest.raises(ValueError, match=rf"^--architectures: wanted 3 to 7, .*, got {number}$"):
        benchmark.choose([0.5] * 7, number)


def test_long_training_is_at_least_as_long_as_asked() -> None:
    assert benchmark.count_epochs(2, 2000, 125) == {"short": 1, "reward": 2, "long": 16}
    assert benchmark.count_epochs(4, 2001, 125) == {"short": 2, "reward": 4, "long": 17}
    with pytest.raises(ValueError, match=r"^--steps: wanted more than the 250 of a reward, got 25"):
        benchmark.count_epochs(2, 250, 125)


# ---- The statistics


def _samples() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    for top in (4, 1000):  # with many equal values, and with none
        a, b = rng.integers(top, size=(2, 9)) / 7
        yield a, b, np.stack([np.ones(9), *rng.multinomial(9, [1 / 9] * 9, 20)])


def test_weights_are_how_often_an_architecture_was_drawn() -> None:
    for a, b, weights in _samples():
        for many, one in ((analysis.spearman, ranks.spearman), (analysis.kendall, ranks.kendall)):
            drawn = [np.repeat(np.arange(9), row.astype(int)) for row in weights]
            wanted = [one(a[places].tolist(), b[places].tolist()) for places in drawn]
            assert many(a, b, weights) == pytest.approx(np.array(wanted, dtype=float), nan_ok=True)


def test_numbers_are_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    for a, b, weights in _samples():
        assert analysis.spearman(a, b, weights)[0] == pytest.approx(stats.spearmanr(a, b).statistic)
        assert analysis.kendall(a, b, weights)[0] == pytest.approx(stats.kendalltau(a, b).statistic)


def test_equal_values_have_no_order() -> None:
    a, b = np.ones(4), np.arange(4.0)
    assert np.isnan(analysis.spearman(a, b, np.ones((1, 4)))).all()
    assert np.isnan(analysis.kendall(b, a, np.ones((1, 4)))).all()


def test_top_quarter_is_of_those_that_were_drawn() -> None:
    truth = np.arange(12.0)[::-1]  # the first is the best
    weights = np.ones((3, 12))
    weights[1] = [0, 2, 0, 2, 1, 7, 0, 0, 0, 0, 0, 0]
    weights[2, 4:] = 0  # a quarter of 4 is no order
    top = analysis.keep_top(truth, weights)
    assert top[0].tolist() == [1, 1, 1] + 9 * [0]
    assert top[1].tolist() == [0, 2, 0, 1] + 8 * [0]
    assert top[2].tolist() == 12 * [0]


# ---- The analysis


def _make_report(number: int, num_chosen: int, seeds: int = 2) -> dict[str, Any]:
    """All trainings: the reward has the order of the long ones, the short rung the opposite.

    The second seeds of the long ones exchange the first and the second of four.
    """
    names = [str(place) for place in range(number)]
    chosen = list(range(num_chosen))
    report: dict[str, Any] = {
        "made_of": {
            "chosen": chosen,
            "children": dict(zip(names, map(write_decisions, _draw_choices(number)), strict=True)),
            "space": [1, list(SPACE.operations), list(SPACE.combiners)],
            "epochs": {"short": 1, "reward": 2, "long": 16},
            "steps_per_epoch": 125,
            "seeds": seeds,
        },
        "machine": "2 cores",
        "rewards": {name: int(name) / 1000 for name in names},
        # What a linear model can add up to the reward.
        "measures": {
            name: [int(name) % 7, *[int(name) // 7] * (len(MEASURES) - 1)] for name in names
        },
    }
    exchanged = {0: 1.2, 1: -0.6}  # on average 0.6 and 0.7
    report["runs"] = [
        {**run._asdict(), "seconds": 30.0, "accuracy": {
            "short": -run.child / 100,
            "reward": run.child / 100 + run.seed / 1000,
            "long": (run.child + (exchanged.get(run.child % 4, 0) if run.seed == 2 else 0)) / 100,
        }[run.rung]}
        for run in benchmark.list_runs(report)
    ]  # fmt: skip
    return report


def _rows(report: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in analysis.analyse(report)["rows"]}


def test_rows_by_hand() -> None:
    """Of 28 pairs the seeds exchange 2; the means of the seeds keep the order."""
    report = _make_report(8, 8)
    rows = _rows(report)
    assert list(rows) == ["ceiling", "short", "reward", "recorded", *MEASURES], "no 50 others"
    assert rows["ceiling"]["kendall"][0] == pytest.approx(1 - 2 * 2 / 28, abs=1e-4)
    # 1 - 6 * sum of squared differences of ranks / (n^3 - n)
    assert rows["ceiling"]["spearman"][0] == pytest.approx(1 - 6 * 4 / 504, abs=1e-4)
    low, high = rows["ceiling"]["spearman"][1:]
    assert low < 0.9524 <= high <= 1
    for name, value in (("short", -1), ("reward", 1), ("recorded", 1)):
        assert rows[name]["spearman"] == rows[name]["kendall"] == [value] * 3
    assert rows["jacobian"]["spearman"][0] == pytest.approx(0.5774, abs=1e-4), "7 zeros and a 1"
    assert {row["top"] for row in rows.values()} == {None}, "two are no order"


def test_top_quarter_has_an_order_of_its_own() -> None:
    report = _make_report(12, 12, seeds=1)
    for run in report["runs"]:
        if run["rung"] == "reward" and run["child"] > 8:
            run["accuracy"] = 1 - run["child"] / 100
    rows = _rows(report)
    assert "ceiling" not in rows
    assert rows["reward"]["top"][0] == -1
    assert rows["reward"]["kendall"][0] == pytest.approx(1 - 2 * 3 / 66, abs=1e-4)


def test_predictor_learns_from_the_others_alone() -> None:
    report = _make_report(80, 12)
    predictor = _rows(report)["predictor"]["spearman"]
    assert predictor[0] > 0.9, "its measures say the reward"
    for name in map(str, range(12)):
        report["rewards"][name] = 5.0 - report["rewards"][name]
    rows = _rows(report)
    assert rows["predictor"]["spearman"] == predictor
    assert rows["recorded"]["spearman"][0] == -1
    for name in map(str, range(12, 80)):
        report["rewards"][name] = -report["rewards"][name]
    assert _rows(report)["predictor"]["spearman"][0] < -0.9


def test_architectures_count_when_they_are_complete(tmp_path: Path) -> None:
    report = _make_report(8, 8)
    report["runs"] = report["runs"][: 6 * 5 - 1]
    found = analysis.analyse(report)
    assert (found["complete"], found["failed"]) == (4, 0)
    assert found == analysis.analyse({**report, "runs": report["runs"][: 6 * 4]})
    report["runs"][2]["accuracy"] = None
    found = analysis.analyse(report)
    assert (found["complete"], found["failed"], len(found["rows"])) == (3, 1, 4 + len(MEASURES))
    for number in (0, 1, 6 * 3):
        part = {**report, "runs": report["runs"][:number]}
        benchmark.write_report(part, tmp_path)
        assert part["analysis"]["rows"] == []
        assert "| what orders |" in (tmp_path / "ranking.md").read_text()
        assert (tmp_path / "ranking.svg").read_text().startswith("<?xml")


def test_table_and_plot() -> None:
    report = _make_report(8, 8)
    report["analysis"] = analysis.analyse(report)
    lines = analysis.to_markdown(report).splitlines()
    assert lines[2].startswith("| another seed of long training | 0.95 (")
    assert "| 1 epoch | -1.00 (-1.00 to -1.00) | -1.00 (-1.00 to -1.00) |  |" in lines
    assert "| 2 epochs: the reward | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |  |" in lines
    assert lines[-1].endswith(
        "8 of 8 are complete, 0 failed; seeds: 2, steps of long training: 2,000, minutes of a "
        "core: 24 (2 cores)."
    )
    scatter, points = analysis.draw(report).axes
    assert len(scatter.containers) == 8
    (x,), (y,) = scatter.containers[4].lines[0].get_data()
    assert (x, y) == pytest.approx((4.15, 4.6)), "of two seeds: 4.1 and 4.2, 4 and 5.2"
    labels = [label.get_text() for label in points.get_yticklabels()]
    assert labels[:2] == ["another seed of long training", "1 epoch"]


def test_pages_take_the_table_and_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(benchmark.RESULTS.parents[1] / "docs" / "generate"))
    import search_results

    monkeypatch.setattr(search_results, "RESULTS", tmp_path)
    assert search_results._ranking_values() == {}, "before the measurement"
    report = _make_report(8, 8)
    benchmark.write_report(report, tmp_path)
    table = (tmp_path / "ranking.md").read_text().split("\n\n")[0].splitlines()
    assert search_results.TABLES["ranking"]().splitlines()[2:] == table[2:]
    values = search_results._ranking_values()
    assert values["ranking.reward.spearman"] == "1.00"
    assert (values["ranking.architectures"], values["ranking.steps"]) == ("8", "2,000")


# ---- The trainings


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of ten colors, and a study of eight children."""
    folder = tmp_path_factory.mktemp("ranking")
    rng = np.random.default_rng(0)
    labels = np.arange(130) % 10
    images = rng.integers(0, 60, (130, 8, 8, 3)) + rng.integers(0, 190, (10, 1, 1, 3))[labels]
    np.savez(folder / "colors.npz", x_train=images.astype(np.uint8), y_train=labels)
    children = [
        Child(n, "complete", write_decisions(choices), 0.1 + n / 100, 1, 1, 1.0, None, None)
        for n, choices in enumerate(_draw_choices(8))
    ]
    names = ("NUM_BLOCKS", "OPERATIONS", "COMBINERS")
    cells = (1, list(SPACE.operations), list(SPACE.combiners))
    config = {f"SEARCH.SPACE.{k}": v for k, v in zip(names, cells, strict=True)}
    config |= {"SEARCH.SAMPLER.NAME": "random", "SEARCH.SEED": 0}
    for name, number in (("random_0", 8), ("other", 8)):
        study = Study("search", name, number, config, {}, tuple(children))
        save_studies([study], folder / f"{name}.json")
    return folder


def _list_words(files: Path, folder: Path, *arguments: object) -> list[str]:
    words = ["--data", files / "colors.npz", "--studies", files / "random_0.json"]
    words += ["--architectures", 3, "--steps", 12, "--output", folder / "out"]
    words += ["--results", folder / "results", *arguments, *SIZES]
    return [str(word) for word in words]


class _StandIn:
    """Trains nothing: an accuracy of the job's seed, and an end after so many jobs."""

    jobs: list[tuple[ChildJob, int]]
    most = 1000

    def __init__(self, trainer: benchmark.RungTrainer, devices: list[str]) -> None:
        self.trainer = trainer

    def run(self, jobs: Iterable[ChildJob]) -> Iterator[ChildResult]:
        for count, job in enumerate(jobs):
            if count == self.most:
                raise KeyboardInterrupt
            self.jobs.append((job, self.trainer.recipes[job.number].epochs))
            failed = len(self.jobs) == 2
            reward, failure = (None, "diverged") if failed else (job.seed / 2**32, "")
            yield ChildResult(job.number, reward, failure, 1.234)

    def close(self) -> None:
        pass


def test_killed_and_started_again_it_trains_what_is_missing(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(folder: Path, most: int = 1000) -> None:
        monkeypatch.setattr(_StandIn, "most", most)
        monkeypatch.setattr(sys, "argv", ["ranking.py", *_list_words(files, folder)])
        assert benchmark.main() == 0

    monkeypatch.setattr(benchmark, "LocalProcesses", _StandIn)
    monkeypatch.setattr(_StandIn, "jobs", [], raising=False)
    start(tmp_path / "whole")
    whole, first = _StandIn.jobs, json.loads((tmp_path / "whole/results/ranking.json").read_text())
    assert [epochs for _, epochs in whole] == 6 * [1, 2, 3]
    assert len({job.seed for job, _ in whole}) == 18, "no two trainings have one seed"
    chosen = first["made_of"]["chosen"]
    assert [run["child"] for run in first["runs"]] == [child for child in chosen for _ in range(6)]
    assert first["runs"][1]["failure"] == "diverged"
    assert (first["analysis"]["complete"], first["analysis"]["failed"]) == (2, 1)

    monkeypatch.setattr(_StandIn, "jobs", [])
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "killed", most=7)
    capsys.readouterr()
    start(tmp_path / "killed")
    lines = [line for line in capsys.readouterr().out.splitlines() if " of 18: " in line]
    assert [line.split(":")[0] for line in lines] == [f"{n} of 18" for n in range(8, 19)]
    key = [(job.choices, job.seed, epochs) for job, epochs in whole]
    assert [(job.choices, job.seed, epochs) for job, epochs in _StandIn.jobs] == key
    again = json.loads((tmp_path / "killed/results/ranking.json").read_text())
    assert again == first
    for name in ("ranking.md", "ranking.svg"):
        texts = [(tmp_path / who / "results" / name).read_bytes() for who in ("whole", "killed")]
        assert texts[0] == texts[1]


def test_mistakes_are_one_sentence(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: object) -> str:
        words = _list_words(files, tmp_path, *arguments)
        monkeypatch.setattr(sys, "argv", ["ranking.py", *words])
        assert benchmark.main() == 1
        return capsys.readouterr().err

    assert "there.npz" in call("--data", tmp_path / "there.npz")
    assert call("--steps", 8) == (
        "ranking.py: --steps: wanted more than the 8 of a reward, got 8\n"
    )
    assert "--architectures: wanted 3 to 8, " in call("--architectures", 9)
    other = files / "other.json"
    assert call("--studies", other) == (
        f"ranking.py: {other}: wanted a study 'random_0', got other\n"
    )
    monkeypatch.setattr(benchmark, "LocalProcesses", _StandIn)
    monkeypatch.setattr(_StandIn, "jobs", [], raising=False)
    monkeypatch.setattr(sys, "argv", ["ranking.py", *_list_words(files, tmp_path)])
    assert benchmark.main() == 0
    capsys.readouterr()
    before = (tmp_path / "results" / "ranking.json").read_bytes()
    sentence = call("--seeds", 3, "--steps", 16)
    assert "has results of other trainings (epochs, seeds); remove it, or name" in sentence
    assert (tmp_path / "results" / "ranking.json").read_bytes() == before


def test_a_small_run_is_that_of_the_search_s_children(
    repository: Path, files: Path, tmp_path: Path
) -> None:
    """Its accuracies are those of the child training with the config's recipe."""
    command = [
        sys.executable,
        "benchmarks/ranking.py",
        *_list_words(files, tmp_path, "--seeds", "1"),
    ]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=repository, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "results" / "ranking.json").read_text())
    assert report["analysis"]["complete"] == 3
    assert done.stdout.endswith((tmp_path / "results" / "ranking.md").read_text())
    _, trainer = benchmark.open_report(
        benchmark.parse_arguments(_list_words(files, tmp_path, "--seeds", "1"))
    )
    run = report["runs"][1]
    assert (run["rung"], trainer.recipe.epochs, trainer.recipe.lr) == ("reward", 2, 0.05)
    choices = analysis.read_decisions(report["made_of"]["children"][str(run["child"])])
    job = ChildJob(0, choices, benchmark.seed_of(benchmark.Run(run["child"], 1, "reward")))
    result = train_child(job, trainer.recipe, trainer.space, trainer.load())
    assert run["accuracy"] == result.reward
    assert 0 < run["seconds"] < 60
