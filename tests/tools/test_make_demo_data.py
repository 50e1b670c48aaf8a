"""The demo's data set: the command ``tools/make_demo_data.py``."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the demo's pictures come with scikit-learn")
from PIL import Image

SMALL = ["--num-train", "6", "--num-test", "4"]


@pytest.fixture(scope="module")
def tool(repository: Path) -> ModuleType:
    """The command as a module."""
    path = repository / "tools" / "make_demo_data.py"
    spec = importlib.util.spec_from_file_location("make_demo_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set that the tests only read."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    assert tool.main([str(folder), *SMALL]) == 0
    return folder


def read_split(folder: Path, split: str) -> dict[str, Any]:
    """The JSON of a split."""
    return json.loads((folder / f"{split}.json").read_text())


def read_all(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def fail(tool: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence that the command fails with."""
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    return sentence


def test_files_are_those_of_the_jsons(made: Path) -> None:
    for split, number in (("train", 6), ("test", 4)):
        data = read_split(made, split)
        names = {image["file_name"] for image in data["images"]}
        assert len(names) == number
        assert names == {path.name for path in (made / split).iterdir()}
        for image in data["images"]:
            with Image.open(made / split / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) == (320, 240)
                assert picture.mode == "RGB"
        assert data["info"]["arguments"]["seed"] == 0
        assert [c["name"] for c in data["categories"]] == [str(d) for d in range(10)]
    assert list(made.parent.iterdir()) == [made], "nothing temporary is left beside it"


@pytest.mark.parametrize("split", ["train", "test"])
def test_crops_are_the_boxes(tool: ModuleType, made: Path, split: str) -> None:
    data = read_split(made, split)
    with np.load(made / tool.CROPS) as crops:
        images, labels = crops[f"x_{split}"], crops[f"y_{split}"]
    assert images.shape == (len(data["annotations"]), 32, 32, 3)
    assert images.dtype == np.uint8
    assert [label + 1 for label in labels] == [a["category_id"] for a in data["annotations"]]
    names = {image["id"]: image["file_name"] for image in data["images"]}
    for image, annotation in zip(images, data["annotations"], strict=True):
        x, y, width, height = annotation["bbox"]
        with Image.open(made / split / names[annotation["image_id"]]) as picture:
            box = np.asarray(picture)[y : y + height, x : x + width]
        # Resized with other weights, but the mean colour of the note stays what it was.
        assert np.abs(box.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 8


def test_same_arguments_give_the_same_bytes(tool: ModuleType, made: Path, tmp_path: Path) -> None:
    assert tool.main([str(tmp_path / "again"), *SMALL]) == 0
    assert read_all(tmp_path / "again") == read_all(made)
    assert tool.main([str(tmp_path / "other"), *SMALL, "--seed", "1"]) == 0
    other = read_all(tmp_path / "other")
    assert other.keys() == read_all(made).keys()
    assert not set(other.values()) & set(read_all(made).values())


def test_more_images_begin_with_the_same(tool: ModuleType, made: Path, tmp_path: Path) -> None:
    assert tool.main([str(tmp_path / "more"), "--num-train", "8", "--num-test", "4"]) == 0
    more = read_all(tmp_path / "more" / "train")
    assert len(more) == 8
    assert read_all(made / "train").items() <= more.items()


@pytest.mark.parametrize("split", ["train", "test"])
def test_boxes_are_whole_pixels_inside_their_image(made: Path, split: str) -> None:
    data = read_split(made, split)
    assert {a["image_id"] for a in data["annotations"]} == {i["id"] for i in data["images"]}
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert min(x, y) >= 0
        assert min(width, height) >= 2
        assert x + width <= 320
        assert y + height <= 240
        assert annotation["area"] == width * height
        assert all(type(value) is int for value in annotation["bbox"])


def test_boxes_are_tight(tool: ModuleType) -> None:
    """On a grey photograph all that is not grey is a note."""
    sources = tool.load_sources()
    grey = {"grey.png": np.full((427, 640, 3), 128, dtype=np.uint8)}
    sources = tool.Sources(sources.digits, sources.labels, grey)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        pixels, _, annotations = tool.make_image(sources, "train", np.arange(1797), rng)
        drawn = (pixels != 128).any(axis=2)
        assert len(annotations) >= 6
        for x, y, width, height in (a["bbox"] for a in annotations):
            box = drawn[y : y + height, x : x + width]
            for border in (box[0], box[-1], box[:, 0], box[:, -1]):
                assert border.any(), "the note touches each side"
        for x, y, width, height in (a["bbox"] for a in annotations):
            drawn[y : y + height, x : x + width] = False
        assert not drawn.any(), "nothing outside the boxes"


def test_digits_keep_their_labels(tool: ModuleType, made: Path) -> None:
    labels = tool.load_sources().labels
    for annotation in read_split(made, "train")["annotations"]:
        assert annotation["category_id"] == labels[annotation["digit"]] + 1


def test_pens_are_darker_than_paper(tool: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        paper, pen = tool.choose_colors(rng)
        assert paper.max() - pen.max() >= 0.3 * 255 - 1e-9
        assert pen.min() >= 0
        assert paper.max() <= 255


def test_splits_share_no_digit(tool: ModuleType, made: Path) -> None:
    labels = tool.load_sources().labels
    split = tool.split_digits(labels, num_classes=10, seed=0)
    assert sorted([*split["train"], *split["test"]]) == list(range(1797))
    for name in ("train", "test"):
        used = {a["digit"] for a in read_split(made, name)["annotations"]}
        assert used <= set(split[name].tolist())


def test_splits_share_no_part_of_a_photograph(tool: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, width, height = tool.choose_cut((640, 427), "train", rng)
        assert 0 <= x < x + width <= 320
        assert 0 <= y < y + height <= 427
        assert abs(width / height - 4 / 3) < 0.02
        x, _, width, _ = tool.choose_cut((640, 427), "test", rng)
        assert 320 <= x < x + width <= 640


def test_fewer_classes_leave_the_other_digits_out(tool: ModuleType, tmp_path: Path) -> None:
    assert tool.main([str(tmp_path / "few"), *SMALL, "--num-classes", "3"]) == 0
    data = read_split(tmp_path / "few", "train")
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(1, "0"), (2, "1"), (3, "2")]
    assert {a["category_id"] for a in data["annotations"]} <= {1, 2, 3}


def test_data_set_passes_the_check(made: Path) -> None:
    pytest.importorskip("detectron2", reason="the check is Detectron2's side")
    from nasnet_det.detection.config import get_config
    from nasnet_det.detection.datasets import check_datasets, register_config_datasets

    cfg = get_config()
    for split in ("train", "test"):
        cfg.DATASETS[f"{split.upper()}_JSON"] = str(made / f"{split}.json")
        cfg.DATASETS[f"{split.upper()}_IMAGES"] = str(made / split)
    register_config_datasets(cfg)
    check_datasets(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 10


def test_second_run_does_nothing(
    tool: ModuleType,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tool, "load_sources", lambda: pytest.fail("it made the data set again"))
    assert tool.main([str(made), *SMALL]) == 0
    assert capsys.readouterr().out == f"already there: {made}\n"


def test_other_arguments_replace_only_when_told(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    few = [str(folder), "--num-train", "1", "--num-test", "1"]
    folder.mkdir()  # an empty folder is nobody's
    assert tool.main(few) == 0
    before = read_all(folder)
    sentence = fail(tool, capsys, *few, "--seed", "3")
    assert "holds a data set of other arguments (seed 0 instead of 3); name another" in sentence
    assert "--overwrite" in sentence
    assert read_all(folder) == before
    assert tool.main([*few, "--seed", "3", "--overwrite"]) == 0
    assert read_split(folder, "test")["info"]["arguments"]["seed"] == 3
    assert list(tmp_path.iterdir()) == [folder]


def test_missing_scikit_learn_is_one_sentence(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "pip install scikit-learn" in fail(tool, capsys, str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["notes.txt", "train.json"])
def test_a_users_own_folder_is_never_replaced(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text('{"info": []}')
    sentence = fail(tool, capsys, str(tmp_path), *SMALL, "--overwrite")
    assert "holds something else than a complete demo data set" in sentence
    assert (tmp_path / name).read_text() == '{"info": []}'


def test_an_interrupted_run_leaves_nothing(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [str(tmp_path / "data"), "--num-train", "1", "--num-test", "1"]
    assert tool.main(few) == 0
    before = read_all(tmp_path)
    real = tool.make_split

    def make_split(folder: Path, split: str, *rest: Any) -> Any:
        if split == "test":
            raise KeyboardInterrupt
        return real(folder, split, *rest)

    monkeypatch.setattr(tool, "make_split", make_split)
    with pytest.raises(KeyboardInterrupt):
        tool.main([*few, "--overwrite"])
    assert read_all(tmp_path) == before


def test_a_failed_replacement_keeps_the_earlier_data(tool: ModuleType, tmp_path: Path) -> None:
    folder, temporary = tmp_path / "data", tmp_path / "temporary"
    for path in (folder, temporary):
        path.mkdir()
    (folder / "file").touch()
    with pytest.raises(FileNotFoundError):
        tool.put_in_place(temporary / "made", folder)
    assert list(folder.iterdir()) == [folder / "file"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: folder"),
        (["{}/a", "--num-train", "x"], "argument --num-train: invalid int value: 'x'"),
        (["{}/a", "--num-test", "0"], "num_test: wanted a number from 1 to 100000, got 0"),
        (["{}/a", "--num-classes", "11"], "num_classes: wanted a number from 1 to 10, got 11"),
        (["{}/a", "--seed", "-1"], "seed: wanted a number from 0 to 4294967296, got -1"),
        (["{}/file/a", *SMALL], "/file: File exists"),
    ],
)
def test_mistakes_are_one_sentence(
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    (tmp_path / "file").touch()
    arguments = [text.format(tmp_path) for text in arguments]
    assert sentence in fail(tool, capsys, *arguments)
    assert not (tmp_path / "a").exists()
