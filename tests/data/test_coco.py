"""COCO-format files as tools write them: read right, by one reader for all stages."""

from __future__ import annotations

import copy
import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_coco import make_coco, write_json

from nasnet_det.data.coco import CocoFile, read_coco
from nasnet_det.data.error import DataError


def write(folder: Path, data: Any, name: str = "boxes.json") -> Path:
    return write_json(folder / name, data)


def assert_same(first: CocoFile, second: CocoFile) -> None:
    for key in ("image_ids", "file_names", "category_ids", "category_names", "has_annotations"):
        assert getattr(first, key) == getattr(second, key), key
    np.testing.assert_array_equal(first.sizes, second.sizes)
    for key in ("ids", "image", "category", "boxes", "is_whole", "areas", "is_crowd"):
        mine, theirs = getattr(first.objects, key), getattr(second.objects, key)
        np.testing.assert_array_equal(mine, theirs, err_msg=key)


def test_columns_are_those_of_the_file(tmp_path: Path) -> None:
    coco = read_coco(write(tmp_path, make_coco()))
    assert coco.image_ids == (3, 5, 9)
    assert coco.file_names == ("deep/er/b.jpg", "a.jpg", "c.jpg")
    assert (coco.category_ids, coco.category_names) == ((2, 7), ("cat", "dog"))
    objects = coco.objects
    assert objects.ids.tolist() == [11, 12, 13]
    assert objects.image.tolist() == [1, 1, 0]
    assert objects.category.tolist() == [1, 0, 0]
    assert objects.boxes.tolist() == [[0, 0, 100, 80], [90.5, 70.5, 10.2, 10.2], [1, 2, 30, 40]]
    assert objects.is_whole.tolist() == [True, False, True]
    assert objects.areas.tolist() == [8000, 10.2 * 10.2, 1200]
    assert objects.is_usable.tolist() == [True, True, False]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gzip"])
def test_file_of_any_encoding_is_the_same(encoding: str, tmp_path: Path) -> None:
    data = make_coco()
    data["categories"][0]["name"] = "红细胞"
    plain = read_coco(write(tmp_path, data))
    text = json.dumps(data, ensure_ascii=False)
    content = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    (tmp_path / "other.json").write_bytes(content)
    assert_same(read_coco(tmp_path / "other.json"), plain)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a": "红细胞"}'.encode("gbk"), "wanted text in UTF-8, got bytes"),
        (gzip.compress(b"{}" * 999, mtime=0)[:-20], "the gzipped file is broken"),
        (b"\x1f\x8b no", "the gzipped file is broken"),
    ],
)
def test_bytes_of_another_kind_are_one_sentence(
    content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "boxes.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"boxes\.json: {sentence}|boxes\.json: .*{sentence}"):
        read_coco(tmp_path / "boxes.json")


def _as_floats(data: dict[str, Any]) -> None:
    for image in data["images"]:
        image.update(id=float(image["id"]), width=100.0)
    for annotation in data["annotations"]:
        annotation.update({k: float(annotation[k]) for k in ("id", "image_id", "category_id")})
    for category in data["categories"]:
        category["id"] = float(category["id"])


def _without_flags(data: dict[str, Any]) -> None:
    del data["annotations"][0]["iscrowd"]
    data["annotations"][1]["iscrowd"] = None


def _with_nulls(data: dict[str, Any]) -> None:
    data.update(info=None, licenses=None)
    for annotation in data["annotations"]:
        annotation["segmentation"] = None


@pytest.mark.parametrize("change", [_as_floats, _without_flags, _with_nulls])
def test_what_means_the_same_is_the_same(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    data = make_coco()
    plain = read_coco(write(tmp_path, data))
    change(data)
    assert_same(read_coco(write(tmp_path, data, "changed.json")), plain)


@pytest.mark.parametrize(
    "value", [[], [[]], None, {}, "x", 3, [[1, 2, 3, 4]], [1, 2, 3, 4, 5, 6], {"counts": "a"}, True]
)
def test_segmentation_of_any_kind_drops_no_box(value: Any, tmp_path: Path) -> None:
    data = make_coco()
    plain = read_coco(write(tmp_path, data))
    for annotation in data["annotations"]:
        annotation["segmentation"] = value
    path = write(tmp_path, data, "changed.json")
    assert_same(read_coco(path), plain)
    assert read_coco(path, with_shapes=True).objects.masks == [None] * 3


def test_texts_as_ids_are_the_user_s_own(tmp_path: Path) -> None:
    data = make_coco()
    for image in data["images"]:
        image["id"] = f"i{image['id']}"
    for category in data["categories"]:
        category["id"] = f"c{category['id']}"
    for annotation in data["annotations"]:
        annotation.update(
            id=f"{annotation['id']:032x}",
            image_id=f"i{annotation['image_id']}",
            category_id=f"c{annotation['category_id']}",
        )
    coco = read_coco(write(tmp_path, data))
    assert coco.image_ids == ("i3", "i5", "i9")
    assert coco.category_ids == ("c2", "c7")
    assert coco.objects.ids.tolist() == [1, 2, 3]


def test_boxes_over_the_edge_are_clipped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    data["annotations"][0]["bbox"] = [90, -5, 40, 30]
    data["annotations"] += [copy.deepcopy(data["annotations"][1]) for _ in range(3)]
    for key, annotation in enumerate(data["annotations"]):
        annotation["id"] = key + 1
    data["annotations"][3]["bbox"] = [200, 10, 20, 20]
    data["annotations"][4]["bbox"] = [-0.9, 0, 101.8, 80]
    boxes = read_coco(write(tmp_path, data)).objects.boxes
    assert boxes[0].tolist() == [90, 0, 10, 25]
    assert boxes[3].tolist() == [100, 10, 0, 20], "all of it is outside"
    assert boxes[4].tolist() == [-0.9, 0, 101.8, 80], "a tool's rounding stays"
    assert "2 of 6 boxes leave their image and are clipped, the first: annotation 1" in caplog.text


def test_empty_boxes_mean_that_there_is_no_object(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    data["annotations"][1]["bbox"] = []
    assert read_coco(write(tmp_path, data)).objects.ids.tolist() == [11, 13]
    assert "1 annotations have an empty box and are left out" in caplog.text


@pytest.mark.parametrize(
    ("areas", "sentence"),
    [
        ([1, 1, 1], "all areas are 1, and APs, APm and APl depend on them"),
        ([8000, 90, 1600], "1 areas exceed boxes, and APs"),
    ],
)
def test_areas_that_can_not_be_right_are_said(
    areas: list[int], sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    for annotation, area in zip(data["annotations"], areas, strict=True):
        annotation["area"] = area
    assert read_coco(write(tmp_path, data)).objects.areas.tolist() == areas
    assert sentence in caplog.text


def test_proper_file_needs_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read_coco(write(tmp_path, make_coco()))
    assert not caplog.text


def test_back_slashes_are_slashes(tmp_path: Path) -> None:
    data = make_coco()
    data["images"][0]["file_name"] = "train\\a.jpg"
    assert "train/a.jpg" in read_coco(write(tmp_path, data)).file_names


def test_images_without_annotations_are_a_data_set(tmp_path: Path) -> None:
    data = make_coco()
    data["annotations"] = []
    assert read_coco(write(tmp_path, data)).has_annotations
    del data["annotations"]
    coco = read_coco(write(tmp_path, data, "info.json"))
    assert not coco.has_annotations
    assert len(coco.objects) == 0


def test_same_file_is_parsed_once_and_a_new_one_again(tmp_path: Path) -> None:
    path = write(tmp_path, make_coco())
    first = read_coco(path)
    assert read_coco(str(path)) is first
    data = make_coco()
    data["categories"].append({"id": 8, "name": "hen"})
    assert read_coco(write(tmp_path, data)).category_names == ("cat", "dog", "hen")
