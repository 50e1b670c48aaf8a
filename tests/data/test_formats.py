"""Other formats than COCO's: read right at the edges, converted with a true report of the losses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_voc import make_xml, write_picture, write_voc_folder

from nasnet_det.data.conversion import convert_data
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.picture_copies import plan_names
from nasnet_det.data.formats.recognition import find_address, find_format, read_annotations
from nasnet_det.runs.files import FileError


def boxes_of(content: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(file, class, x, y, width, height) of all objects, sorted."""
    names = {image["id"]: image["file_name"] for image in content["images"]}
    labels = {category["id"]: category["name"] for category in content["categories"]}
    return sorted(
        (names[a["image_id"]], labels[a["category_id"]], *a["bbox"]) for a in content["annotations"]
    )


def test_voc_counts_pixels_from_1_and_includes_the_last(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 60, 40), ("dog", 11, 6, 30, 40)]})
    found = read_annotations(str(folder))
    assert boxes_of(found.content) == [
        ("a.jpg", "cat", 0, 0, 60, 40),  # the whole picture
        ("a.jpg", "dog", 10, 5, 20, 35),
    ]
    assert not found.losses
    edges = read_annotations(str(folder), first_pixel=0).content
    assert boxes_of(edges)[0] == ("a.jpg", "cat", 1, 1, 59, 39)


def test_voc_is_read_as_detectron2_reads_it(tmp_path: Path) -> None:
    loader = pytest.importorskip("detectron2.data.datasets.pascal_voc")
    objects = [("cat", 3, 4, 50, 37), ("dog", 1, 1, 60, 40)]
    folder = write_voc_folder(tmp_path, {"a": objects, "b": objects[:1], "c": []}, train="ab")
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\n")
    wanted = loader.load_voc_instances(str(folder), "train", ["cat", "dog"])
    found = read_annotations(f"{folder}#train").content
    assert [(r["width"], r["height"]) for r in wanted] == [
        (i["width"], i["height"]) for i in found["images"]
    ]
    corners = [a["bbox"] for record in wanted for a in record["annotations"]]
    mine = np.array([a["bbox"] for a in found["annotations"]])
    np.testing.assert_array_equal(np.c_[mine[:, :2], mine[:, :2] + mine[:, 2:]], corners)


def test_voc_reads_what_tools_write(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    for split in ("train", "valid"):
        write_picture(folder / split / "x.png")
    turned = ("cat", 50, 30, 11, 6)  # corners in the other order
    (folder / "train/x.xml").write_text(
        make_xml(
            [turned], filename="C:\\photos\\..\\..\\old name.jpg", size=(0, 0), extra="<a>1</a>"
        )
    )
    text = make_xml([("dog", 0, 0, 60, 40)]).replace("<difficult>0", "<difficult>1")
    (folder / "valid/x.xml").write_bytes(text.encode("utf-16"))
    assert find_address(str(folder), is_train=True) == f"{folder}#train"
    found = read_annotations(f"{folder}#train")
    assert found.content["images"] == [
        {"id": 1, "file_name": "train/x.png", "width": 60, "height": 40}
    ]
    assert found.content["annotations"][0]["bbox"] == [10, 5, 40, 25]
    assert [c["name"] for c in found.content["categories"]] == ["cat", "dog"]  # of both splits
    assert list(found.losses.counts) == ["<a> of objects"]
    other = read_annotations(find_address(str(folder), is_train=False))
    assert "edges from 0" in other.losses.describe()[0]
    assert [(a["bbox"], a["iscrowd"], a["difficult"]) for a in other.content["annotations"]] == [
        ([0, 0, 60, 40], 1, 1)
    ]
    kept = read_annotations(f"{folder}#valid", keep_difficult=True).content["annotations"]
    assert kept[0]["iscrowd"] == 0


def test_voc_of_kaggle_and_of_a_devkit(tmp_path: Path) -> None:
    write_picture(tmp_path / "kit/set/images/a.png")
    (tmp_path / "kit/set/annotations").mkdir()
    (tmp_path / "kit/set/annotations/a.xml").write_text(make_xml([("cat", 1, 1, 60, 40)]))
    found = read_annotations(find_address(str(tmp_path / "kit/set"), is_train=True))
    assert boxes_of(found.content) == [("images/a.png", "cat", 0, 0, 60, 40)]
    folder = write_voc_folder(tmp_path / "kit", {"a": [("cat", 1, 1, 9, 9)]})
    with pytest.raises(DataError, match=f"it holds data sets and is none; wanted one of {folder}"):
        find_format(str(tmp_path / "kit"))


def test_splits_of_any_name_come_back(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 60, 40)]})
    convert_data([str(folder)], tmp_path / "coco")
    (path,) = (p for p in (tmp_path / "coco").iterdir() if p.stem == "voc")
    path = path.rename(tmp_path / "my_own_pets.json")
    images = str(folder / "JPEGImages")
    for to in ("voc", "yolo", "labelme", "csv"):
        (split,) = convert_data([str(path)], tmp_path / to / "out", to=to, images=images)
        assert "objects" not in split.losses.counts
        assert "images" not in split.losses.counts


BOMB = '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
THEFT = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (BOMB, "entities"),
        (THEFT, "entities"),
        ("<annotation><object>", "no element found"),
        ("<html></html>", "wanted <annotation>, got <html>"),
        ("", "no element found"),
        (make_xml([("cat", "nan", 1, 2, 3)]), "wanted numbers in <bndbox>, got ['nan'"),
        (make_xml([("", 1, 1, 2, 3)]), "wanted a <name>, got none"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "encoding"),
    ],
)
def test_broken_xml_is_one_sentence_with_its_name(content: str, fault: str, tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 9, 9)], "b": []})
    (folder / "Annotations/b.xml").write_text(content)
    with pytest.raises(DataError, match=r"1 faults in 2 XML files: b.xml") as error:
        read_annotations(str(folder))
    assert fault in str(error.value)
    assert len(str(error.value)) < 400


def test_round_trip_through_voc_is_lossless_or_told(tmp_path: Path) -> None:
    objects = [("cat", 3, 4, 50, 37), ("dog", 1, 1, 60, 40)]
    folder = write_voc_folder(tmp_path, {"a": objects, "b": objects[:1]}, train="a", val="b")
    first = convert_data([str(folder)], tmp_path / "coco")
    assert [(c.split, c.num_images, c.num_objects) for c in first] == [
        ("train", 1, 2),
        ("val", 1, 1),
    ]
    assert not any(c.losses for c in first)
    jsons = [str(tmp_path / f"coco/{name}.json") for name in ("train", "val")]
    images = str(folder / "JPEGImages")
    back = convert_data(jsons, tmp_path / "back", to="voc", images=images)
    assert not any(c.losses for c in back)
    assert (tmp_path / "back/JPEGImages/a.jpg").read_bytes() == (
        Path(images) / "a.jpg"
    ).read_bytes()
    convert_data([str(tmp_path / "back")], tmp_path / "again")
    for name in ("train", "val"):
        wanted = (tmp_path / f"coco/{name}.json").read_text()
        assert (tmp_path / f"again/{name}.json").read_text() == wanted


def test_trainval_is_no_other_part_unless_it_is_named(tmp_path: Path) -> None:
    objects = {name: [("cat", 1, 1, 9, 9)] for name in "abc"}
    folder = write_voc_folder(tmp_path, objects, train="a", val="b", trainval="ab", test="c")
    (tmp_path / "out").mkdir()
    splits = convert_data([str(folder)], tmp_path / "out")
    assert [split.split for split in splits] == ["test", "train", "val"]
    assert len(read_annotations(f"{folder}#trainval").content["images"]) == 2
    assert find_address(str(folder), is_train=True) == f"{folder}#train"
    assert find_address(str(folder), is_train=False) == f"{folder}#val"


def test_report_says_what_was_lost(tmp_path: Path) -> None:
    write_picture(tmp_path / "pictures/deep/a.jpg")
    content = {
        "info": {"year": 2026},
        "images": [{"id": 7, "file_name": "deep\\a.jpg", "license": 3}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog", "supercategory": "pet"}],
        "annotations": [
            {
                **{"id": 1, "image_id": 7, "category_id": 5, "bbox": [1.25, 2, 10, 10]},
                **{"area": 50, "iscrowd": 0, "segmentation": [[1.25, 2, 11, 2, 11, 12]]},
            },
            {
                "id": 2,
                "image_id": 7,
                "category_id": 5,
                "bbox": [20, 20, 5, 5],
                "attributes": {"a": 1},
            },
        ],
    }
    (tmp_path / "instances_x.json").write_text(json.dumps(content))
    out = tmp_path / "voc"
    images = str(tmp_path / "pictures")
    (split,) = convert_data([str(tmp_path / "instances_x.json")], out, to="voc", images=images)
    assert split.losses.counts == {
        "ids of categories, which get others": 1,
        "classes without an object": 1,
        "supercategory of categories": 1,
        "license of images": 1,
        "masks, of which the box stays": 1,
        "areas other than the box's": 1,
        "attributes of objects": 1,
        "boxes moved, the farthest edge by 0.25 pixels": 1,
        "entries at the top: info": 1,
    }
    assert (out / "JPEGImages/deep_a.jpg").is_file()
    (report,) = json.loads((out / "report.json").read_text())
    counts = {entry["what"]: entry["count"] for entry in report["losses"]}
    assert counts == split.losses.counts
    assert "lost: 1 masks, of which the box stays (annotation 1 of deep\\a.jpg)" in (
        out / "report.txt"
    ).read_text().replace("/", "\\")


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 9, 9)]})
    mine = tmp_path / "out/mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(FileError, match="wanted a new or an empty folder"):
        convert_data([str(folder)], mine.parent)
    (folder / "Annotations/a.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="1 faults"):
        convert_data([str(folder)], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", folder.name]
    assert mine.read_text() == "mine"


def test_names_stay_in_the_folder_and_apart() -> None:
    given = ["../../a.jpg", "/etc/a.jpg", "b/c.jpg", "b/c.png", "B/C.jpg", "x\\..\\d.jpg", ".."]
    deep = plan_names(given, set(), is_flat=False)
    assert deep == ["a.jpg", "etc/a.jpg", "b/c.jpg", "b/c_2.png", "B/C_3.jpg", "x/d.jpg", "picture"]
    flat = plan_names(given, set(), is_flat=True)
    assert flat[:3] == ["a.jpg", "etc_a.jpg", "b_c.jpg"]
    assert len({os.path.splitext(name)[0].lower() for name in flat}) == len(given)


def test_size_that_the_picture_has_not_is_one_sentence_or_the_pictures(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 9, 9)]})
    Image.new("RGB", (30, 20)).save(folder / "JPEGImages/a.jpg")
    with pytest.raises(DataError, match=r"a.jpg is 30x20 .* instead of 60x40"):
        convert_data([str(folder)], tmp_path / "out")
    convert_data([str(folder)], tmp_path / "out", size_mismatch="picture")
    (path,) = (p for p in (tmp_path / "out").iterdir() if p.stem == "voc")
    image = json.loads(path.read_text())["images"][0]
    assert (image["width"], image["height"]) == (30, 20)
    Image.new("RGB", (40, 60)).save(folder / "JPEGImages/a.jpg")  # the other way round
    with pytest.raises(DataError, match="EXIF orientation"):
        convert_data([str(folder)], tmp_path / "new", size_mismatch="picture")


def test_what_is_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        find_format(str(tmp_path / "none"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"wanted annotations .* got a folder with notes.txt"):
        find_format(str(tmp_path))
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 9, 9)]}, train="a")
    with pytest.raises(DataError, match="no split 'val'; it has train"):
        read_annotations(f"{folder}#val")
    with pytest.raises(DataError, match="wanted a split for an evaluation, got train"):
        find_address(str(folder), is_train=False)
