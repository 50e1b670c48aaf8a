"""tools/train_classifier.py: a kill of the real process, evaluation, and mistakes in a sentence."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from tiny_classification import quick, run

from nasnet_det.classification.checkpoint import load_checkpoint


def test_killed_process_goes_on_to_the_same_weights(repository: Path, tmp_path: Path) -> None:
    whole = run(repository, *quick(tmp_path, "whole"))
    assert whole.returncode == 0, whole.stderr.read()  # type: ignore[union-attr]
    process = run(repository, *quick(tmp_path, "killed"), wait=False)
    metrics = tmp_path / "killed" / "metrics.json"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and metrics.read_text().count("\n") >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was killed before its end"
    assert not (tmp_path / "killed" / "model_final.pth").exists()

    refused = run(repository, *quick(tmp_path, "killed"))
    assert refused.returncode == 1
    sentence = refused.stderr.read()  # type: ignore[union-attr]
    assert "holds another run" in sentence
    assert "give --resume" in sentence

    resumed = run(repository, "--resume", *quick(tmp_path, "killed"))
    assert resumed.returncode == 0, resumed.stderr.read()  # type: ignore[union-attr]
    for name in ("model_final.pth", "model_best.pth"):
        one, other = (
            load_checkpoint(tmp_path / folder / name)["model"] for folder in ("whole", "killed")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
    results = json.loads((tmp_path / "killed" / "results.json").read_text())
    assert results == json.loads((tmp_path / "whole" / "results.json").read_text())
    assert results["num_images"] == 16
    assert set(results["per_class"]) == {"0", "1", "2", "3"}
    starts = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert len(starts) == 2


def test_imagenet_layout_trains_and_evaluates_as_it_was_trained(
    repository: Path, reference_data: Path, tmp_path: Path
) -> None:
    source = reference_data / "imagenet_sample_256"
    with (source / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[:8]
    for row in rows:
        for split in ("train", "val"):
            place = tmp_path / "imagenet" / split / row["wnid"]
            place.mkdir(parents=True)
            shutil.copy(source / "images" / row["file"], place)
    (tmp_path / "imagenet" / "val" / rows[0]["wnid"] / "broken.JPEG").write_bytes(b"\xff\xd8\xff")
    text = (
        f"DATA.PATH {tmp_path / 'imagenet'} MODEL.DEVICE cpu DATA.IMAGE_SIZE 96 DATA.NUM_WORKERS 1 "
        "MODEL.NASNET.NUM_CELLS_PER_STAGE 1 MODEL.NASNET.CHANNELS 8 SOLVER.BATCH_SIZE 8 "
        "SOLVER.EPOCHS 2 SOLVER.WARMUP_EPOCHS 0 SOLVER.PRECISION float32 SOLVER.LOG_PERIOD 1"
    )
    arguments = ["--config-file", "classification/imagenet_mobile.yaml"]
    folder = tmp_path / "out"
    opts = [*text.split(), "OUTPUT_DIR", str(folder)]
    trained = run(repository, *arguments, "--check-data", *opts)
    log = trained.stderr.read()  # type: ignore[union-attr]
    assert trained.returncode == 0, log
    assert "8 of 9 test images can be read" in log
    assert "broken.JPEG" in log
    results = json.loads((folder / "results.json").read_text())
    assert (results["num_images"], results["num_broken"]) == (8, 1)

    evaluated = run(
        repository, *arguments, "--eval-only", *opts,
        "MODEL.WEIGHTS", str(folder / "model_final.pth"), "OUTPUT_DIR", str(tmp_path / "evaluated"),
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr.read()  # type: ignore[union-attr]
    again = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert again["loss"] == pytest.approx(results["loss"], rel=1e-5)
    assert again["per_class"] == results["per_class"]


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
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.syspath_prepend(str(repository / "tools"))
    import train_classifier

    flags = [word for word in arguments if word.startswith("--")]
    opts = [word for word in arguments if not word.startswith("--")]
    logger = train_classifier.logger
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    assert train_classifier.main([*flags, *quick(tmp_path, "out"), *opts]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train_classifier.py: ")
    assert sentence in error
    assert error.count("\n") == 1
