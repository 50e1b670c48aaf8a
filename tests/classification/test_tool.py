"""nasnet-det train-classifier: a kill of the real process, evaluation, and mistakes in a sentence."""

from __future__ import annotations

import csv
import functools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_classification import CPU, make_config, quick, run

from nasnet_det.classification import export_backbone, session
from nasnet_det.classification.checkpoint import load_checkpoint
from nasnet_det.classification.data import load_data
from nasnet_det.classification.loop import Trainer
from nasnet_det.cli.main import main
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.runs.checkpoint import CheckpointError


def count_lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0


@pytest.mark.parametrize(
    ("num_kills", "epochs"), [(2, 3), pytest.param(20, 8, marks=pytest.mark.slow)]
)
def test_killed_process_goes_on_to_the_same_weights(
    tmp_path: Path, num_kills: int, epochs: int
) -> None:
    """Killed at random iterations, in the middle of epochs of 4 and at their ends."""
    opts = ("SOLVER.EPOCHS", str(epochs), "SOLVER.CHECKPOINT_PERIOD", "3")
    whole = run(*quick(tmp_path, "whole", *opts))
    assert whole.returncode == 0, whole.communicate()[1]
    refused = run(*quick(tmp_path, "whole", *opts))
    assert refused.returncode == 1
    sentence = refused.communicate()[1]
    assert "holds another run" in sentence
    assert "give --resume" in sentence

    # Each epoch has 5 lines: 4 of iterations and that of the test. The last 4 are left in peace.
    moments = random.Random(num_kills).sample(range(1, 5 * epochs - 4), num_kills)
    arguments = ["--resume", *quick(tmp_path, "killed", *opts)]
    for moment in sorted(moments):
        process = run(*arguments, wait=False)
        while count_lines(tmp_path / "killed" / "metrics.json") < moment and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was killed before its end"
    assert not (tmp_path / "killed" / "model_final.pth").exists()
    resumed = run(*arguments)
    assert resumed.returncode == 0, resumed.communicate()[1]

    for name in ("checkpoint.pth", "model_final.pth", "model_best.pth"):
        one, other = (
            load_checkpoint(tmp_path / folder / name)["model"] for folder in ("whole", "killed")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
    results = json.loads((tmp_path / "killed" / "results.json").read_text())
    assert results == json.loads((tmp_path / "whole" / "results.json").read_text())
    assert results["num_images"] == 16
    assert set(results["per_class"]) == {"0", "1", "2", "3"}
    starts = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert len(starts) == num_kills + 1


def test_sigterm_to_command_and_workers_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """To all of its processes, as some cluster managers do."""
    arguments = quick(tmp_path, "out", "DATA.NUM_WORKERS", "1", "SOLVER.EPOCHS", "1000")
    process = run(*arguments, wait=False, start_new_session=True)
    while count_lines(tmp_path / "out" / "metrics.json") < 3 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    _, log = process.communicate(timeout=100)
    assert process.returncode == 143, log
    number = load_checkpoint(tmp_path / "out" / "checkpoint.pth")["iteration"]
    assert log.splitlines()[-1] == (
        f"nasnet-det train-classifier: stopped by SIGTERM; {number} iterations are saved, and "
        "--resume goes on from there"
    )
    assert "Traceback" not in log


class Killed(Exception):
    """Stands for a kill."""


@pytest.fixture
def call() -> Iterator[Callable[..., int]]:
    """The command in this process; the logger is as before at the end."""
    propagate, handlers = session.logger.propagate, list(session.logger.handlers)
    yield lambda *words: main(["train-classifier", *words])
    session.logger.propagate, session.logger.handlers = propagate, handlers


@pytest.fixture
def imagenet(reference_data: Path, tmp_path: Path) -> Path:
    """Eight images of eight classes laid out as ImageNet, and a broken one."""
    source = reference_data / "imagenet_sample_256"
    with (source / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[:8]
    for row in rows:
        for split in ("train", "val"):
            place = tmp_path / "imagenet" / split / row["wnid"]
            place.mkdir(parents=True)
            shutil.copy(source / "images" / row["file"], place)
    (tmp_path / "imagenet" / "val" / rows[0]["wnid"] / "broken.JPEG").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "imagenet"


@pytest.mark.parametrize("name", ["imagenet_mobile", "imagenet_large", "imagenet_modern"])
def test_imagenet_recipes_train_resume_evaluate_and_export(
    call: Callable[..., int],
    imagenet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    folder = tmp_path / "out"
    text = (
        f"DATA.PATH {imagenet} MODEL.DEVICE cpu DATA.IMAGE_SIZE 96 DATA.NUM_WORKERS 1 "
        "MODEL.NASNET.NUM_CELLS_PER_STAGE 1 MODEL.NASNET.CHANNELS 8 SOLVER.BATCH_SIZE 4 "
        "SOLVER.EPOCHS 2 SOLVER.WARMUP_EPOCHS 0 SOLVER.PRECISION float32 SOLVER.LOG_PERIOD 1"
    )
    opts = [*text.split(), "OUTPUT_DIR", str(folder)]
    arguments = ["--config-file", f"classification/{name}.yaml"]

    def kill(trainer: Trainer) -> None:
        if trainer.iteration == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", functools.partial(Trainer, on_step=kill))
        with pytest.raises(Killed):
            call(*arguments, "--check-data", *opts)
    log = (folder / "log.txt").read_text()
    assert "8 of 9 test images can be read" in log
    assert "broken.JPEG" in log
    assert call(*arguments, "--resume", *opts) == 0
    assert "Going on from iteration 2 of 4" in (folder / "log.txt").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert (results["num_images"], results["num_broken"]) == (8, 1)

    weights = ["MODEL.WEIGHTS", str(folder / "model_final.pth")]
    output = ["OUTPUT_DIR", str(tmp_path / "evaluated")]
    assert call(*arguments, "--eval-only", *opts, *weights, *output) == 0
    again = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert again["loss"] == pytest.approx(results["loss"], rel=1e-5)
    assert again["per_class"] == results["per_class"]
    capsys.readouterr()
    for resume in ([], ["--resume"]):
        assert call(*arguments, *resume, *opts, *output) == 1, "a training keeps its hands off"
        assert "holds an evaluation (results.json); give another OUTPUT_DIR" in (
            capsys.readouterr().err
        )
    assert json.loads((tmp_path / "evaluated" / "results.json").read_text()) == again

    card = export_backbone(folder / "model_final.pth", tmp_path / "backbone.safetensors")
    assert (card.pixel_mean, card.pixel_std) == ((127.5,) * 3, (127.5,) * 3)
    assert len(card.classes) == 8
    assert (tmp_path / "backbone.safetensors").stat().st_size > 10_000


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the quick config."""
    cfg = make_config(tmp_path_factory.mktemp("weights"))
    Path(cfg.OUTPUT_DIR).mkdir()
    Trainer(cfg, load_data(cfg), device=CPU).save()
    return Path(cfg.OUTPUT_DIR)


@pytest.fixture
def other_pools(tmp_path: Path) -> Path:
    """NASNet-A with maxima in place of means: its weights have the same names and shapes."""
    text = json.dumps(GENOTYPES["nasnet_a"].to_dict()).replace("avg_pool_3x3", "max_pool_3x3")
    (tmp_path / "other.json").write_text(text)
    return tmp_path / "other.json"


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("DATA.PIXEL_STD [1,1,1]", "DATA.PIXEL_STD [63.0, 62.1, 66.7], which is [1, 1, 1] here"),
        ("MODEL.NASNET.GENOTYPE OTHER", "does not fit MODEL.NASNET: the normal cell is another"),
        ("MODEL.NASNET.CHANNELS 8", "does not fit MODEL.NASNET: channels was 4, is 8"),
        ("AUX.WEIGHT 0", "Unexpected key(s) in state_dict"),
    ],
)
def test_weights_of_another_network_or_preprocessing_are_one_sentence(
    call: Callable[..., int],
    weights: Path,
    other_pools: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    opts: str,
    sentence: str,
) -> None:
    arguments = quick(tmp_path, "out", *opts.replace("OTHER", str(other_pools)).split())
    path = ["MODEL.WEIGHTS", str(weights / "checkpoint.pth")]
    assert call("--eval-only", *arguments, *path) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_resume_with_another_genotype_under_the_same_name_is_refused(
    other_pools: Path, tmp_path: Path
) -> None:
    cells = tmp_path / "cells.json"
    GENOTYPES["nasnet_a"].save(cells)
    cfg = make_config(tmp_path, "MODEL.NASNET.GENOTYPE", str(cells))
    Path(cfg.OUTPUT_DIR).mkdir()
    Trainer(cfg, load_data(cfg), device=CPU).save()
    other_pools.replace(cells)
    with pytest.raises(
        CheckpointError, match="does not fit .*: the normal cell is another; the reduction"
    ):
        Trainer(cfg, load_data(cfg), device=CPU).resume()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["SOLVER.EPOCH", "1"], "unknown config key 'SOLVER.EPOCH'"),
        (["DATA.PATH", "nothing"], "got 'nothing', which is not there"),
        (["MODEL.DEVICE", "tpu"], "MODEL.DEVICE: wanted auto, cpu, cuda or cuda:<i>, got 'tpu'"),
        (["--eval-only"], "--eval-only needs a model"),
        (["--eval-only", "MODEL.WEIGHTS", "no.pth"], "no.pth can't be read (No such file"),
    ],
)
def test_mistakes_are_one_sentence(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    flags = [word for word in arguments if word.startswith("--")]
    opts = [word for word in arguments if not word.startswith("--")]
    assert call(*flags, *quick(tmp_path, "out"), *opts) == 1
    error = capsys.readouterr().err
    assert error.startswith("nasnet-det train-classifier: ")
    assert sentence in error
    assert error.count("\n") == 1
