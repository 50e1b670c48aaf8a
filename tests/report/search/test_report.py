"""nasnet-det report of searches: its numbers computed again in other ways, its files, its mistakes."""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from command import run_command, run_without
from optuna.trial import TrialState
from planted_child import PlantedChild

from nasnet_det.cli.main import main
from nasnet_det.genotype import Genotype
from nasnet_det.report.search.compare import (
    compare,
    find_differences,
    group_studies,
    warn_of_differences,
)
from nasnet_det.report.search.numbers import (
    choose_window,
    compute_moving_mean,
    compute_top_means,
    count_failures,
    count_operations,
    find_pareto_front,
    summarize,
)
from nasnet_det.report.search.page import write_search_report
from nasnet_det.runs.study_results import (
    COLUMNS,
    FORMAT,
    Child,
    ResultsError,
    Study,
    read_studies,
    save_studies,
    write_decisions,
)
from nasnet_det.search.assemble import get_identity, open_search
from nasnet_det.search.best import find_best_trials
from nasnet_det.search.config import get_search_config
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.results import collect_results
from nasnet_det.search.retraining import open_retraining
from nasnet_det.space import SearchSpace

NUM_TRIALS, NUM_RUN = 20, 17
OPTS = (
    f"SEARCH.NUM_TRIALS {NUM_TRIALS} SEARCH.SAMPLER.MINIBATCH 4 SEARCH.SPACE.NUM_BLOCKS 1 "
    "SEARCH.SPACE.OPERATIONS ['identity','max_pool_3x3'] SEARCH.SPACE.COMBINERS ['add'] "
    "SEARCH.CHILD.NUM_CELLS_PER_STAGE 1 SEARCH.CHILD.CHANNELS 4 SEARCH.DATA.IMAGE_SIZE 8"
).split()


def run_search(folder: Path, *opts: str, num_run: int = NUM_TRIALS) -> Path:
    """A search with planted children, as nasnet-det search leaves it; perhaps ended early."""
    cfg = get_search_config(opts=[*OPTS, "OUTPUT_DIR", str(folder), *opts])
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    cfg.SEARCH.NUM_TRIALS = num_run
    with open_search(cfg, train=PlantedChild(str(folder / "log"))) as search:
        search.run()
        if cfg.SEARCH.RETRAIN.NUM_BEST:
            best = find_best_trials(search.journal, cfg.SEARCH.RETRAIN.NUM_BEST)
            with open_retraining(cfg, train=Retrained(str(folder / "longer"))) as retraining:
                retraining.run(best)
    return folder


class Retrained(PlantedChild):
    """Trained for longer, the last are first, and the third fails."""

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        reward = None if job.number == 2 else 0.5 + job.number / 100
        return ChildResult(job.number, reward, "" if reward else "planted failure", 1.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One by the controller with its best retrained, and one by random that has not come to its end."""
    base = tmp_path_factory.mktemp("searches")
    opts = ("SEARCH.SAMPLER.NAME", "random", "SEARCH.SEED", "1")
    longer = ("SEARCH.RETRAIN.NUM_BEST", "4", "SEARCH.RETRAIN.EPOCHS", "99")
    return [run_search(base / "rl", *longer), run_search(base / "random", *opts, num_run=NUM_RUN)]


def read_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'study.db'}").trials


def make_raw(seed: int = 0, num_children: int = 60, **config: Any) -> dict[str, Any]:
    """Results that no search found: random decisions, rewards, failures, repeated architectures."""
    rng = random.Random(seed)
    identity = get_identity(get_search_config())
    identity |= {"SEARCH.SEED": seed, **{k.replace("__", "."): v for k, v in config.items()}}
    space = SearchSpace(
        identity["SEARCH.SPACE.NUM_BLOCKS"], tuple(identity["SEARCH.SPACE.OPERATIONS"])
    )
    rows: list[list[Any]] = []
    for number in range(num_children):
        size = [rng.randrange(10**4, 10**6), rng.randrange(10**6, 10**7)]
        decisions = write_decisions(space.sample(rng))
        kind = rng.random()
        if kind < 0.15:
            reason = rng.choice(["diverged: the loss is nan", "out of time: 9 s", "odd"])
            rows.append(["failed", decisions, None, *size, 3.21, reason, None, None])
        elif kind < 0.2:
            rows.append(["pruned", decisions, 0.6, *size, 0.5, None, None, None])
        elif kind < 0.35 and rows and rows[0][0] == "complete":
            rows.append([*rows[0][:5], None, None, 0, None])
        else:
            reward = rng.randrange(0, 500) / 1000
            rows.append(["complete", decisions, reward, *size, 1.25 + number, None, None, None])
    rows[-1] = [*rows[-1][:2], None, *rows[-1][3:5], None, None, None, None]
    rows[-1][0] = "running"
    return {
        "name": "search",
        "folder": f"folder_{seed}",
        "num_trials": num_children + 1,
        "config": identity,
        "versions": {"nasnet_det": "0.1.0"},
        "columns": list(COLUMNS),
        "children": rows,
    }


def test_no_file_of_a_report_is_named_outside_of_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    name = "/../../\0" + "x" * 300
    write_search_report([make_study(i, 4, SEARCH__SAMPLER__NAME=name) for i in (0, 1)], out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list(out.glob("cells_*.svg"))) == 2


def make_study(seed: int = 0, num_children: int = 60, **config: Any) -> Study:
    return Study.from_dict(make_raw(seed, num_children, **config), "made up")


# ---- What is collected


def test_collected_results_are_those_of_the_journal(folders: list[Path]) -> None:
    space = SearchSpace(1, ("identity", "max_pool_3x3"), ("add",))
    for folder in folders:
        study = collect_results(folder)
        trials = read_trials(folder)
        assert len(trials) == len(study.children) in (NUM_RUN, NUM_TRIALS)
        assert (study.folder, study.num_trials) == (folder.name, NUM_TRIALS)
        states = Counter()
        for trial, child in zip(trials, study.children, strict=True):
            values = [trial.params[d.name] for d in space.decisions]
            choices = [d.values.index(v) for d, v in zip(space.decisions, values, strict=True)]
            found, wanted = study.decode(child), space.decode(choices)
            assert (found.normal, found.reduction) == (wanted.normal, wanted.reduction)
            assert child.reward == trial.value
            assert child.macs == trial.user_attrs["macs"]
            assert child.failure == trial.user_attrs.get("failure")
            assert child.duplicate_of == trial.user_attrs.get("duplicate_of")
            states[trial.state, child.state] += 1
        assert set(states) == {
            (TrialState.COMPLETE, "complete"),
            (TrialState.FAIL, "failed"),
        }
    assert any(c.duplicate_of is not None for c in study.children), "the space is small"


def test_retrained_children_are_collected_and_the_best_of_them_is_chosen(
    folders: list[Path],
) -> None:
    rl, plain = map(collect_results, folders)
    different = {}
    for child in sorted(rl.complete, key=lambda c: (-c.reward, c.number)):
        if child.duplicate_of is None:
            different.setdefault(child.decisions, child)
    best = list(different.values())[:4]
    assert [child.retrained for child in best] == [0.5, 0.51, None, 0.53]
    assert [child.number for child in rl.retrained] == [best[i].number for i in (3, 1, 0)]
    assert rl.retraining_failures == {str(best[2].number): "planted failure"}
    assert rl.retraining == {"SEARCH.CHILD.EPOCHS": 99}
    assert (rl.chosen, rl.best) == (best[3], best[0])
    assert summarize(rl)["chosen"]["child"] == best[3].number
    assert Genotype.from_dict(summarize(rl)["chosen_genotype"]) == rl.decode(best[3])
    assert (plain.retrained, plain.chosen) == ((), plain.best)


def test_compact_form_comes_back_as_it_was(folders: list[Path], tmp_path: Path) -> None:
    studies = [*map(collect_results, folders), make_study(7)]
    save_studies(studies, tmp_path / "results.json")
    assert read_studies(tmp_path / "results.json") == studies


def test_compact_form_is_small_and_has_a_line_for_each_child(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save_studies([make_study(seed, 200) for seed in range(4)], path)
    assert path.stat().st_size < 120_000
    lines = path.read_text().splitlines()
    assert sum(line.lstrip().startswith(('["complete"', '["failed"', '["pruned"', '["running"')) for line in lines) == 800  # fmt: skip
    assert str(tmp_path) not in path.read_text()


def test_children_under_way_are_not_counted() -> None:
    study = make_study()
    assert len(study.children) == len(study.finished) + 1
    counts = summarize(study)["children"]
    assert (counts["asked"], counts["finished"], counts["under_way"]) == (61, 59, 1)
    assert counts["complete"] + counts["failed"] + counts["pruned"] == 59


# ---- Numbers, computed again in other ways


@pytest.mark.parametrize("k", [1, 5, 25])
def test_top_means_are_those_of_the_best_different_architectures(k: int) -> None:
    for seed in range(5):
        children = make_study(seed).finished
        assert any(c.duplicate_of is not None for c in children) or seed
        for place, value in enumerate(compute_top_means(children, k)):
            rewards = sorted(
                (
                    c.reward
                    for c in children[: place + 1]
                    if c.state == "complete" and c.duplicate_of is None
                ),
                reverse=True,
            )[:k]
            wanted = sum(rewards) / k if len(rewards) == k else None
            assert value == (pytest.approx(wanted) if wanted is not None else None)


def test_moving_mean_is_of_the_last_children_with_a_reward() -> None:
    children, window = make_study(3).finished, 8
    curve = compute_moving_mean(children, window)
    assert curve[: window - 1] == [None] * (window - 1)
    for stop in range(window, len(children) + 1):
        rewards = [c.reward for c in children[stop - window : stop] if c.reward is not None]
        assert curve[stop - 1] == pytest.approx(sum(rewards) / len(rewards))
    failed = [Child(n, "failed", "", None, 1, 1, None, "x", None) for n in range(5)]
    assert compute_moving_mean(failed, 3) == [None] * 5


def test_pareto_front_is_what_nothing_beats() -> None:
    for seed in range(10):
        rng = random.Random(seed)
        children = [
            Child(n, "complete", "", rng.randrange(8) / 10, 1, rng.randrange(8), 1.0, None, None)
            for n in range(rng.randrange(1, 40))
        ]
        front = find_pareto_front(children)

        def beats(a: Child, b: Child) -> bool:
            better = a.reward > b.reward or a.macs < b.macs
            return a.reward >= b.reward and a.macs <= b.macs and better

        wanted = {
            (c.macs, c.reward) for c in children if not any(beats(other, c) for other in children)
        }
        assert {(c.macs, c.reward) for c in front} == wanted
        assert len(front) == len(wanted)
        assert [c.macs for c in front] == sorted(c.macs for c in front)


def test_operation_shares_are_those_of_the_decisions(folders: list[Path]) -> None:
    folder = folders[0]
    study, trials = collect_results(folder), read_trials(folder)
    window = choose_window(study)
    assert window == 5
    counted = count_operations(study, window)
    assert counted["children"] == [8, 12, 16, 20]
    for cell in ("normal", "reduction"):
        for i, end in enumerate(counted["children"]):
            shown = Counter(
                value
                for trial in trials[end - window : end]
                for name, value in trial.params.items()
                if name.startswith(cell) and ".op_" in name
            )
            assert shown.total() == counted["decisions"] == 10
            for op in ("identity", "max_pool_3x3"):
                assert counted[cell][op][i] == shown[op] / 10


def test_failures_are_counted_by_kind() -> None:
    study = make_study(2, 200)
    texts = [row.failure for row in study.children if row.state == "failed"]
    found = {f["kind"]: f["count"] for f in count_failures(study)}
    assert found == {
        "diverged": texts.count("diverged: the loss is nan"),
        "out of time": texts.count("out of time: 9 s"),
        "odd": texts.count("odd"),
    }
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert {f["example"] for f in count_failures(study)} == set(texts)


def test_summary_names_the_best_child_and_its_cells() -> None:
    study = make_study(1)
    summary = summarize(study)
    assert any(c.state == "pruned" and c.reward > study.best.reward for c in study.children)
    best = max(c.reward for c in study.children if c.state == "complete")
    first = next(c for c in study.children if c.reward == best)
    assert summary["best"]["child"] == first.number
    genotype = Genotype.from_dict(summary["chosen_genotype"])
    assert genotype == study.decode(first)
    assert summary["seconds"]["sum"] == pytest.approx(
        sum(c.seconds for c in study.children if c.seconds is not None)
    )


# ---- Comparison


def test_seeds_of_a_sampler_are_averaged_as_far_as_all_go() -> None:
    studies = [make_study(0, 60), make_study(1, 50), make_study(2, 55, SEARCH__SAMPLER__NAME="random")]  # fmt: skip
    groups = group_studies([studies[1], studies[2], studies[0]])
    assert [group.title for group in groups] == ["controller", "random"]
    assert [study.seed for study in groups[0].studies] == [0, 1]
    assert groups[0].num_children == 49
    top = groups[0].top_means(5)
    curves = [compute_top_means(study.finished, 5) for study in studies[:2]]
    assert len(top["mean"]) == 49
    for i in range(49):
        pair = [curve[i] for curve in curves]
        if None in pair:
            assert top["mean"][i] is top["lowest"][i] is None
        else:
            assert top["mean"][i] == pytest.approx(sum(pair) / 2)
            assert (top["lowest"][i], top["highest"][i]) == (min(pair), max(pair))
    compared = compare(groups)
    assert compared["num_children"] == 49
    random_best = compared["groups"]["random"]["at_equal_number"]["top_1"]["mean"]
    assert random_best == max(c.reward for c in studies[2].finished[:49] if c.state == "complete")


def test_other_settings_of_a_sampler_are_a_group_of_their_own() -> None:
    studies = [make_study(0), make_study(1, SEARCH__PPO__LR=0.01), make_study(2)]
    titles = [group.title for group in group_studies(studies)]
    assert titles == ["controller (PPO.LR 0.00035)", "controller (PPO.LR 0.01)"]
    assert warn_of_differences(studies) == ""
    # What random does not use makes no difference to it.
    same = [
        make_study(seed, SEARCH__SAMPLER__NAME="random", SEARCH__PPO__LR=0.1 * (1 + seed))
        for seed in range(2)
    ]
    assert [len(group.studies) for group in group_studies(same)] == [2]


def test_other_recipes_are_warned_of() -> None:
    studies = [make_study(0), make_study(1, SEARCH__CHILD__EPOCHS=3)]
    assert warn_of_differences(studies) == (
        "These searches differ in more than sampler and seed (SEARCH.CHILD.EPOCHS): differences "
        "between their curves are not the samplers' alone."
    )
    assert find_differences(studies)["SEARCH.CHILD.EPOCHS"] == [20, 3]
    assert len(group_studies(studies)) == 2
    images = [
        make_study(seed, data=data, SEARCH__SAMPLER__NAME=sampler)
        for seed, data, sampler in ((0, 5, "controller"), (0, 6, "random"))
    ]
    assert "(data)" in warn_of_differences(images)
    assert warn_of_differences([make_study(0, data=5), make_study(1, data=6)]) == "", "other split"


def test_same_search_twice_is_refused() -> None:
    with pytest.raises(ResultsError, match="folder_0 and folder_0 are the same search") as caught:
        group_studies([make_study(0), make_study(1), make_study(0)])
    assert str(caught.value).endswith("(controller, seed 0, equal configs): give it once")


# ---- The tool


def report(*words: str) -> int:
    """The command in this process."""
    return main(["report", *words])


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.sources.append(values["src"] or "")
            self.alts.append(values["alt"] or "")
        self.links += [values[k] or "" for k in ("href", "srcset", "action") if k in values]
        self.links += [tag] * (tag in ("script", "link", "iframe", "object"))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_tool_reports_searches_and_keeps_their_results(
    repository: Path, folders: list[Path], tmp_path: Path
) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept.json"
    done = run_command("report", *folders, "--out", out, "--save-results", kept)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(kept), str(out / "report.html")]
    studies = [collect_results(folder) for folder in folders]
    figures = {"rewards", "top_means", "accuracy_macs"}
    for study in studies:
        name = f"{study.sampler}_{study.seed}"
        figures |= {f"operations_{name}", f"cells_{name}"}
    wanted = {f"{name}.{suffix}" for name in figures for suffix in ("svg", "png")}
    assert {path.name for path in out.iterdir()} == wanted | {"report.json", "report.html"}
    for path in out.glob("*.svg"):
        ElementTree.parse(path)

    report = json.loads((out / "report.json").read_text())
    assert report["studies"] == json.loads(json.dumps([summarize(study) for study in studies]))
    assert report["comparison"]["num_children"] == NUM_RUN
    page = _Page((out / "report.html").read_text())
    assert len(page.sources) == len(figures)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert all(page.alts)
    assert page.links == [], "self-contained"
    text = " ".join(page.words)
    assert "planted failure" in text
    for study in studies:
        assert f"{100 * study.chosen.reward:.2f}% of held-out images" in text
    assert "4 of the best were retrained with SEARCH.CHILD.EPOCHS 99; 1 failed" in text
    assert "53.00%" in text

    # The same from the file alone, without Optuna.
    done = run_without("optuna", "report", kept, "--out", tmp_path / "again")
    assert done.stderr == ""
    for name in ("report.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


SMALL_SPACE = {"SEARCH__SPACE__NUM_BLOCKS": 1, "SEARCH__SPACE__OPERATIONS": ["identity"]}


def test_tool_warns_of_other_recipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = [make_study(0, 4, **SMALL_SPACE, **keys) for keys in ({}, {"SEARCH__CHILD__EPOCHS": 3})]
    save_studies(two, tmp_path / "two.json")
    assert report(str(tmp_path / "two.json"), "--out", str(tmp_path / "out")) == 0
    err = capsys.readouterr().err
    assert err.startswith("nasnet-det report: These searches differ in more than sampler")
    assert err.count("\n") == 1
    assert "differ in more than sampler and seed" in (tmp_path / "out/report.html").read_text()
    assert (tmp_path / "out" / "cells_controller_0_2.png").is_file(), "two names for two studies"


def test_search_of_one_child_is_reported(tmp_path: Path) -> None:
    raw = make_raw(0, 3, **SMALL_SPACE)
    raw["children"] = [["complete", raw["children"][0][1], 0.25, 10, 20, 1.5, None, None, None]]
    report = write_search_report([Study.from_dict(raw, "one")], tmp_path)
    assert report["studies"][0]["curves"]["top_1"] == [0.25]
    assert report["studies"][0]["curves"]["top_5"] == [None]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, folders: list[Path]) -> dict[str, str]:
    """What a user may give by mistake, by name."""
    base = tmp_path_factory.mktemp("mistakes")
    (base / "empty").mkdir()
    (base / "config_only").mkdir()
    (base / "config_only" / "config.yaml").write_text("SEARCH:\n  SEED: 1\n")
    (base / "other_name").mkdir()
    (base / "other_name" / "config.yaml").write_text("SEARCH:\n  STUDY:\n    NAME: mine\n")
    (base / "other_name" / "study.db").write_bytes((folders[0] / "study.db").read_bytes())
    (base / "broken").mkdir()
    (base / "broken" / "config.yaml").write_text("SEARCH: [")
    (base / "torn").mkdir()
    (base / "torn" / "config.yaml").write_text("SEARCH:\n  SEED: 0\n")
    (base / "torn" / "study.db").write_bytes(b"no database" * 500)
    (base / "text.json").write_text("hello")
    (base / "genotype.json").write_text("{}")
    raw = make_raw(0, 5)
    bad = [["complete", "z" * 50, 0.5, 1, 1, 1.0, None, None, None]]
    running = [["running", row[1], None, 1, 1, None, None, None, None] for row in raw["children"]]
    for name, studies in {
        "short": [{**raw, "children": [row[:-1] for row in raw["children"]]}],
        "keyless": [{key: value for key, value in raw.items() if key != "config"}],
        "bad": [{**raw, "children": bad}],
        "running": [{**raw, "children": running}],
        "none": [],
        "good": [raw],
    }.items():
        (base / f"{name}.json").write_text(json.dumps({"format": FORMAT, "studies": studies}))
    (base / "file").write_text("")
    return {path.name.partition(".")[0]: str(path) for path in base.iterdir()}


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("{empty} --out x", 1, "empty holds no run: wanted the OUTPUT_DIR of nasnet-det train or nasnet-det search"),
        ("{config_only} --out x", 1, "config_only holds no search: it has a config.yaml, but no"),
        ("{other_name} --out x", 1, "there is no study 'mine' in sqlite:////.*/study.db"),
        ("{broken} --out x", 1, "config.yaml can't be read"),
        ("{torn} --out x", 1, "study.db can't be used"),
        ("/nowhere/at/all --out x", 1, "/nowhere/at/all: there is no such folder or file"),
        ("{text} --out x", 1, "text.json holds no results of searches: no JSON"),
        ("{genotype} --out x", 1, "genotype.json holds no results of searches: wanted the format"),
        ("{short} --out x", 1, "short.json: its results can't be read"),
        ("{keyless} --out x", 1, "keyless.json: its results lack 'config'"),
        ("{bad} --out x", 1, "bad.json: its results can't be read"),
        ("{running} --out x", 1, "running.json: the study 'search' has no child that was trained to the end yet .5 children, 0 of them failed"),
        ("{none} --out x", 1, "none.json holds no studies"),
        ("{good} {good} --out x", 1, "are the same search .controller, seed 0, equal configs.: give it once"),
        ("{good} --out {file}", 1, "file"),
        ("{good}", 2, "wanted --out DIR for a report, or --save-results FILE, or both"),
        ("--out x", 2, "the following arguments are required: RUN"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    words: str,
    status: int,
    sentence: str,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        found = report(*words.format(**places).split())
    except SystemExit as error:
        found = error.code
    out, err = capsys.readouterr()
    assert (found, out) == (status, "")
    assert re.search(sentence, err), err
    assert err.startswith("nasnet-det report: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()
