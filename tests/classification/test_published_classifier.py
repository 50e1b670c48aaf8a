"""Published classifiers on a folder of images: accuracy, and what does not fit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from tiny_classification import run
from tiny_pictures import write_class
from weight_files import get_weights, make_random

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.published import build_published
from nasnet_det.config import ConfigError
from nasnet_det.weights import convert_weights, write_weights
from nasnet_det.weights.classifier import export_weights

CLASSES = [f"n0000000{i}" for i in range(5)]


def _write(path: Path, num_classes: int) -> str:
    """Converted weights of a mobile network that always finds the third class."""
    model = make_random("nasnet_a_mobile", num_classes)
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.constant_(model.classifier.bias[2:3], 1.0)
    theirs = export_weights(get_weights(model), "keras", "nasnet_a_mobile")
    converted = convert_weights(theirs)
    write_weights(str(path), converted.weights, converted.metadata)
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _write(tmp_path_factory.mktemp("weights") / "w.pth", 5)


def _arguments(folder: Path, *opts: str) -> list[str]:
    base = f"DATA.IMAGE_SIZE 32 DATA.NUM_WORKERS 0 SOLVER.PRECISION float32 OUTPUT_DIR {folder / 'out'}"
    return [*base.split(), "MODEL.DEVICE", "cpu", "SOLVER.BATCH_SIZE", "4", *opts]


def test_command_gives_the_accuracy_of_published_weights(weights: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i, name in enumerate(CLASSES):
            write_class(tmp_path / split / name, [(50 * i, 0, 0)] * (i + 1), (40, 48))
    arguments = ["--config-file", "classification/imagenet_mobile.yaml", "--eval-only"]
    opts = _arguments(tmp_path, "MODEL.WEIGHTS", weights, "DATA.PATH", str(tmp_path))
    done = run(*arguments, *opts)
    log = done.communicate()[1]
    assert done.returncode == 0, log
    assert "The published accuracy is measured at DATA.IMAGE_SIZE 224" in log
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["top1"] == 3 / 15, "the third class has 3 of 15 images"
    assert results["per_class"] == {name: float(name == CLASSES[2]) for name in CLASSES}
    assert results["weights"] == weights


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        ([], "DATA.PATH: wanted 5 classes, got 4"),
        (["MODEL.NASNET.VARIANT", "nasnet_a_large"], "MODEL.NASNET.VARIANT: wanted nasnet_a_mobile"),
        (["DATA.PIXEL_MEAN", "[0,0,0]"], r"DATA.PIXEL_MEAN: wanted \[127.5, 127.5, 127.5\]"),
        (["DATA.PIXEL_STD", "[1,1,1]"], r"DATA.PIXEL_STD: wanted \[127.5, 127.5, 127.5\]"),
    ],
)  # fmt: skip
def test_other_network_input_or_classes_are_refused(
    opts: list[str], told: str, weights: str, tmp_path: Path
) -> None:
    base = _arguments(tmp_path, "MODEL.WEIGHTS", weights)
    cfg = get_classification_config("classification/imagenet_mobile.yaml", [*base, *opts])
    classes = CLASSES if opts else CLASSES[:4]
    with pytest.raises(ConfigError, match=f"w.pth does not fit the config and the data: {told}"):
        build_published(cfg, classes)


def test_imagenets_folders_must_be_named_by_wordnet_id(
    reference_data: Path, tmp_path: Path
) -> None:
    """Names in another order would be other classes."""
    weights = _write(tmp_path / "w.pth", 1000)
    cfg = get_classification_config(
        "classification/imagenet_mobile.yaml", _arguments(tmp_path, "MODEL.WEIGHTS", weights)
    )
    with (reference_data / "imagenet_sample_256" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["wnid"] for row in rows) == [row["wnid"] for row in rows], "as its indices"
    model = build_published(cfg, [row["wnid"] for row in rows])
    assert model.trunk.spec.pool_padding == "keras"
    with pytest.raises(ConfigError, match="wanted folders named by WordNet id, got toucan"):
        build_published(cfg, ["toucan"] * 1000)
