"""Stages of a pipeline: skipped when done, resumed when killed, made anew when something changed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nasnet_det.pipeline.stages import RECORD, Stage, StageError, describe_stages, run_stages
from nasnet_det.published_cells import load_genotype
from nasnet_det.runs.files import FileError

# Counts to LAST, a line each; started again, it goes on. It copies the last line of its input.
COUNTER = """
import pathlib, sys, time
folder, last, pause, source = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
lines = folder / "lines"
begun = lines.read_text().splitlines() if lines.exists() else []
for i in range(len(begun), last):
    time.sleep(pause)
    with lines.open("a") as file:
        file.write(f"{i}\\n")
text = "".join(pathlib.Path(path).read_text() for path in source) + f"counted to {last}\\n"
(folder / "result").write_text(text)
"""
START = """
import sys; from pathlib import Path
sys.path.insert(0, {tests!r})
from test_stage import make_stages; from nasnet_det.pipeline.stages import run_stages
run_stages(make_stages(Path({root!r}), pause={pause}), Path({root!r}), tell=lambda line: print(line, flush=True))
"""


def make_stages(root: Path, *, last: int = 3, pause: float = 0.0) -> list[Stage]:
    """Two stages; the second reads the result of the first."""
    script = root / "counter.py"
    root.mkdir(exist_ok=True)
    if not script.exists():
        script.write_text(COUNTER)
    stages: list[Stage] = []
    for name in ("first", "second"):
        inputs = tuple(path for stage in stages for path in stage.outputs)
        number = last if name == "first" else 4
        stages.append(
            Stage(
                name=name,
                command=(str(script), str(root / name), str(number), str(pause), *map(str, inputs)),
                folder=root / name,
                config={"LAST": number},
                inputs=inputs,
                outputs=(root / name / "result",),
            )
        )
    return stages


def _run(root: Path, **options: int) -> list[str]:
    """What was told, a word or two a stage."""
    told: list[str] = []
    run_stages(make_stages(root, **options), root, tell=told.append)
    lines = [line for line in told if line.startswith("[") and "finished" not in line]
    return [line.split("] ")[1].split(" (")[0] for line in lines]


def test_stages_run_in_order_and_are_skipped_when_done(tmp_path: Path) -> None:
    assert _run(tmp_path) == ["first: to be made", "second: to be made"]
    assert (tmp_path / "second" / "result").read_text() == "counted to 3\ncounted to 4\n"
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    assert _run(tmp_path) == ["first: done already", "second: done already"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")} == times


def test_changed_config_makes_the_stage_and_what_reads_it_anew(tmp_path: Path) -> None:
    _run(tmp_path)
    assert _run(tmp_path, last=5) == [
        "first: made anew: LAST was 3, is 5",
        f"first: what was there is now in {tmp_path / 'first.1'}",
        "second: made anew: first/result is another",
        f"second: what was there is now in {tmp_path / 'second.1'}",
    ]
    assert (tmp_path / "second" / "result").read_text() == "counted to 5\ncounted to 4\n"
    assert (tmp_path / "second.1" / "result").read_text() == "counted to 3\ncounted to 4\n"
    assert _run(tmp_path)[1].endswith("first.2"), "the first copy is kept"


def test_stage_that_is_asked_for_more_goes_on_where_it_was(tmp_path: Path) -> None:
    def run(number: int) -> list[str]:
        (stage, _), told = make_stages(tmp_path, last=number), []
        config = {"SOLVER.EPOCHS": number, "SOLVER.LR": 0.1}
        run_stages([replace(stage, part="classifier", config=config)], tmp_path, tell=told.append)
        return told

    run(2)
    assert run(4)[0] == "[1/1] first: goes on: SOLVER.EPOCHS was 2, is 4"
    assert (tmp_path / "first" / "lines").read_text().split() == ["0", "1", "2", "3"]
    assert run(4)[0].startswith("[1/1] first: done already")
    assert run(3)[0] == "[1/1] first: made anew: SOLVER.EPOCHS was 4, is 3"


def test_of_a_genotype_only_the_cells_count(tmp_path: Path) -> None:
    """A search that goes on and finds no better cells leaves what was made of them alone."""
    path = tmp_path / "genotype.json"
    (stage, _) = make_stages(tmp_path)
    stage = replace(stage, cells=(path,))

    def run(name: str, **provenance: int) -> str:
        genotype = replace(load_genotype(name), name="found", provenance=provenance)
        genotype.save(path)
        told: list[str] = []
        run_stages([stage], tmp_path, tell=told.append)
        return told[0].split(" (")[0]

    assert run("nasnet_a", num_trials=2) == "[1/1] first: to be made"
    assert run("nasnet_a", num_trials=4) == "[1/1] first: done already"
    assert run("amoebanet_a").endswith(f"made anew: {tmp_path.name}/genotype.json is another")


def test_same_result_of_a_stage_made_anew_leaves_the_next_one_alone(tmp_path: Path) -> None:
    _run(tmp_path)
    (tmp_path / "first" / "result").unlink()
    assert _run(tmp_path) == [
        "first: goes on: first/result is missing or another",
        "second: done already",
    ]


def test_files_of_which_nothing_is_known_are_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "lines").write_text("of another\n")
    assert _run(tmp_path)[0] == f"first: made anew: nothing is known of {tmp_path / 'first'}"
    assert (tmp_path / "first.1" / "lines").read_text() == "of another\n"


def test_description_says_what_would_run_and_writes_nothing(tmp_path: Path) -> None:
    stages = make_stages(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    text = describe_stages(stages, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[1/2] first: to be made",
        "[2/2] second: to be made: after the stages before it",
    ]
    assert f"    -> {tmp_path / 'first' / 'result'}" in text.splitlines()
    _run(tmp_path)
    text = describe_stages(make_stages(tmp_path, last=9), tmp_path)
    assert "[1/2] first: made anew: LAST was 3, is 9" in text.splitlines()


def test_failure_is_one_sentence_and_the_next_start_goes_on(tmp_path: Path) -> None:
    stages = make_stages(tmp_path)
    script = tmp_path / "counter.py"
    script.write_text("import sys; sys.exit(3)")
    with pytest.raises(StageError, match=r"first failed \(exit status 3\); started again, it goes"):
        run_stages(stages, tmp_path)
    script.write_text("")
    with pytest.raises(StageError, match=f"first ended without {tmp_path}/first/result"):
        run_stages(stages, tmp_path)
    script.write_text(COUNTER)
    assert _run(tmp_path) == ["first: goes on", "second: to be made"]


@pytest.mark.parametrize("text", ["{", "[]", '{"first": {}}', '{"first": 3}'])
def test_damaged_record_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(FileError, match=f"{RECORD} can't be read as the record of a pipeline"):
        run_stages(make_stages(tmp_path), tmp_path)


@pytest.mark.parametrize("whole_group", [True, False])
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(
    tmp_path: Path, repository: Path, whole_group: bool
) -> None:
    """SIGKILL to all its processes, or to it alone: its command then lives on, and is waited for."""
    moments = random.Random(0)
    root = tmp_path / "killed"
    code = START.format(tests=str(repository / "tests/pipeline"), root=str(root), pause=0.05)
    command = [sys.executable, "-c", code]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    counts = [0]
    while True:
        process = subprocess.Popen(
            command,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not (root / RECORD).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if len(counts) > 2:
            assert process.wait(60) == 0
            break
        time.sleep(moments.uniform(0.0, 0.2))
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        counts.append(sum(len(path.read_text().split()) for path in root.glob("*/lines")))
    assert counts == sorted(counts), "what was done stays done"
    for name, number in (("first", 3), ("second", 4)):
        lines = (root / name / "lines").read_text().split()
        assert lines == [str(i) for i in range(number)], "never two at a time, and nothing again"
    assert (root / "second" / "result").read_text() == "counted to 3\ncounted to 4\n"
    assert {path.name for path in root.iterdir()} >= {"first", "second", RECORD}
    assert not list(root.glob("*.1"))
    record = json.loads((root / RECORD).read_text())
    assert all("outputs" in entry for entry in record.values())
