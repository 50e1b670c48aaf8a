"""nasnet-det search with detectors as children: what it leaves, kills, and mistakes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from command import ForkedCommand, start_command
from tiny_detector_search import write_detector_search

from nasnet_det.cli.main import main
from nasnet_det.config import parse_yaml
from nasnet_det.detection.candidate_config import NASNET_RATE, build_config, shorten
from nasnet_det.detection.candidates import CandidateStage
from nasnet_det.pipeline.detector_search import prepare_data
from nasnet_det.published_cells import load_genotype
from nasnet_det.runs.candidates import Candidate, DetectorTask, read_front
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.known_backbones import list_known
from nasnet_det.search.latencies import Stopwatch

FROM_WEIGHTS = "quick_schedules/faster_rcnn_nasnet_a_small_FPN.yaml"
C4 = "COCO-Detection/faster_rcnn_nasnet_a_mobile_C4_1x.yaml"


def list_words(words: list[str], folder: Path, *more: str) -> list[str]:
    flags = [word for word in more if word.startswith("--")]
    opts = [word for word in more if not word.startswith("--")]
    return ["search", *flags, *words, "OUTPUT_DIR", str(folder), *opts]


def call(words: list[str], folder: Path, *more: str) -> int:
    """The command in this process."""
    return main(list_words(words, folder, *more))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_detector_search(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "out"
    assert call(words, folder) == 0
    return folder


def read_results(folder: Path) -> Any:
    """All that a search found, without what is measured on the clock."""
    front = read_front(folder)
    rungs = [[(one.candidate, one.values) for one in rung] for rung in front.rungs]
    return front.names, rungs


def read_results_of(folder: Path) -> float:
    """The AP of a detector, in percent; 0 where it found nothing."""
    (data,) = json.loads((folder / "results.json").read_text())["datasets"].values()
    return data["results"]["bbox"].get("AP") or 0.0


def test_search_leaves_a_front_with_configs_that_train(finished: Path, tmp_path: Path) -> None:
    front = read_front(finished)
    assert [len(rung) for rung in front.rungs] == [4, 4, 2]
    last = {one.candidate.name: one for one in front.rungs[-1]}
    assert sum(one.candidate.is_known for one in last.values()) == 1
    for name in front.names:
        costs = [last[name].values["macs"], -last[name].values["ap"]]
        others = [[o.values["macs"], -o.values["ap"]] for o in last.values()]
        assert not any(o != costs and o[0] <= costs[0] and o[1] <= costs[1] for o in others)
        config = parse_yaml((finished / "front" / f"{name}.yaml").read_text(), "it")
        assert config["INPUT"]["MIN_SIZE_TEST"] == last[name].candidate.min_size
    words = ["--config-file", str(finished / "front" / f"{front.names[0]}.yaml")]
    opts = ["SOLVER.MAX_ITER", "1", "OUTPUT_DIR", str(tmp_path / "trained")]
    assert main(["train", *words, *opts]) == 0


def test_report_judges_and_shows_each_rung(finished: Path, tmp_path: Path) -> None:
    report = json.loads((finished / "report" / "report.json").read_text())
    front = read_front(finished)
    shown = {point["name"]: point for point in report["points"]}
    assert {name for name, point in shown.items() if point["is_on_front"]} == set(front.names)
    for one in front.rungs[-1]:
        low, high = shown[one.candidate.name]["ap"]["interval"]
        assert 0 <= low <= high
    sides = [{n for n, p in shown.items() if p["is_known"] == known} for known in (False, True)]
    pairs = {(pair["found"], pair["known"]): pair for pair in report["pairs"]}
    assert set(pairs) == {(one, other) for one in sides[0] for other in sides[1]}
    for names, pair in pairs.items():
        found, known = (shown[name] for name in names)
        difference = found["ap"]["value"] - known["ap"]["value"]
        assert pair["difference"]["value"] == pytest.approx(difference)
        assert pair["cost"] == found["macs"] / known["macs"]
    assert report["verdict"]["sentence"].startswith("The search ")
    assert [(row["before"], row["number"]) for row in report["ranks"]] == [(1, 2), (2, 2)]
    page = (finished / "report" / "report.html").read_text()
    assert report["verdict"]["sentence"] in page
    assert main(["report", str(finished), "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_finished_search_is_not_searched_again(finished: Path, words: list[str]) -> None:
    before = read_results(finished)
    assert call(words, finished, "--resume") == 0
    assert read_results(finished) == before


def test_killed_search_ends_with_the_same_front(
    words: list[str], finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    process = ForkedCommand(*list_words(words, folder), start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob("rung_2/*/last_checkpoint")):  # in the middle of a detector
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "front.json").exists()
    assert call(words, folder, "--resume") == 0
    assert read_results(folder) == read_results(finished)


def _find_workers(pid: int) -> list[int]:
    """Processes that a search has started for its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(c) for c in children if b"spawn" in Path(f"/proc/{c}/cmdline").read_bytes()]
    except OSError:  # it has just ended
        return []


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["search", "worker"])
def test_search_that_loses_20_processes_ends_with_the_same_front(
    victim: str, words: list[str], finished: Path, tmp_path: Path
) -> None:
    folder, rng, num_killed = tmp_path / "out", random.Random(0), 0
    arguments = list_words(
        *(words, folder, "--resume", "SEARCH.EXECUTOR.NAME", "local_processes"),
        *("SEARCH.EXECUTOR.NUM_WORKERS", "2", "SEARCH.EXECUTOR.MAX_RETRIES", "100"),
    )
    deadline = time.monotonic() + 1800
    while num_killed < 20 and time.monotonic() < deadline:
        process = start_command(*arguments, start_new_session=True)
        while process.poll() is None and num_killed < 20:
            time.sleep(rng.uniform(4, 25))  # the imports take some of it
            workers = _find_workers(process.pid)
            if victim == "search" and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                num_killed += 1
                break
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                num_killed += 1
        if process.poll() is None and victim == "search":
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if (folder / "front.json").exists():  # before 20: once more from the beginning
            assert read_results(folder) == read_results(finished)
            shutil.rmtree(folder)
    assert num_killed == 20
    assert main(arguments) == 0
    assert read_results(folder) == read_results(finished)


def test_every_key_reaches_what_it_is_for(words: list[str], tmp_path: Path) -> None:
    text = (
        "SEARCH.DETECTOR.NUM_CELLS_PER_STAGE [2,3] SEARCH.DETECTOR.CHANNELS [8,16] "
        "SEARCH.DETECTOR.MIN_SIZES [32,96] SEARCH.DETECTOR.HELD_OUT 0.5 "
        "SEARCH.DETECTOR.RESNETS [34] SEARCH.DETECTOR.NASNET_A True "
        "SEARCH.DETECTOR.ITERATIONS [7,9]"
    )
    cfg = get_search_config(words[1], [*words[2:], *text.split()])
    task, contents = prepare_data(cfg, tmp_path)
    assert contents["num_held_out"] == 10
    assert task.config == cfg.SEARCH.DETECTOR.CONFIG
    assert task.images == cfg.DATASETS.TRAIN_IMAGES
    pictures = json.loads(Path(cfg.DATASETS.TRAIN_JSON).read_text())["images"]
    parts = [json.loads(Path(p).read_text())["images"] for p in (task.train_json, task.test_json)]
    assert sorted(one["id"] for part in parts for one in part) == [one["id"] for one in pictures]
    extras = {extra.name: extra.values for extra in build_space(cfg).extras}
    assert extras == {
        "num_cells_per_stage": (2, 3), "channels": (8, 16), "min_size": (32, 96),
    }  # fmt: skip
    known = [candidate.name for candidate in list_known(cfg)]
    assert [name for name in known if "resnet" in name] == ["resnet_34_32", "resnet_34_96"]
    assert len(known) == 2 + 8
    candidate = list_known(cfg)[-1]
    built = build_config(candidate, task, tmp_path, device="cpu")
    shorten(built, cfg.SEARCH.DETECTOR.ITERATIONS[0])
    assert built.MODEL.NASNET.CHANNELS == 16
    assert built.MODEL.NASNET.NUM_CELLS_PER_STAGE == 3
    assert (built.INPUT.MIN_SIZE_TEST, built.SOLVER.MAX_ITER) == (96, 7)
    assert built.MODEL.ANCHOR_GENERATOR.SIZES[0] == [12.0]  # 8 for 64 pixels


# ---- Candidates


@pytest.mark.parametrize(("optimizer", "rate"), [("AdamW", NASNET_RATE), ("SGD", 1.0)])
def test_cells_learn_at_their_own_rate_with_adamw(
    optimizer: str, rate: float, words: list[str], tmp_path: Path
) -> None:
    """Beside the config's own factor; a ResNet has that alone."""
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"_BASE_: {words[-1]}\nSOLVER: {{OPTIMIZER: {optimizer}, BACKBONE_LR_FACTOR: 0.5}}\n"
    )
    task = DetectorTask(str(config), "train.json", "val.json", "images")
    cells = load_genotype("nasnet_a")
    candidates = (
        Candidate("one", 64, num_cells_per_stage=1, channels=8, genotype=cells),
        Candidate("resnet_18", 64, depth=18, is_known=True),
    )
    factors = [
        build_config(one, task, tmp_path, device="cpu").SOLVER.BACKBONE_LR_FACTOR
        for one in candidates
    ]
    assert factors == [0.5 * rate, 0.5]


def test_every_known_backbone_can_be_built(finished: Path) -> None:
    task, stage = read_front(finished).task, CandidateStage()
    sizes = [
        stage.measure_size(Candidate(f"resnet_{depth}", 64, depth=depth, is_known=True), task)
        for depth in (18, 34, 50)
    ]
    assert sizes == sorted(sizes)
    assert 11e6 < sizes[0][0] < 13e6
    large, small = (stage.measure_size(Candidate("one", s, depth=18), task) for s in (128, 64))
    assert large[0] == small[0]
    assert 2 < large[1] / small[1] < 4.1


def test_latencies_are_of_every_detector_with_their_spread(finished: Path) -> None:
    front = read_front(finished)
    candidates = [one.candidate for one in front.rungs[-1]]
    measured = CandidateStage().measure_latencies([(c, "") for c in candidates], front.task, "cpu")
    assert len(measured) == len(candidates)
    for latency in measured:
        assert 0 < latency.low <= latency.ms <= latency.high
        assert (latency.runs, latency.threads) == (25, torch.get_num_threads())


@pytest.mark.parametrize("is_apart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_latency_is_a_goal_that_is_measured_once(
    is_apart: bool, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_apart:  # three processes that would import everything

        def measure(self: Stopwatch, items: Any) -> Any:
            return self.stage.measure_latencies(items, self.task, self.device)

        monkeypatch.setattr(Stopwatch, "measure", measure)
    goals = ["SEARCH.GOALS", "['ap','latency_ms']", "SEARCH.DETECTOR.NUM_CANDIDATES", "[1,1]"]
    goals += ["SEARCH.DETECTOR.NUM_SEEDS", "2"]
    folder = tmp_path / "out"
    assert call(words, folder, *goals) == 0
    front = read_front(folder)
    for one in front.rungs[-1]:
        name = one.candidate.name
        assert one.latency is not None
        assert one.values["latency_ms"] == one.latency.ms
        assert one.runs == (name, f"{name}.seed_1")
        results = [read_results_of(folder / "rung_3" / run) for run in one.runs]
        assert one.values["ap"] == pytest.approx(sum(results) / 200)
    assert call(words, folder, "--resume", *goals) == 0
    assert read_front(folder) == front


# ---- Mistakes


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["SEARCH.GOALS", "['ap','fps']"], "SEARCH.GOALS: unknown goal of detectors 'fps'"),
        (["SEARCH.GOALS", "['macs']"], "SEARCH.GOALS: wanted ap first and each goal once"),
        (["SEARCH.CHILD.KIND", "segmenter"], "SEARCH.CHILD.KIND: unknown kind 'segmenter'"),
        (["SEARCH.DETECTOR.CHANNELS", "[4]"], "SEARCH.DETECTOR.CHANNELS: wanted different whole"),
        (["SEARCH.DETECTOR.RESNETS", "[19]"], "SEARCH.DETECTOR.RESNETS: wanted some of (18, 34"),
        (["SEARCH.DETECTOR.HELD_OUT", "0.1"], "wanted at least 5 pictures to hold out, got 2 of"),
        (["SEARCH.BUDGET_HOURS", "1e-5"], "SEARCH.BUDGET_HOURS: wanted at least 0.00"),
        (["SEARCH.DATA.PATH", "crops"], "SEARCH.DATA.PATH: a search for detectors wants ''"),
        (["SEARCH.EXECUTOR.NAME", "ray"], "SEARCH.EXECUTOR.NAME: a search for detectors wants in"),
        (["DATASETS.TRAIN_IMAGES", ""], "DATASETS.TRAIN_IMAGES: wanted the folder that"),
        (
            ["SEARCH.DETECTOR.CONFIG", FROM_WEIGHTS],
            "wanted a detector that is trained from nothing",
        ),
        (["SEARCH.DETECTOR.CONFIG", C4], "SEARCH.DETECTOR.CONFIG: wanted a Faster R-CNN under"),
        (["DATASETS.TRAIN_JSON", ""], "DATASETS.TRAIN_JSON: wanted the annotations"),
    ],
)
def test_mistakes_are_one_sentence_before_any_training(
    words: list[str],
    tmp_path: Path,
    pairs: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(words, tmp_path / "out", *pairs) == 1
    err = capsys.readouterr().err
    assert err.startswith("nasnet-det search: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("study.db"))


def test_device_that_can_not_be_measured_is_one_sentence(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(*_: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr("nasnet_det.search.latencies.ProcessPoolExecutor", measure)
    assert call(words, tmp_path / "out", "SEARCH.GOALS", "['ap','latency_ms']") == 1
    err = capsys.readouterr().err
    assert "SEARCH.GOALS: latency_ms can't be measured on cpu: no kernel image" in err
    assert err.count("\n") == 1
