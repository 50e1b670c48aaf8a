"""A run's detector on corrupted pictures: the numbers, and that a measurement goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("detectron2")

from detectron2.evaluation import inference_on_dataset
from PIL import Image
from tiny_training import make_config, train

from nasnet_det.cli.main import main
from nasnet_det.data.corruptions import corrupt_picture
from nasnet_det.data.pictures import read_pixels
from nasnet_det.detection import robustness as measurement
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.evaluation import build_evaluator
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.robustness import measure_robustness
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import InputError
from nasnet_det.report import read_run, write_report
from nasnet_det.runs.robustness import FILE, read_robustness


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for imagecorruptions, whose numbers the tests of data/ see: tests need not it."""

    def fog(image: Any, severity: int = 1) -> np.ndarray:
        return np.clip(np.asarray(image) + np.random.uniform(0, 60 * severity), 0, 255)

    def spatter(image: Any, severity: int = 1, seed: int | None = None) -> np.ndarray:
        shape = np.asarray(image).shape
        return np.random.default_rng(seed).integers(0, 255, shape)

    def corrupt(image: np.ndarray, *, corruption_name: str, **options: int) -> np.ndarray:
        return np.uint8(getattr(functions, corruption_name)(Image.fromarray(image), **options))

    whole: Any = ModuleType("imagecorruptions")
    functions: Any = ModuleType("imagecorruptions.corruptions")
    functions.fog, functions.spatter = fog, spatter
    whole.corrupt, whole.corruptions = corrupt, functions
    monkeypatch.setitem(sys.modules, "imagecorruptions", whole)
    monkeypatch.setitem(sys.modules, "imagecorruptions.corruptions", functions)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that finds some of the red boxes."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = make_config(
        folder, SOLVER__MAX_ITER=60, SOLVER__CHECKPOINT_PERIOD=60, SOLVER__BASE_LR=0.03
    )
    trainer = train(cfg)
    (folder / "run" / "config.yaml").write_text(cfg.dump())
    assert trainer._last_eval_results["bbox"]["AP"] > 1
    return folder / "run"


@pytest.fixture
def run(trained: Path) -> Path:
    (trained / FILE).unlink(missing_ok=True)
    return trained


def _evaluate(run: Path, pictures: Path) -> float:
    """AP on the files of a folder, without what is tested here."""
    cfg = make_config(pictures.parent / "config", MODEL__WEIGHTS=run / "model_final.pth")
    cfg.DATASETS.TEST_JSON = str(run.parent / "data" / "boxes.json")
    cfg.DATASETS.TEST_IMAGES = str(pictures)
    register_config_datasets(cfg)
    (name,) = cfg.DATASETS.TEST
    evaluator = build_evaluator(cfg, name, str(pictures.parent / "out"))
    loader = Trainer.build_test_loader(cfg, name)
    results: Any = inference_on_dataset(Predictor(cfg).model, loader, evaluator)
    return float(results["bbox"]["AP"])


def test_ap_is_that_of_corrupted_files(run: Path, tmp_path: Path) -> None:
    found = measure_robustness(run, ["fog", "spatter"], [1, 3])
    aps = {}
    for corruption, severity in (("", 0), ("fog", 1), ("fog", 3), ("spatter", 1), ("spatter", 3)):
        folder = tmp_path / f"{corruption}{severity}" / "pictures"
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = read_pixels(run.parent / "data" / f"{number}.png")
            if corruption:
                pixels = corrupt_picture(pixels, corruption, severity, key=number)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        aps[corruption, severity] = _evaluate(run, folder)
    assert found.clean == pytest.approx(aps.pop(("", 0)), abs=1e-6)
    assert found.clean > 1
    assert [(row.corruption, row.severity) for row in found.scores] == list(aps)
    assert [row.ap for row in found.scores] == pytest.approx(list(aps.values()), abs=1e-6)
    assert len(set(aps.values())) > 2
    means = [np.mean([aps[name, severity] for severity in (1, 3)]) for name in ("fog", "spatter")]
    assert found.mean == pytest.approx(np.mean(means), abs=1e-6)
    assert found.relative == pytest.approx(100 * np.mean(means) / found.clean, abs=1e-6)


def test_stopped_measurement_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def stop(what: str) -> None:
        told.append(what)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_robustness(run, ["fog"], [1, 2, 3], num_images=4, progress=stop)
    saved = read_robustness(run)
    assert saved is not None
    assert (saved.images, saved.severities, saved.corruptions) == (4, [1], ["fog"])
    told.clear()
    whole = measure_robustness(run, ["fog"], [1, 2, 3], num_images=4, progress=told.append)
    assert told == ["fog 2 (1 of 2)", "fog 3 (2 of 2)"]
    assert whole.find("fog", 1) == saved.find("fog", 1)
    monkeypatch.setattr(measurement, "Predictor", None)  # nothing is computed
    again = measure_robustness(run, ["fog"], [3, 1], num_images=4)
    assert [row.severity for row in again.scores] == [3, 1]
    assert (again.clean, again.find("fog", 3)) == (whole.clean, whole.find("fog", 3))


@pytest.mark.parametrize("change", ["images", "weights", "config", "broken"])
def test_numbers_of_other_pictures_or_weights_are_measured_anew(run: Path, change: str) -> None:
    measure_robustness(run, ["fog"], [1], num_images=3)
    path = run / ("config.yaml" if change == "config" else "model_final.pth")
    content, told = path.read_bytes(), list[str]()
    if change == "config":
        path.write_bytes(content + b"\n")
    elif change == "weights":
        path.write_bytes((run / "model_best.pth").read_bytes())
    elif change == "broken":
        (run / FILE).write_text('{"format": "nasnet_det corruptions 1", "images": []}')
    number = 4 if change == "images" else 3
    measure_robustness(run, ["fog"], [1], num_images=number, progress=told.append)
    path.write_bytes(content)
    assert told == ["clean pictures (1 of 2)", "fog 1 (2 of 2)"]


def test_report_shows_what_was_measured(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--no-cost", "--no-photos", "--draws", "100", "--corruptions", "fog", "spatter"]
    words += ["--severities", "1", "5"]
    capsys.readouterr()
    assert main(["report", str(run), "--out", str(tmp_path / "out"), *words]) == 0
    output, error = capsys.readouterr()
    assert len(output.splitlines()) == 3
    assert f"{run}: spatter 5 (5 of 5)" in error
    found = read_robustness(run)
    assert found is not None
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (row,) = report["runs"]
    assert row["robustness"]["mean"] == pytest.approx(np.mean([s.ap for s in found.scores]))
    assert row["robustness"]["relative"] == pytest.approx(100 * found.mean / found.clean)
    assert row["robustness"]["scores"] == [
        {"corruption": s.corruption, "severity": s.severity, "ap": s.ap} for s in found.scores
    ]
    markdown = (tmp_path / "out" / "report.md").read_text()
    total = [f"{value:.1f}" for value in (found.clean, found.mean, found.relative)]
    assert f"| run | {' | '.join(total)} | 2 | 1 5 | 6 |" in markdown
    first, second = (found.find("fog", severity).ap for severity in (1, 5))
    cells = " | ".join(f"{value:.1f}" for value in (first, second, (first + second) / 2))
    assert f"| run | fog | {cells} |" in markdown
    page = (tmp_path / "out" / "report.html").read_text()
    assert "On corrupted pictures" in page
    write_report([read_run(run)], tmp_path / "out", num_draws=100, with_photos=False)
    assert "On corrupted pictures" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--corruptions", "fogg"], "corruption: unknown name 'fogg', did you mean 'fog'"),
        (["--corruptions", "--severities", "0"], "severity: wanted 1 to 5, got 0"),
        (["--corruptions", "--corruption-images", "0"], "--corruption-images: wanted at least 1, got 0"),
        (["--severities", "1"], "--severities: wanted --corruptions with it"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_before_any_computing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["report", str(run), "--out", str(tmp_path / "out"), *words]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_package_is_one_sentence_before_any_computing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    (run / "cost.json").unlink(missing_ok=True)
    assert main(["report", str(run), "--out", str(tmp_path / "out"), "--corruptions"]) == 1
    error = capsys.readouterr().err
    assert error.strip() == (
        "nasnet-det report: the package imagecorruptions is not installed: run pip install "
        "'nasnet-det[corruptions]'"
    )
    assert not (run / "cost.json").exists()
    assert not (tmp_path / "out").exists()


def test_set_that_is_not_cocos_is_one_sentence(run: Path) -> None:
    path = run / "config.yaml"
    content = path.read_text()
    path.write_text(content.replace(str(run.parent / "data" / "boxes.json"), ""))
    try:
        with pytest.raises(InputError):
            measure_robustness(run, ["fog"], [1])
    finally:
        path.write_text(content)
