"""nasnet_det.detect: one line from a file to what is in pictures, however they come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from PIL import Image
from tiny_detection import write_tiny_config

import nasnet_det
from nasnet_det.cli.main import main
from nasnet_det.detection import get_config
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import InputError

CATEGORIES = [{"id": 7, "name": "cell"}, {"id": 9, "name": "dust"}]
PIXELS = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as a training writes it, with its config and its classes, and nothing else."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    config = write_tiny_config(tmp_path_factory.mktemp("config"))
    cfg = get_config(config, ["MODEL.ROI_HEADS.NUM_CLASSES", "2"])
    content: dict[str, Any] = {"model": Trainer.build_model(cfg).state_dict()}
    content |= {"config": cfg.dump(), "categories": CATEGORIES, "classes": ["cell", "dust"]}
    torch.save(content, folder / "model.pth")
    return folder


@pytest.fixture(scope="module")
def detector(run: Path) -> nasnet_det.Detector:
    """Of that checkpoint, which gives everything that it finds."""
    return nasnet_det.detect(run / "model.pth", threshold=0.0)


def _equal(one: Any, other: Any) -> None:
    assert one.names == other.names
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_every_kind_of_picture_finds_the_same(
    detector: nasnet_det.Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = detector(PIXELS)
    assert len(wanted) > 0
    assert set(wanted.names) <= {"cell", "dust"}
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "a.png")
    turned, exif = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    chw = torch.from_numpy(PIXELS).permute(2, 0, 1)
    kinds = [
        *(tmp_path / "a.png", str(tmp_path / "a.png"), image, image.convert("RGBA")),
        *(tmp_path / "turned.png", Image.open(tmp_path / "turned.png")),
        *(chw, chw / 255, np.asfortranarray(PIXELS)),
    ]
    for picture in kinds:
        _equal(detector(picture), wanted)
    monkeypatch.setattr(detector.finder, "batch_size", 4)
    for batch in (kinds, tuple(kinds[:2]), PIXELS[None], chw[None]):
        found = detector(batch)
        assert len(found) == len(batch)
        for one in found:
            _equal(one, wanted)
    assert detector([]) == []


def test_it_finds_what_predict_writes(
    run: Path, detector: nasnet_det.Detector, tmp_path: Path
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    words = ["--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "found")]
    assert main(["predict", *words, "MODEL.WEIGHTS", str(run / "model.pth")]) == 0
    written = json.loads((tmp_path / "found" / "predictions.json").read_text())
    found = detector(tmp_path / "a.png")
    assert [{"id": i, **one} for i, one in enumerate(found.to_coco(1), 1)] == written["annotations"]
    assert written["categories"] == CATEGORIES == list(found.categories)


def test_threshold_keeps_what_is_above(detector: nasnet_det.Detector) -> None:
    every = detector(PIXELS)
    middle = float(np.sort(every.scores)[len(every) // 2])
    found = nasnet_det.Detector(detector.finder, threshold=middle)(PIXELS)
    assert 0 < len(found) == (every.scores >= middle).sum() < len(every)
    assert found.draw(PIXELS).shape[2] == 3
    assert len(every[0]) == 1
    assert every[1:3].names == every.names[1:3]


def test_config_beside_the_checkpoint_does_as_well(
    run: Path, detector: nasnet_det.Detector, tmp_path: Path
) -> None:
    content = torch.load(run / "model.pth", weights_only=True)
    wanted = detector(PIXELS)
    (tmp_path / "config.yaml").write_text(content.pop("config"))
    torch.save(content, tmp_path / "model.pth")
    _equal(nasnet_det.detect(tmp_path / "model.pth", threshold=0.0)(PIXELS), wanted)
    (tmp_path / "config.yaml").rename(tmp_path / "elsewhere.yaml")
    with pytest.raises(InputError, match=r"model.pth has no config in it, and no config.yaml"):
        nasnet_det.detect(tmp_path / "model.pth")
    given = str(tmp_path / "elsewhere.yaml")
    options = {"threshold": 0.0, "config_file": given}
    _equal(nasnet_det.detect(tmp_path / "model.pth", **options)(PIXELS), wanted)


@pytest.mark.slow
def test_runtime_and_device_are_those_that_are_asked_for(
    run: Path, detector: nasnet_det.Detector
) -> None:
    pytest.importorskip("onnxruntime")
    wanted = detector(PIXELS)
    other = nasnet_det.detect(run / "model.pth", threshold=0.0, runtime="onnxruntime", device="cpu")
    assert type(other.finder.model.backbone).__name__ == "RuntimeBackbone"
    _equal(other(PIXELS), wanted)


@pytest.mark.parametrize(
    ("picture", "got"),
    [
        (np.zeros((4, 5, 3)), r"an array \(4, 5, 3\) of float64"),
        (np.zeros((3, 4, 5), np.uint8), r"an array \(3, 4, 5\) of uint8"),
        (np.zeros((4, 5), np.uint8), r"an array \(4, 5\) of uint8"),
        (np.zeros((0, 5, 3), np.uint8), r"an array \(0, 5, 3\)"),
        (torch.zeros(4, 5, 3), r"a tensor \(4, 5, 3\) of float32"),
        (torch.full((3, 4, 5), 2.0), "floats from 2 to 2"),
        (torch.full((3, 4, 5), float("nan")), "floats from nan"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "a tensor .* of int64"),
        (7, "a int"),
        ("nowhere.jpg", "nowhere.jpg can't be read as a picture: there is no such file"),
    ],
)
def test_what_is_no_picture_is_one_sentence(
    detector: nasnet_det.Detector, picture: Any, got: str
) -> None:
    with pytest.raises(InputError, match=got):
        detector(picture)


def test_supervision_takes_it(
    detector: nasnet_det.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detector(PIXELS)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "supervision", None)
        with pytest.raises(InputError, match=r"pip install 'nasnet-det\[supervision\]'"):
            found.to_supervision()
    supervision = pytest.importorskip("supervision")
    other = found.to_supervision()
    assert isinstance(other, supervision.Detections)
    assert other.xyxy.tolist() == found.boxes.tolist()
    assert other.confidence.tolist() == found.scores.tolist()
    assert other.data["class_name"].tolist() == found.names
    assert len(found[:0].to_supervision()) == 0


def test_mistakes_are_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threshold of the score: wanted 0 to 1, got 50"):
        nasnet_det.detect(run / "model.pth", threshold=50)
    with pytest.raises(InputError, match=r"no.pth can't be read"):
        nasnet_det.detect("no.pth")
    with pytest.raises(InputError, match=r"no.onnx can't be read"):
        nasnet_det.detect("no.onnx")
    with pytest.raises(InputError, match=r"MODEL.DEVICE: wanted cpu, cuda or cuda:<number>"):
        nasnet_det.detect(run / "model.pth", device="gpu")
    broken = {"config": "MODEL: [", "model": {"a": torch.zeros(1)}}
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(InputError, match=r"broken.pth can't be read as YAML"):
        nasnet_det.detect(tmp_path / "broken.pth")
