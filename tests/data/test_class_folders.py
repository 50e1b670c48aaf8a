"""Folders of classes as people have them, for search and classifier alike."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_pictures import write_class

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.data import ClassificationData, load_data
from nasnet_det.config import ConfigError
from nasnet_det.data.class_folders import Splits, find_splits, read_class_folders
from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import load_images
from nasnet_det.search.data import DataSource, load_child_data


def write_pictures(folder: Path, number: int = 4, color: int = 0) -> Path:
    return write_class(folder, [(color, i, 9) for i in range(number)])


def write_classes(folder: Path, *classes: str) -> Path:
    for number, name in enumerate(classes or ("cat", "dog")):
        write_pictures(folder / name, color=100 * number)
    return folder


def load(path: Path, *, eval_only: bool = False) -> ClassificationData:
    opts = ["DATA.PATH", str(path), "SOLVER.BATCH_SIZE", "2"]
    return load_data(get_classification_config(opts=opts), eval_only=eval_only)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "testing", "Val", "TEST"])
def test_any_name_of_the_test_folder_is_known(name: str, tmp_path: Path) -> None:
    write_classes(tmp_path / "Train")
    write_classes(tmp_path / name)
    assert find_splits(tmp_path) == Splits(tmp_path / "Train", tmp_path / name)
    data = load(tmp_path)
    assert (len(data.train), len(data.test), data.classes) == (8, 8, ("cat", "dog"))


def test_val_is_taken_before_test(tmp_path: Path) -> None:
    for name in ("train", "test", "val"):
        write_classes(tmp_path / name)
    assert find_splits(tmp_path).test == tmp_path / "val"


def test_folder_of_an_unpacked_archive_is_entered(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_classes(tmp_path / "mydata" / split)
    (tmp_path / "__MACOSX").mkdir()
    assert len(load(tmp_path).train) == 8
    assert load_images(str(tmp_path), 8).images.shape == (8, 3, 8, 8)


def test_search_takes_the_training_folder_of_a_split_root(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "a", "b", "c")
    write_classes(tmp_path / "val", "a", "b", "c")
    images, labels = load_images(str(tmp_path), 8)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images[:, 0, 0, 0].tolist() == [0] * 4 + [100] * 4 + [200] * 4


def test_evaluation_needs_no_training_images(tmp_path: Path) -> None:
    write_classes(tmp_path / "val")
    for place in (tmp_path, tmp_path / "val"):
        data = load(place, eval_only=True)
        assert (len(data.train), len(data.test), data.classes) == (0, 8, ("cat", "dog"))
        with pytest.raises(DataError, match="wanted .* a folder with train and one of val, valid"):
            load(place)


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, ".ipynb_checkpoints", "__MACOSX", "cat", "dog")
    assert read_class_folders(tmp_path).classes == ("cat", "dog")
    assert load_images(str(tmp_path), 8).labels.tolist() == [0] * 4 + [1] * 4


def test_class_without_pictures_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path / "train")
    (tmp_path / "train" / "bird").mkdir()
    write_classes(tmp_path / "val", "dog")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [data.test.read(i)[1] for i in range(4)] == [1] * 4  # type: ignore[union-attr, call-arg, index]
    assert "classes without pictures are left out: 'bird'" in caplog.text
    assert "val: no pictures of 'cat'" in caplog.text


def test_one_class_is_one_sentence_in_search_and_classifier(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_classes(tmp_path / split, "cat")
    sentence = "train: wanted folders of at least 2 classes, got one, 'cat'"
    with pytest.raises(DataError, match=sentence):
        load(tmp_path)
    with pytest.raises(DataError, match=sentence):
        load_images(str(tmp_path), 8)


def test_pictures_are_in_the_order_of_folders_and_names(tmp_path: Path) -> None:
    write_classes(tmp_path)
    write_pictures(tmp_path / "cat" / "more", 2)
    paths = [os.path.relpath(os.fsdecode(p), tmp_path) for p in read_class_folders(tmp_path).paths]
    inner = [f"cat/{i}.png" for i in range(4)] + ["cat/more/0.png", "cat/more/1.png"]
    assert paths == inner + [f"dog/{i}.png" for i in range(4)]


def test_broken_pictures_are_skipped_and_counted_or_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path)
    for name in ("0.png", "2.png"):
        (tmp_path / "dog" / name).write_bytes((tmp_path / "dog" / name).read_bytes()[:50])
    images, labels = load_images(str(tmp_path), 8)
    assert images[:, 1, 0, 0].tolist() == [0, 1, 2, 3, 1, 3]
    assert labels.tolist() == [0] * 4 + [1] * 2
    assert "2.png (" in caplog.text
    assert f"{tmp_path}: 2 images can't be read" in caplog.text
    with pytest.raises(DataError, match=r"image .*dog/0.png \(.*\) can't be read; mend or remove"):
        load_images(str(tmp_path), 8, broken_images="stop")
    with pytest.raises(ConfigError, match="SEARCH.DATA.BROKEN_IMAGES: unknown name 'skipp', did"):
        load_child_data(DataSource(str(tmp_path), num_held_out=2, broken_images="skipp"))
    with pytest.raises(ConfigError, match="DATA.BROKEN_IMAGES: unknown name 'stopp', did you mean"):
        get_classification_config(opts=["DATA.BROKEN_IMAGES", "stopp"])


def test_all_pictures_broken_is_one_sentence(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of its 8 images can be read"):
        load_images(str(tmp_path), 8)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [([0, 2, 2, 0], "1 of 3 labels have no image"), ([0, 9, 9, 0], "wanted labels below 4")],
)
def test_gaps_in_labels_are_said_or_refused(
    labels: list[int], sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=labels)
    with caplog.at_level(logging.WARNING):
        try:
            load_images(str(tmp_path / "a.npz"), 8)
            said = caplog.text
        except DataError as error:
            said = str(error)
    assert sentence in said


def test_classes_may_have_any_name(tmp_path: Path) -> None:
    names = ["Straße", "猫", "a b [c]", "n01440764, tench", "10", "x\ny", os.fsdecode(b"\xff\xfe")]
    data = load(write_classes(tmp_path / "train", *names).parent / "train", eval_only=True)
    assert data.classes == tuple(sorted(names))
    assert len({data.test.read(i)[1] for i in range(len(data.test))}) == len(names)
