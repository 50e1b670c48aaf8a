"""What every stage does with its folder: its lock, its record, a full disk, a read-only folder."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from command import run_command
from tiny_classification import quick
from tiny_detection import write_tiny_config, write_tiny_dataset
from tiny_search import SMALL_SEARCH, write_images

from nasnet_det.cli.main import main
from nasnet_det.runs import lock
from nasnet_det.runs.files import PARTIAL
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.record import CONFIG, STARTS, read_starts


def _search(folder: Path) -> list[str]:
    images = write_images(folder / "images.npz")
    pairs = ["SEARCH.NUM_TRIALS", "2", "SEARCH.SAMPLER.MINIBATCH", "1"]
    return [*SMALL_SEARCH, *pairs, "SEARCH.DATA.PATH", images, "OUTPUT_DIR", str(folder / "run")]


def _classifier(folder: Path) -> list[str]:
    return quick(folder, "run", "SOLVER.EPOCHS", "1", "DATA.NUM_WORKERS", "0")


def _detector(folder: Path) -> list[str]:
    files = write_tiny_dataset(folder / "data")
    pairs = [*files, "OUTPUT_DIR", str(folder / "run"), "SOLVER.MAX_ITER", "2"]
    return ["--config-file", write_tiny_config(folder), *pairs]


def _pipeline(folder: Path) -> list[str]:
    files = [f"detector.{w}" if w.startswith("D") else w for w in write_tiny_dataset(folder)]
    off = ["SEARCH.CONFIG", "", "CLASSIFIER.CONFIG", ""]
    detector = ["DETECTOR.CONFIG", write_tiny_config(folder)]
    return ["--config-file", "pipelines/digits.yaml", *off, *detector, *files,
            "OUTPUT_DIR", str(folder / "run")]  # fmt: skip


STAGES = {
    "search": ("search", _search),
    "classifier": ("train-classifier", _classifier),
    "detector": ("train", _detector),
}
Words = Callable[[Path], list[str]]


@pytest.mark.parametrize(
    ("tool", "flags", "words"),
    [
        ("search", [], _search),
        ("train-classifier", [], _classifier),
        ("train-classifier", ["--eval-only"], _classifier),
        ("train", [], _detector),
        ("train", ["--eval-only"], _detector),
        ("pipeline", [], _pipeline),
    ],
)
def test_second_start_in_a_folder_in_use_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tool: str,
    flags: list[str],
    words: Words,
) -> None:
    name = "pipeline" if tool == "pipeline" else "run"
    arguments = [*flags, *words(tmp_path)]
    with lock_folder(tmp_path / "run", "the first", name=name):
        before = sorted((tmp_path / "run").iterdir())
        assert main([tool, *arguments]) == 1
        assert sorted((tmp_path / "run").iterdir()) == before
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1] == (
        f"nasnet-det {tool}: OUTPUT_DIR {tmp_path / 'run'} is in use (the first, process {os.getpid()}); "
        "wait for its end, or give another OUTPUT_DIR"
    )
    assert [line for line in error if line.startswith(f"nasnet-det {tool}")] == error[-1:]


def _run(tool: str, arguments: list[str], **options: Any) -> tuple[int, str]:
    """Status and the sentence on standard error."""
    done = run_command(tool, *arguments, **options)
    assert "Traceback" not in done.stderr, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith(f"nasnet-det {tool}: ")]
    return done.returncode, "\n".join(told)


@pytest.mark.parametrize("stage", STAGES)
def test_folder_is_held_while_it_trains_and_only_a_training_records_itself(
    tmp_path: Path, stage: str
) -> None:
    tool, words = STAGES[stage]
    folder = tmp_path / "run"
    assert _run(tool, words(tmp_path)) == (0, "")
    config = (folder / CONFIG).read_bytes()
    (start,) = read_starts(folder)
    assert start["command"][:2] == ["nasnet-det", tool]
    assert start["seed"] == (0 if stage != "detector" else 1)
    assert {"time", "device", "processes", "versions", "git_commit"} <= start.keys()
    assert {"nasnet_det", "python", "torch"} <= start["versions"].keys()
    holder = (folder / "run.lock").read_text()
    assert holder.split(",")[0] in ("search", "classifier's training", "detector's training")

    # A start that fails, and an evaluation, leave both files as they are.
    record = (folder / STARTS).read_bytes()
    wrong = {"search": "SEARCH.SEED", "classifier": "SEED", "detector": "MODEL.NASNET.CHANNELS"}
    status, told = _run(tool, ["--resume", *words(tmp_path), wrong[stage], "12"])
    assert (status, told.count("\n")) == (1, 0)
    if stage != "search":
        weights = ["MODEL.WEIGHTS", str(folder / "model_final.pth"), "TEST.EVAL_PERIOD", "7"]
        assert _run(tool, ["--eval-only", *words(tmp_path), *weights]) == (0, "")
    assert (folder / CONFIG).read_bytes() == config
    assert (folder / STARTS).read_bytes() == record


MORE = {  # of what is trained: the file that holds it, and the pair that asks for more
    "search": ("study.db", ["SEARCH.NUM_TRIALS", "4"]),
    "classifier": ("checkpoint.pth", ["SOLVER.EPOCHS", "2"]),
    "detector": ("model_final.pth", ["SOLVER.MAX_ITER", "4"]),
}


@pytest.mark.parametrize("stage", STAGES)
def test_full_disk_is_one_sentence_and_what_was_there_is_whole(tmp_path: Path, stage: str) -> None:
    """A finished run is asked for more on a disk that has no room for it, then on one that has."""
    (tool, words), (name, more) = STAGES[stage], MORE[stage]
    path = tmp_path / "run" / name
    assert _run(tool, words(tmp_path)) == (0, "")
    before, limit = path.read_bytes(), path.stat().st_size // 2

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = ["--resume", *words(tmp_path), *more]
    status, told = _run(tool, arguments, preexec_fn=fill_the_disk)
    assert (status, told.count("\n")) == (1, 0)
    assert re.search("can't be written|the storage failed", told), told
    assert stage == "search" or path.read_bytes() == before
    assert not list((tmp_path / "run").glob(f"*{PARTIAL}"))
    assert _run(tool, arguments) == (0, "")


@pytest.mark.parametrize("stage", STAGES)
def test_read_only_folder_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    tool, words = STAGES[stage]
    arguments = words(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(lock, "open", fail, raising=False)
    assert main([tool, *arguments]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"nasnet-det {tool}: OUTPUT_DIR {tmp_path / 'run'} can't be written to (Read-only file system)"
    )
    assert not list((tmp_path / "run").iterdir())
