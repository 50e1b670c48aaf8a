"""YOLO, labelme and CSV: what their readers make of the usual forms, and of what is broken."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_util
from tiny_voc import SIZE, write_picture, write_voc_folder

from nasnet_det.data.conversion import convert_data
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import find_address, read_annotations

NAMES = "names: [cat, dog]\n"


def write_yolo(folder: Path, text: str | None, data: str = "train: images\n" + NAMES) -> str:
    """A picture of 60x40 with a text; the path of the YAML."""
    write_picture(folder / "images/a.jpg")
    if text is not None:
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels/a.txt").write_text(text)
    (folder / "data.yaml").write_text(data)
    return str(folder / "data.yaml")


def list_objects(address: str, **options: Any) -> list[tuple[Any, ...]]:
    """(category id, box) of each object."""
    content = read_annotations(address, **options).content
    return [(a["category_id"], a["bbox"]) for a in content["annotations"]]


def test_yolo_lines_are_shares_of_the_picture(tmp_path: Path) -> None:
    path = write_yolo(
        tmp_path, "0 0.5 0.5 1 1\n1.0 0.25 0.5 0.1 0.25 0.9\n\n1 0.1 0.1 0.5 0.1 0.5 0.75\n"
    )
    found = read_annotations(f"{path}#train")
    assert list_objects(f"{path}#train") == [
        (1, [0, 0, 60, 40]),
        (2, [12, 15, 6, 10]),
        (2, [6, 4, 24, 26]),
    ]
    assert found.content["annotations"][2]["segmentation"] == [[6, 4, 30, 4, 30, 30]]
    assert found.losses.counts == {"scores after boxes": 1}
    (tmp_path / "labels/a.txt").unlink()
    assert list_objects(f"{path}#train") == []  # a picture without objects


def test_yolo_shares_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, "0 0.5 0.25 1 0.5\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(tmp_path / "images/a.jpg", exif=exif)
    assert list_objects(f"{path}#train") == [(1, [0, 0, 40, 30])]


@pytest.mark.parametrize(
    "data",
    [
        "path: .\ntrain: images\nval: images\nnames: {0: cat, 1: dog}\nnc: 2\n",
        "train: ../images\nval: ../images\n" + NAMES,  # Roboflow's
        "path: ../datasets/none\ntrain: [images]\nval: images\n" + NAMES,
        "train: list.txt\nval: list.txt\n" + NAMES,
    ],
)
def test_yolo_finds_its_pictures(data: str, tmp_path: Path) -> None:
    place = tmp_path / "deep"
    place.mkdir()
    path = write_yolo(place, "1 0.5 0.5 0.5 0.5\n", data)
    (place / "list.txt").write_text("./images/a.jpg\n")
    address = find_address(path, is_train=False)
    assert address == f"{path}#val"
    (image,) = read_annotations(address).content["images"]
    assert (image["file_name"], image["width"]) == ("images/a.jpg", 60)
    assert list_objects(str(place) + "#val") == [(2, [15, 10, 30, 20])]


def test_yolo_without_a_yaml_is_known_by_its_folders(tmp_path: Path) -> None:
    path = Path(write_yolo(tmp_path, "1 0.5 0.5 0.5 0.5\n"))
    path.unlink()
    assert find_address(str(tmp_path), is_train=True) == f"{tmp_path}#train"
    with pytest.raises(DataError, match="wanted a data.yaml or a classes.txt .* --classes"):
        read_annotations(f"{tmp_path}#train")
    assert list_objects(f"{tmp_path}#train", classes=["a", "b"]) == [(2, [15, 10, 30, 20])]
    (tmp_path / "labels/classes.txt").write_text("cat\ndog\n\n")
    content = read_annotations(f"{tmp_path}#train").content
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    for name in ("images/a.jpg", "labels/a.txt", "labels/classes.txt"):  # as labelImg leaves them
        (tmp_path / name).rename(tmp_path / Path(name).name)
        (tmp_path / name).parent.rmdir() if name != "labels/a.txt" else None
    assert list_objects(f"{tmp_path}#train") == [(2, [15, 10, 30, 20])]


@pytest.mark.parametrize(
    ("text", "data", "fault"),
    [
        ("0 30 20 10 10\n", "", "a.txt, line 1: wanted a class below 2, then"),
        ("2 0.5 0.5 0.1 0.1\n", "", "wanted a class below 2"),
        ("0 nan 0.5 0.1 0.1\n", "", "wanted a class below 2"),
        ("cat 0.5 0.5 0.1 0.1\n0 0.5\n", "", "2 faults in 1 texts"),
        ("", "train: images\nnames: [a, a]\n", "names: wanted different names"),
        ("", "train: images\nnames: {0: a, 2: b}\n", "names: wanted numbers from 0"),
        ("", "train: images\nnc: 3\n" + NAMES, "nc: wanted 2"),
        ("", "train: nowhere\n" + NAMES, "no split 'train'; it has none"),
        ("", "- a\n", "wanted a YOLO data.yaml with names"),
        ("", "a: [", "can't be read as YAML"),
        ("", "!!python/object/apply:os.system ['true']", "can't be read as YAML"),
    ],
)
def test_yolo_fault_is_one_sentence(text: str, data: str, fault: str, tmp_path: Path) -> None:
    path = write_yolo(tmp_path, text, data or "train: images\n" + NAMES)
    with pytest.raises(DataError) as error:
        read_annotations(f"{path}#train")
    assert fault in str(error.value)
    assert len(str(error.value)) < 400


def test_yolo_keypoints(tmp_path: Path) -> None:
    data = "train: images\nkpt_shape: [2, 3]\n" + NAMES
    path = write_yolo(tmp_path, "0 0.5 0.5 0.5 0.5 0.5 0.5 2 0 0 0\n", data)
    (found,) = read_annotations(f"{path}#train").content["annotations"]
    assert (found["keypoints"], found["num_keypoints"]) == ([30, 20, 2, 0, 0, 0], 1)
    assert found["bbox"] == [15, 10, 30, 20]


def write_labelme(folder: Path, shapes: list[dict[str, Any]], **more: Any) -> str:
    write_picture(folder / "a.jpg")
    head = {"version": "5.4", "flags": {}, "shapes": shapes, "imagePath": "..\\x\\a.jpg"}
    size = {"imageData": None, "imageHeight": 40, "imageWidth": 60}
    (folder / "a.json").write_text(json.dumps({**head, **size, **more}))
    return str(folder)


def test_labelme_shapes(tmp_path: Path) -> None:
    mask = np.zeros((5, 8), np.uint8)
    mask[1:4, 2:] = 1
    png = io.BytesIO()
    Image.fromarray(mask * 255).save(png, "PNG")
    painted = base64.b64encode(png.getvalue()).decode()
    triangle = [[1, 1], [9, 1], [9, 5]]
    shapes = [
        {"label": "cat", "points": [[50, 30], [10.5, 5]], "shape_type": "rectangle"},
        {"label": "dog", "points": triangle, "shape_type": "polygon", "group_id": 1},
        {"label": "dog", "points": [[20, 20], [30, 20], [30, 30], [20, 30]], "group_id": 1},
        {"label": "cat", "points": [[30, 20], [30, 26]], "shape_type": "circle"},
        {"label": "cat", "points": [[3, 4], [10, 8]], "shape_type": "mask", "mask": painted},
        {"label": "eye", "points": [[3, 4]], "shape_type": "point", "description": "left"},
    ]
    found = read_annotations(write_labelme(tmp_path, shapes))
    assert [c["name"] for c in found.content["categories"]] == ["cat", "dog", "eye"]
    assert found.content["images"][0]["file_name"] == "a.jpg"
    rectangle, pair, circle, brush = found.content["annotations"]
    assert rectangle["bbox"] == [10.5, 5, 39.5, 25]
    assert (pair["bbox"], pair["area"]) == ([1, 1, 29, 29], 16 + 100)
    assert pair["segmentation"] == [[1, 1, 9, 1, 9, 5], [20, 20, 30, 20, 30, 30, 20, 30]]
    assert circle["bbox"] == [24, 14, 12, 12]
    assert circle["area"] == pytest.approx(np.pi * 36, rel=0.01)
    assert brush["bbox"] == [3, 4, 8, 5]
    wanted = np.zeros((40, 60), np.uint8)
    wanted[4:9, 3:11] = mask
    np.testing.assert_array_equal(mask_util.decode(brush["segmentation"]), wanted)
    assert found.losses.counts == {
        "description of shapes": 1,
        "circles, which become polygons of 64 points": 1,
        "shapes of the kind point, which have no area": 1,
    }


@pytest.mark.parametrize("to", ["labelme", "voc", "yolo"])
def test_labelme_picture_that_lies_in_its_json_is_written(
    tmp_path: Path, to: str, caplog: pytest.LogCaptureFixture
) -> None:
    shape = {"label": "cat", "points": [[3, 4], [10, 8]], "shape_type": "rectangle"}
    folder = tmp_path / "given"
    folder.mkdir()
    write_labelme(folder, [shape])
    picture = (folder / "a.jpg").read_bytes()
    write_labelme(folder, [shape], imageData=base64.b64encode(picture).decode())
    (folder / "a.jpg").unlink()
    (converted,) = convert_data([str(folder)], tmp_path / "out", to=to)
    assert "1 pictures are no files, but lie in their JSONs" in caplog.text
    (written,) = (tmp_path / "out").rglob("*.jpg")
    assert written.read_bytes() == picture
    assert not converted.losses
    write_labelme(folder, [shape], imageData="AAAA")
    (folder / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a.json: imageData: wanted a picture, got none"):
        convert_data([str(folder)], tmp_path / "new", to=to)
    assert not (tmp_path / "new").exists()


def test_labelme_mask_of_a_claimed_size_takes_no_memory(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("L", (8, 5), 255).save(png, "PNG")
    painted = base64.b64encode(png.getvalue()).decode()
    shape = {"label": "cat", "points": [[3, 4], [10, 8]], "shape_type": "mask", "mask": painted}
    with pytest.raises(DataError, match="its picture is larger than pictures that are read"):
        read_annotations(write_labelme(tmp_path, [shape], imageHeight=10**6, imageWidth=10**6))


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ({"label": "", "points": [[1, 2]]}, "a.json, shape 1: wanted a label and points"),
        ({"label": "a", "points": [[1, "2"]]}, "wanted a label and points"),
        ({"label": "a", "points": [[1, 2, 3]]}, "wanted a label and points"),
        (
            {"label": "a", "points": [[1, 2], [3, 4]], "shape_type": "mask", "mask": "AAAA"},
            "a mask can't be read",
        ),
    ],
)
def test_labelme_fault_is_one_sentence(shape: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_annotations(write_labelme(tmp_path, [shape]))
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,cat,6,10,36,30\n", {}),
        ("﻿File Name;Label;X1;Y1;X2;Y2\r\na.jpg;cat;6;10;36;30\r\n", {}),
        ("image\tx\ty\twidth\theight\tlabel\na.jpg\t6\t10\t30\t20\tcat\n", {}),
        ("photos/a.jpg,6,10,36,30,cat\n", {}),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.1,0.6,0.25,0.75\n", {}),
        ("path,x1,y1,x2,y2,class\nC:\\photos\\a.jpg,7,11,36,30,cat\n", {"first_pixel": 1}),
    ],
)
def test_csv_of_the_usual_forms(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    found = read_annotations(str(tmp_path / "boxes.csv"), **options)
    assert found.content["images"] == [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}]
    assert list_objects(str(tmp_path / "boxes.csv"), **options) == [(1, [6, 10, 30, 20])]
    assert not found.losses


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b,c\n1,2,3\n", "wanted the columns filename"),
        ("", "wanted the columns"),
        ("image,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,x,4\n", "line 2: wanted four numbers"),
        ("image,class,xmin,ymin,xmax,ymax\na.jpg,,1,2,3,4\n", "line 2: wanted four numbers and a"),
        ("image,class,xmin,ymin,xmax,ymax\n,cat,1,2,3,4\n", "line 2: wanted the name"),
        ("image,class,xmin,ymin,xmax,ymax\nb.jpg,cat,0,0.1,0.5,1\n", "no size of b.jpg is known"),
    ],
)
def test_csv_fault_is_one_sentence(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_annotations(str(tmp_path / "boxes.csv"))
    assert fault in str(error.value)


@pytest.mark.parametrize("to", ["yolo", "labelme", "csv"])
def test_round_trip_keeps_boxes_classes_and_empty_pictures(to: str, tmp_path: Path) -> None:
    objects = {
        "a": [("cat", 3, 4, 50, 37), ("dog", 1, 1, 60, 40)],
        "b": [("dog", 7, 9, 31, 33), ("cat", 2, 2, 3, 3)],
        "c": [],
    }
    folder = write_voc_folder(tmp_path, objects, train="ac", val="b")
    splits = convert_data([str(folder)], tmp_path / "out", to=to)
    kept = {kind for split in splits for kind in split.losses.counts}
    assert kept == {"pose of objects", "truncated of objects"}
    source = {
        "yolo": [str(tmp_path / "out/data.yaml")],
        "labelme": [str(tmp_path / "out")],
        "csv": [str(tmp_path / f"out/{split}.csv") for split in ("train", "val")],
    }[to]
    images = str(folder / "JPEGImages") if to == "csv" else ""
    back = {s.split: s for s in convert_data(source, tmp_path / "back", images=images)}
    for split in ("train", "val"):
        wanted = read_annotations(f"{folder}#{split}").content
        got = json.loads((tmp_path / f"back/{split}.json").read_text())
        assert [os.path.basename(i["file_name"]) for i in got["images"]] == [
            i["file_name"] for i in wanted["images"]
        ]
        assert got["categories"] == wanted["categories"]
        keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
        mine = [[a[key] for key in keys] for a in got["annotations"]]
        assert mine == [[a[key] for key in keys] for a in wanted["annotations"]]
        for image in got["images"]:
            assert Path(back[split].image_root, image["file_name"]).is_file()


def test_masks_come_back_from_yolo_and_labelme(tmp_path: Path) -> None:
    write_picture(tmp_path / "pictures/a.jpg")
    polygon = [1.25, 2, 11, 2, 11, 12.33]
    annotation = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 50.35}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {**annotation, "id": 1, "bbox": [1.25, 2, 9.75, 10.33], "segmentation": [polygon]}
        ],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    for to in ("yolo", "labelme"):
        (split,) = convert_data(
            [str(path)], tmp_path / to, to=to, images=str(tmp_path / "pictures"), pictures="link"
        )
        assert split.losses.counts in ({}, {"areas other than the box's": 1}), to
    # With a second object of two parts, YOLO can only say boxes; labelme has groups.
    parts = [polygon, [20, 20, 30, 20, 30, 30]]
    content["annotations"].append(
        {**annotation, "id": 2, "bbox": [1.25, 2, 28.75, 28], "segmentation": parts}
    )
    path.write_text(json.dumps(content))
    images = str(tmp_path / "pictures")
    (yolo,) = convert_data([str(path)], tmp_path / "y2", to="yolo", images=images)
    assert yolo.losses.counts["masks, of which the box stays"] == 2
    (labelme,) = convert_data([str(path)], tmp_path / "l2", to="labelme", images=images)
    assert not any("masks" in kind for kind in labelme.losses.counts)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["a.json", "a.csv", "data.yaml", "a.xml", "a.txt"]))
def test_any_bytes_are_read_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    write_picture(folder / "a.jpg")
    if name == "a.txt":
        (folder / "data.yaml").write_text("train: .\n" + NAMES)
    (folder / name).write_bytes(content)
    source = {"a.txt": f"{folder}#train", "a.csv": str(folder / name)}.get(name, str(folder))
    message = ""
    try:
        read_annotations(source)
    except DataError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize("to", ["voc", "yolo", "labelme", "csv"])
@pytest.mark.parametrize(
    ("json_file", "images"),
    [
        ("bccd/coco_json/instances_train.json", "bccd/BCCD/JPEGImages"),
        ("voc_small/annotations/instances_val.json", "voc_small/val"),
        ("coco_small/annotations/instances_val2017.json", "coco_small/val2017"),
    ],
)
def test_real_annotations_come_back(json_file: str, images: str, to: str, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    place = Path(os.environ.get("NASNET_DET_DATA", root.parent / "shared" / "data"))
    if not (place / json_file).is_file():
        pytest.skip(f"no {place / json_file}")
    folder = str(place / images)
    (split,) = convert_data(
        [str(place / json_file)], tmp_path / "out", to=to, images=folder, pictures="link"
    )
    lost = split.losses.counts
    assert not lost.keys() & {"images", "objects", "classes of objects", "sizes of images"}
    moved = [kind for kind in lost if "boxes moved" in kind]
    if to == "voc" and not json_file.startswith("bccd"):  # whole pixels
        assert "by 0.5 pixels" in moved[0]
    else:
        assert not moved
