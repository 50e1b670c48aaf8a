"""nasnet-det predict on real pictures with a tiny detector, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run_command
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

from nasnet_det.data.picture_files import find_pictures
from nasnet_det.detection import get_config
from nasnet_det.detection.checkpoint import WeightsError
from nasnet_det.detection.predictor import Predictor, draw_boxes

CLASSES = ["cell", "dust", "plate"]
OPTS = [
    "MODEL.DEVICE", "cpu", "MODEL.NASNET.CHANNELS", "8", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "1",
    "MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.DETECTIONS_PER_IMAGE", "5",
    "INPUT.MIN_SIZE_TEST", "64",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves behind: config.yaml, run.json and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    cfg = get_config("COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml", OPTS)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model.pth")
    cfg.MODEL.WEIGHTS = str(folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(CLASSES)]
    (folder / "run.json").write_text(json.dumps([{"categories": categories}]))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour photograph, a grey one with the same name in a sub-folder, and a text file."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(folder / "a.jpg")
    Image.fromarray(rng.integers(0, 255, (50, 40), dtype=np.uint8)).save(folder / "sub" / "a.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def _predict(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_command("predict", *arguments, cwd=repository)


def test_folder_gives_pictures_and_a_coco_file(
    run: Path, pictures: Path, repository: Path, tmp_path: Path
) -> None:
    done = _predict(
        repository, "--config-file", run / "config.yaml", "--output", tmp_path / "found",
        "--confidence-threshold", "0.0", "--input", pictures, "TEST.DETECTIONS_PER_IMAGE", "4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [item["name"] for item in found["categories"]] == CLASSES
    assert [Path(item["file_name"]).name for item in found["images"]] == ["a.jpg", "a.png"]
    assert [(i["width"], i["height"]) for i in found["images"]] == [(90, 60), (40, 50)]
    assert [item["drawn"] for item in found["images"]] == ["a.png", "a_2.png"]
    assert len(found["annotations"]) == 8
    for item in found["annotations"]:
        image = found["images"][item["image_id"] - 1]
        x, y, width, height = item["bbox"]
        assert 0 <= x <= x + width <= image["width"] + 0.01
        assert 0 <= y <= y + height <= image["height"] + 0.01
        assert item["category_id"] in (7, 8, 9)
        assert 0 <= item["score"] <= 1
    for item in found["images"]:
        drawn = Image.open(tmp_path / "found" / item["drawn"])
        assert drawn.width / drawn.height == pytest.approx(item["width"] / item["height"], abs=0.02)


def test_broken_picture_is_named_and_the_others_are_done(
    run: Path, pictures: Path, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:300])
    done = _predict(
        repository, "--config-file", run / "config.yaml", "--output", tmp_path / "found",
        "--input", tmp_path / "broken.jpg", pictures / "a.jpg",
    )  # fmt: skip
    assert done.returncode == 1
    assert "nasnet-det predict: " in done.stderr
    assert "broken.jpg can't be read as a picture" in done.stderr
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert len(found["images"]) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence", "status"),
    [
        (["--input", "nowhere", "--output", "OUT"], "no such picture or folder: nowhere", 1),
        (["--input", "EMPTY", "--output", "OUT"], "no pictures found", 1),
        (["--input", "PICTURE"], "the following arguments are required: --output", 2),
        (["--input", "PICTURE", "--output", "OUT", "MODEL.WEIGHTS", ""], "wanted a trained detector's", 1),
        (["--input", "PICTURE", "--output", "OUT", "MODEL.WEIGHTS", "no.pth"], "no.pth: there is no such file", 1),
        (["--input", "PICTURE", "--output", "OUT", "MODEL.WEIGTHS", "a"], "did you mean 'MODEL.WEIGHTS'", 1),
    ],
)  # fmt: skip
def test_mistake_is_one_sentence(
    arguments: list[str],
    sentence: str,
    status: int,
    run: Path,
    pictures: Path,
    repository: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"OUT": tmp_path / "out", "EMPTY": tmp_path / "empty", "PICTURE": pictures / "a.jpg"}
    done = _predict(
        repository, "--config-file", run / "config.yaml", *(places.get(a, a) for a in arguments)
    )
    assert done.returncode == status
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_backbone_alone_predicts_nothing(run: Path, tmp_path: Path) -> None:
    state = torch.load(run / "model.pth", weights_only=True)["model"]
    trunk = {key: value for key, value in state.items() if key.startswith("backbone.bottom_up")}
    torch.save({"model": trunk}, tmp_path / "backbone.pth")
    opts = ["MODEL.WEIGHTS", str(tmp_path / "backbone.pth")]
    with pytest.raises(WeightsError, match="wants every tensor"):
        Predictor(get_config(str(run / "config.yaml"), opts))


def test_predictor_gives_the_model_s_own_channel_order(run: Path) -> None:
    """RGB goes in; a BGR model sees it reversed."""
    cfg = get_config(str(run / "config.yaml"))
    rgb = Predictor(cfg)
    cfg.INPUT.FORMAT = "BGR"
    bgr = Predictor(cfg)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    given = rgb(image), bgr(np.ascontiguousarray(image[:, :, ::-1]))
    torch.testing.assert_close(given[0].pred_boxes.tensor, given[1].pred_boxes.tensor)
    boxes = [given.pred_boxes.tensor for given in (rgb(image), bgr(image))]
    assert not torch.allclose(*boxes)
    assert given[0].scores.diff().max() <= 0, "best first"


def test_classes_come_from_the_data_set_where_there_is_no_run(run: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.pth"
    weights.write_bytes((run / "model.pth").read_bytes())
    opts = ["MODEL.WEIGHTS", str(weights)]
    numbered = Predictor(get_config(str(run / "config.yaml"), opts))
    assert [item["name"] for item in numbered.categories] == ["class 1", "class 2", "class 3"]


def test_boxes_are_drawn_where_they_are() -> None:
    image = np.full((640, 640, 3), 128, dtype=np.uint8)
    drawn = draw_boxes(image, np.array([[200.0, 300, 400, 500]]), [0], ["thing"])
    changed = np.argwhere((drawn != image).any(axis=2))
    assert drawn.shape == image.shape
    assert np.abs(changed.max(axis=0) - (500, 400)).max() <= 8
    assert not (drawn[320:480, 280:380] != image[320:480, 280:380]).any(), "not inside"


def test_pictures_are_found_in_folders_in_order(pictures: Path) -> None:
    names = [str(path.relative_to(pictures)) for path in find_pictures([str(pictures)])]
    assert names == ["a.jpg", "sub/a.png"]
