"""nasnet-det predict on real pictures with a tiny detector, run as a user runs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import run_command
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.video import VideoWriter, read_video
from nasnet_det.detection import get_config, predict
from nasnet_det.detection.checkpoint import WeightsError
from nasnet_det.detection.predictor import Predictor
from nasnet_det.drawing.boxes import draw_boxes
from nasnet_det.errors import InputError
from nasnet_det.runs.signals import StoppedBySignal

CLASSES = ["cell", "dust", "plate"]
OPTS = [
    "MODEL.DEVICE", "cpu", "MODEL.NASNET.CHANNELS", "8", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "1",
    "MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.DETECTIONS_PER_IMAGE", "5",
    "INPUT.MIN_SIZE_TEST", "64", "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
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
        (["--input", "IMG_0001.JPG", "MODEL.DEVICE", "cpu", "--output", "OUT"], "no such picture or folder: IMG_0001.JPG", 1),
        (["--input", "EMPTY", "--output", "OUT"], "no pictures found", 1),
        (["--input", "CLIPS", "--output", "OUT"], "a video (clip.mp4) is given by its own name", 1),
        (["--input", "PICTURE", "--output", "OUT", "--tile", "-3"], "TEST.TILES.SIZE: wanted at least 0, got -3", 1),
        (["--input", "PICTURE", "--output", "OUT", "--batch-size", "0"], "batch size: wanted at least 1, got 0", 1),
        (["--input", "PICTURE", "--output", "OUT", "--fps", "-1"], "frames per second: wanted 0 to 1000, got -1", 1),
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
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "clip.mp4").write_bytes(b"")
    places = {
        "CLIPS": tmp_path / "clips",
        "OUT": tmp_path / "out",
        "EMPTY": tmp_path / "empty",
        "PICTURE": pictures / "a.jpg",
    }
    words = [
        "predict",
        "--config-file",
        run / "config.yaml",
        *(places.get(a, a) for a in arguments),
    ]
    try:
        got = main([str(word) for word in words])
    except SystemExit as stop:  # of the arguments
        got = stop.code
    assert got == status
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


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


def _hash_files(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def photos(pictures: Path, tmp_path: Path) -> Path:
    """A folder with a.jpg, a.png of another shape, and c.png, which is a link to one elsewhere."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((pictures / "a.jpg").read_bytes())
    (folder / "a.png").write_bytes((pictures / "sub" / "a.png").read_bytes())
    (tmp_path / "elsewhere.png").write_bytes((pictures / "sub" / "a.png").read_bytes())
    (folder / "c.png").symlink_to(tmp_path / "elsewhere.png")
    return folder


@pytest.mark.parametrize("place", ["photos", "photos/found", "link"])
def test_no_input_is_written_over(run: Path, photos: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to(photos)
    given = _hash_files(tmp_path)
    cfg = get_config(str(run / "config.yaml"))
    output = tmp_path / place
    for _ in range(2):  # what the first has drawn is no picture for the second
        found = predict(cfg, [photos], output, threshold=0.0)
        assert found == (3, [])
        now = _hash_files(tmp_path)
        assert {path: now[path] for path in given} == given
    images = json.loads((output / "predictions.json").read_text())["images"]
    names = [image["drawn"] for image in images]
    assert len({name.casefold() for name in names}) == 3
    assert all((output / name).is_file() for name in names)
    assert len(now) == len(given) + 4


@pytest.mark.parametrize("ids", [(30, 10, 20), ("c", "a", "b")])
def test_pictures_keep_the_ids_of_a_json(
    run: Path, photos: Path, tmp_path: Path, ids: tuple[Any, ...]
) -> None:
    (photos / "deep").mkdir()
    (photos / "a.png").rename(photos / "deep" / "a.png")
    names = ("deep\\a.png", "a.jpg", "c.png")
    images = [{"id": key, "file_name": name} for key, name in zip(ids, names, strict=True)]
    content = {"images": images, "categories": [{"id": 1, "name": "x"}]}
    path = tmp_path / "info.json"
    path.write_text(json.dumps(content))
    cfg, output = get_config(str(run / "config.yaml")), tmp_path / "found"
    predict(cfg, [photos], output, threshold=0.0, json_file=str(path))
    found = json.loads((output / "predictions.json").read_text())
    wanted = {
        str(photos / name.replace("\\", "/")): key for key, name in zip(ids, names, strict=True)
    }
    assert {image["file_name"]: image["id"] for image in found["images"]} == wanted
    assert {one["image_id"] for one in found["annotations"]} <= set(ids)
    assert found["annotations"]
    path.write_text(json.dumps({**content, "images": images[:2]}))
    with pytest.raises(
        DataError, match=r"ids of 3 pictures, but 1 are not in it, the first: .*c.png"
    ):
        predict(cfg, [photos], output, json_file=str(path))
    (photos / "deep" / "a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    with pytest.raises(DataError, match="two have the same name"):
        predict(cfg, [photos / "a.jpg", photos / "deep" / "a.jpg"], output, json_file=str(path))
    with pytest.raises(InputError, match="frames of a video have no ids"):
        predict(cfg, [photos], output, json_file=str(path), frames_per_second=5)


def test_file_that_no_prediction_has_written_stays(run: Path, photos: Path, tmp_path: Path) -> None:
    cfg = get_config(str(run / "config.yaml"))
    output = tmp_path / "found"
    output.mkdir()
    (output / "A.PNG").write_text("mine")
    predict(cfg, [photos / "a.jpg"], output)
    assert (output / "A.PNG").read_text() == "mine"
    assert json.loads((output / "predictions.json").read_text())["images"][0]["drawn"] == "a_2.png"
    (output / "predictions.json").write_text('{"images": []}')
    with pytest.raises(InputError, match="was not written by a prediction"):
        predict(cfg, [photos / "a.jpg"], output)
    with pytest.raises(InputError, match="wanted a folder, got a file"):
        predict(cfg, [photos / "a.jpg"], photos / "a.png")
    with pytest.raises(InputError, match="wanted 0 to 1, got 50"):
        predict(cfg, [photos / "a.jpg"], output, threshold=50)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StoppedBySignal])
def test_what_was_found_is_written_when_it_is_stopped(
    run: Path, photos: Path, tmp_path: Path, stop: type[KeyboardInterrupt]
) -> None:
    def raise_at_second(path: Path) -> None:
        if path.name == "a.png" and stop is StoppedBySignal:
            os.kill(os.getpid(), signal.SIGTERM)
        elif path.name == "a.png":
            raise KeyboardInterrupt

    cfg = get_config(str(run / "config.yaml"))
    with pytest.raises(stop):
        predict(cfg, [photos], tmp_path / "found", on_picture=raise_at_second)
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [Path(image["file_name"]).name for image in found["images"]] == ["a.jpg"]
    assert {one["image_id"] for one in found["annotations"]} == {1}


def test_picture_on_which_the_detector_fails_is_named_and_the_others_are_done(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Predictor.find_objects

    def fail_on_high_ones(self: Predictor, images: list[np.ndarray]) -> list[Instances]:
        if any(image.shape[0] > image.shape[1] for image in images):
            raise RuntimeError("out of memory")
        return find(self, images)

    monkeypatch.setattr(Predictor, "find_objects", fail_on_high_ones)
    cfg = get_config(str(run / "config.yaml"))
    done = predict(cfg, [photos], tmp_path / "found", batch_size=3)
    assert done.num_pictures == 1
    assert [fault.partition(": ")[0] for fault in done.unreadable] == [
        str(photos / "a.png"),
        str(photos / "c.png"),
    ]
    with pytest.raises(RuntimeError, match="out of memory"):  # then no picture is at fault
        predict(cfg, [photos / "a.png"], tmp_path / "none")


def test_batches_change_nothing(run: Path) -> None:
    cfg = get_config(str(run / "config.yaml"))
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        for size in ((60, 90), (60, 90), (50, 40), (60, 90))
    ]
    alone = [Predictor(cfg)(image) for image in images]
    together = Predictor(cfg, batch_size=4).find_objects(images)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(
            one.pred_boxes.tensor, other.pred_boxes.tensor, atol=0.05, rtol=0
        )
        assert one.pred_classes.tolist() == other.pred_classes.tolist()
    with pytest.raises(ConfigError, match="batch size: wanted at least 1, got 0"):
        Predictor(cfg, batch_size=0)


def test_masks_and_keypoints_are_in_the_annotations(run: Path) -> None:
    predictor = Predictor(get_config(str(run / "config.yaml")))
    found = Instances((50, 40), pred_boxes=Boxes(torch.tensor([[10.0, 20, 30, 45]])))
    found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([1])
    found.pred_masks = torch.zeros(1, 50, 40, dtype=torch.bool)
    found.pred_masks[0, 20:45, 10:25] = True
    found.pred_keypoints = torch.tensor([[[10.5, 20.5, 0.9], [29.5, 44.5, 0.25]]])
    detections = predictor.to_detections(found)
    (annotation,) = detections.to_coco("my picture")
    assert (annotation["image_id"], annotation["category_id"]) == ("my picture", 8)
    mask = mask_util.decode(json.loads(json.dumps(annotation["segmentation"])))
    assert (mask == found.pred_masks[0].numpy()).all()
    assert annotation["area"] == 25 * 15
    assert annotation["keypoints"] == [10, 20, 0.9, 29, 44, 0.25]
    image = np.zeros((50, 40, 3), dtype=np.uint8)
    assert (detections.draw(image) > 0).any()


def test_classes_come_from_the_checkpoint(run: Path, tmp_path: Path) -> None:
    """On another machine there is neither the JSON nor the run's record, and ids have gaps."""
    state = torch.load(run / "model.pth", weights_only=True)
    categories = [
        {"id": key, "name": name} for key, name in zip(("x", "y", "z"), CLASSES, strict=True)
    ]
    torch.save({**state, "classes": CLASSES, "categories": categories}, tmp_path / "model.pth")
    opts = ["MODEL.WEIGHTS", str(tmp_path / "model.pth"), "MODEL.ROI_HEADS.NUM_CLASSES", "80"]
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    predict(get_config(str(run / "config.yaml"), opts), [tmp_path / "a.png"], tmp_path / "found")
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert found["categories"] == categories
    assert {one["category_id"] for one in found["annotations"]} <= {"x", "y", "z"}
    torch.save({**state, "classes": CLASSES}, tmp_path / "model.pth")  # of an older version
    older = Predictor(get_config(str(run / "config.yaml"), opts[:2])).categories
    assert older == [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]


@pytest.mark.parametrize("source", ["video", "frames"])
def test_video_and_frames_become_a_video(run: Path, tmp_path: Path, source: str) -> None:
    pytest.importorskip("av")
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    if source == "video":
        given, more = tmp_path / "clip.mp4", {}
        with contextlib.closing(VideoWriter(given)) as writer:
            for i, picture in enumerate(pixels):
                writer.write(picture, i / 5)
    else:
        given, more = tmp_path / "clip", {"frames_per_second": 5.0}
        given.mkdir()
        for i, picture in enumerate(pixels):
            Image.fromarray(picture).save(given / f"{i:03}.png")
        Image.fromarray(pixels[0][:32]).save(given / "003.png")  # of another size
    cfg = get_config(str(run / "config.yaml"))
    for output in (tmp_path / "found", tmp_path, tmp_path):
        done = predict(cfg, [given], output, threshold=0.0, batch_size=2, **more)
    content = json.loads((output / "predictions.json").read_text())
    assert {one["image_id"] for one in content["annotations"]} == {
        i["id"] for i in content["images"]
    }
    if source == "video":
        assert done == (3, [])
        assert [(i["frame"], i["time_s"]) for i in content["images"]] == [
            (0, 0),
            (1, 0.2),
            (2, 0.4),
        ]
    else:
        assert done.num_pictures == 4
        (fault,) = done.unreadable
        assert "003.png is not drawn: wanted the" in fault
    (name,) = {image["drawn"] for image in content["images"] if "drawn" in image}
    assert name == ("clip_2.mp4" if source == "video" else "clip.mp4")
    assert (tmp_path / "found" / "clip.mp4").is_file()
    times = [frame.time_s for frame in read_video(output / name)]
    assert times == pytest.approx([0, 0.2, 0.4], abs=1e-3)


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


def test_predictions_of_pictures_for_fiftyone(run: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    words = ["--config-file", str(run / "config.yaml"), "--output", str(out), "--fiftyone"]
    assert main(["predict", *words, "--input", str(pictures), "--confidence-threshold", "0.9"]) == 0
    found = json.loads((out / "predictions.json").read_text())
    names = {category["id"]: category["name"] for category in found["categories"]}
    samples = json.loads((out / "fiftyone" / "samples.json").read_text())["samples"]
    assert len(samples) == len(found["images"]) == 2
    for sample, image in zip(samples, found["images"], strict=True):
        assert sample["filepath"] == str(Path(image["file_name"]).absolute())
        width, height = image["width"], image["height"]
        assert sample["metadata"] == {"_cls": "ImageMetadata", "width": width, "height": height}
        assert "ground_truth" not in sample
        own = [one for one in found["annotations"] if one["image_id"] == image["id"]]
        detections = sample["predictions"]["detections"]
        assert len(detections) == len(own) > 0
        for detection, one in zip(detections, own, strict=True):
            assert detection["label"] == names[one["category_id"]]
            assert detection["confidence"] == one["score"]
            sides = np.array(detection["bounding_box"]) * [width, height, width, height]
            np.testing.assert_allclose(sides, one["bbox"], atol=1e-6)
    about = json.loads((out / "fiftyone" / "metadata.json").read_text())
    assert about["info"]["default_classes"] == CLASSES
