"""Registering COCO-format files and the check before any work: each sentence is read here."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("detectron2", reason="detection needs Detectron2")

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from detectron2.structures import BoxMode
from PIL import Image
from tiny_coco import make_annotation, make_coco, write_json
from tiny_pictures import write_pictures_of
from tiny_voc import write_voc_folder

from nasnet_det.config import ConfigError
from nasnet_det.data.coco import read_coco
from nasnet_det.data.error import DataError
from nasnet_det.detection.config import get_config
from nasnet_det.detection.datasets import (
    check_datasets,
    list_classes,
    register_config_datasets,
)
from nasnet_det.errors import MissingPackageError


@pytest.fixture(autouse=True)
def _clean_catalogs() -> Iterator[None]:
    """Take away again what a test registers."""
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def write_files(folder: Path, data: Any, stem: str = "boxes") -> tuple[str, str]:
    """Write a JSON (text as it is) and its images of 100x80; both paths."""
    images = write_pictures_of(make_coco(), folder / "images")
    return str(write_json(folder / f"{stem}.json", data)), str(images)


def make_config(
    train: tuple[str, str] | None = None, test: tuple[str, str] | None = None
) -> CfgNode:
    """A config with files; without test files, no evaluation."""
    cfg = get_config(opts=["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"])
    cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.TRAIN_IMAGES = train or ("", "")
    cfg.DATASETS.TEST_JSON, cfg.DATASETS.TEST_IMAGES = test or ("", "")
    return cfg


def check_files(
    train: tuple[str, str] | None = None, test: tuple[str, str] | None = None, **options: bool
) -> None:
    """Register and check as the training tool does."""
    cfg = make_config(train, test)
    register_config_datasets(cfg)
    check_datasets(cfg, **options)


# ---- Registering


def test_registering_sets_names_and_numbers_of_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_files(tmp_path / "pets", make_coco())
    cfg = make_config(files, files)
    before = cfg.MODEL.SEM_SEG_HEAD.clone()
    with caplog.at_level(logging.INFO):
        register_config_datasets(cfg)
    assert cfg.DATASETS.TRAIN == cfg.DATASETS.TEST == ("pets/boxes",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert before == cfg.MODEL.SEM_SEG_HEAD
    assert "MODEL.ROI_HEADS.NUM_CLASSES: 2 instead of 80" in caplog.text
    assert "MODEL.RETINANET.NUM_CLASSES: 2 instead of 80" in caplog.text
    metadata = MetadataCatalog.get("pets/boxes")
    assert metadata.evaluator_type == "coco"
    assert metadata.thing_classes == ["cat", "dog"], "in the order of their ids"


def test_registered_set_loads_with_the_ids_that_detectron2_maps(tmp_path: Path) -> None:
    files = write_files(tmp_path, make_coco())
    cfg = make_config(files)
    register_config_datasets(cfg)
    before = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).as_dict()
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN)
    assert MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).as_dict() == before
    assert [Path(d["file_name"]).relative_to(files[1]) for d in dicts] == [Path("a.jpg")]
    assert [a["category_id"] for a in dicts[0]["annotations"]] == [1, 0]


def test_registering_leaves_a_config_without_files_alone() -> None:
    cfg = get_config()
    before = cfg.dump()
    register_config_datasets(cfg)
    assert cfg.dump() == before


def test_registering_twice_is_the_same_as_once(tmp_path: Path) -> None:
    files = write_files(tmp_path, make_coco())
    names = []
    for _ in range(2):
        cfg = make_config(files)
        register_config_datasets(cfg)
        names.append(cfg.DATASETS.TRAIN)
    number = len(DatasetCatalog)
    register_config_datasets(cfg)
    assert names[0] == names[1] == cfg.DATASETS.TRAIN
    assert len(DatasetCatalog) == number


def test_registering_other_files_of_the_same_name_keeps_both(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours" / "pets", make_coco())
    theirs = write_files(tmp_path / "theirs" / "pets", make_coco())
    cfg = make_config(ours, theirs)
    register_config_datasets(cfg)
    assert {cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0]} == {"pets/boxes", "pets/boxes#2"}
    assert MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).json_file == ours[0]
    assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).json_file == theirs[0]


def test_registering_again_reads_categories_that_changed(tmp_path: Path) -> None:
    data = make_coco()
    check_files(write_files(tmp_path, data))
    data["categories"].append({"id": 8, "name": "hen"})
    cfg = make_config(write_files(tmp_path, data))
    register_config_datasets(cfg)
    assert MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes == ["cat", "dog", "hen"]
    check_datasets(cfg)


def test_registering_takes_a_test_set_alone(tmp_path: Path) -> None:
    cfg = make_config(test=write_files(tmp_path, make_coco()))
    register_config_datasets(cfg)
    assert cfg.DATASETS.TRAIN == ()
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    check_datasets(cfg, eval_only=True)


@pytest.mark.parametrize(
    ("key", "other"), [("TRAIN_JSON", "TRAIN_IMAGES"), ("TEST_IMAGES", "TEST_JSON")]
)
def test_registering_refuses_half_of_a_pair(key: str, other: str) -> None:
    cfg = make_config()
    cfg.DATASETS[key] = "some.json"
    wanted = f"got DATASETS.{key} = 'some.json' without DATASETS.{other}"
    with pytest.raises(DataError, match=re.escape(wanted)):
        register_config_datasets(cfg)


def test_registering_refuses_a_missing_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.json: there is no such file"):
        register_config_datasets(make_config((str(tmp_path / "no.json"), str(tmp_path))))


def test_registering_says_what_to_do_with_several_files_and_labels_of_yolo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of one set; others are registered and named in DATASETS"):
        register_config_datasets(make_config(("('a.json', 'b.json')", str(tmp_path))))
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    with pytest.raises(DataError, match="is not valid JSON.*; of YOLO's labels give the data.yaml"):
        register_config_datasets(make_config((str(tmp_path / "a.txt"), str(tmp_path))))


# ---- Names of data sets


def test_check_names_the_nearest_of_an_unknown_set() -> None:
    cfg = get_config(opts=["DATASETS.TRAIN", "('coco_2017_trian',)"])
    with pytest.raises(
        DataError,
        match=r"unknown data set 'coco_2017_trian', did you mean 'coco_2017_train'\? .*"
        r"DETECTRON2_DATASETS.*DATASETS\.TRAIN_JSON",
    ):
        check_datasets(cfg)


@pytest.mark.parametrize("eval_only", [False, True])
def test_check_wants_a_data_set_to_work_on(eval_only: bool) -> None:
    split = "TEST" if eval_only else "TRAIN"
    with pytest.raises(DataError, match=rf"DATASETS\.{split}: wanted the name .* got none"):
        check_datasets(make_config(), eval_only=eval_only)


def test_check_says_where_a_builtin_set_is_looked_for() -> None:
    cfg = get_config(opts=["DATASETS.TRAIN", "('coco_2014_minival',)"])
    path = MetadataCatalog.get("coco_2014_minival").json_file
    if os.path.exists(path):
        pytest.skip(f"{path} is there")
    wanted = rf"'coco_2014_minival': no file {re.escape(path)}; .* DETECTRON2_DATASETS \((now|not)"
    with pytest.raises(DataError, match=wanted):
        check_datasets(cfg)


def test_check_of_lvis_looks_for_its_files_and_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("lvis_v1_train",)
    with pytest.raises(DataError, match=r"no file .*lvis_v1_train.json; it is looked for in the"):
        check_datasets(cfg)
    files = write_files(tmp_path, make_coco())
    DatasetCatalog.register("mine", list)
    MetadataCatalog.get("mine").set(json_file=files[0], image_root=files[1], evaluator_type="lvis")
    cfg.DATASETS.TRAIN = ("mine",)
    monkeypatch.setattr("nasnet_det.detection.datasets.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="lvis is not installed: run pip install lvis"):
        check_datasets(cfg)


def make_records(folder: Path) -> list[dict[str, Any]]:
    """Two pictures of 100x80 as a user's function gives them."""
    write_pictures_of(make_coco(), folder)
    box: dict[str, Any] = {"bbox": np.array([1, 2, 31.5, 42]), "bbox_mode": BoxMode.XYXY_ABS}
    size = {"width": 100, "height": 80}
    return [
        {"file_name": str(folder / "a.jpg"), "annotations": [{**box, "category_id": 1}], **size},
        {"file_name": str(folder / "c.jpg"), "annotations": [], **size},
    ]


def check_records(records: Any, classes: list[str] | None = None) -> None:
    name = "from_python"
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, lambda: records)
    if classes:
        MetadataCatalog.get(name).thing_classes = classes
    cfg = make_config()
    cfg.DATASETS.TRAIN = (name,)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    check_datasets(cfg)


def test_check_of_a_set_from_python_is_that_of_a_json(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = make_records(tmp_path)
    with caplog.at_level(logging.INFO):
        check_records(records, ["cat", "dog"])
    assert "data set from_python: 2 images, 1 boxes, 2 classes, 0 crowd boxes, 1 im" in caplog.text
    check_records(records)  # of unknown classes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r[0].update(width=90), r"'from_python': 1 of 2 images have another size.*a.jpg"),
        (lambda r: r[1].update(file_name="no.jpg"), "1 of 2 images are missing: 'no.jpg'"),
        (lambda r: r[0].pop("file_name"), "record 1: wanted a dict with a file_name"),
        (lambda r: r[0]["annotations"][0].pop("bbox_mode"), "a.jpg, object 1: wanted bbox, bbox_m"),
        (
            lambda r: r[0]["annotations"][0].update(category_id=2),
            r"category_id: wanted an id .* the first \(id 'a.jpg, object 1 of record 1'\) has 2",
        ),
        (
            lambda r: r[0]["annotations"][0].update(bbox=[9, 9, 5, 5]),
            r"1 of 1 boxes have a negative size, the first: annotation a.jpg, object 1 of record 1",
        ),
        (lambda r: r[0]["annotations"][0].update(bbox=[1, 2]), "wanted a box of four numbers"),
        (lambda r: r[0]["annotations"].clear(), "none of its 2 images has a box to train on"),
        (lambda r: r.clear(), "data set 'from_python' has no record"),
    ],
)
def test_fault_of_a_set_from_python_is_one_sentence(
    change: Callable[[Any], Any], sentence: str, tmp_path: Path
) -> None:
    records = make_records(tmp_path)
    change(records)
    with pytest.raises(DataError, match=sentence):
        check_records(records, ["cat", "dog"])


def test_check_of_detectron2s_voc_is_that_of_a_json(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": [("cat", 1, 1, 60, 40)], "b": []}, train="ab")
    register_pascal_voc("my_voc", str(folder), "train", 2007, ["cat", "dog"])
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("my_voc",)
    with pytest.raises(DataError, match="NUM_CLASSES: wanted 2, the number of categories of data"):
        check_datasets(cfg)
    (folder / "JPEGImages/a.jpg").unlink()
    with pytest.raises(DataError, match="'my_voc': 1 of 2 images are missing"):
        check_datasets(cfg)
    (folder / "ImageSets/Main/train.txt").unlink()
    with pytest.raises(DataError, match="'my_voc' can't be loaded: .*No such file"):
        check_datasets(cfg)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gzip"])
def test_set_with_a_name_is_loaded_by_our_reader(encoding: str, tmp_path: Path) -> None:
    data = make_coco()
    data["annotations"][0]["segmentation"] = [[]]  # for which Detectron2 drops the object
    text = json.dumps(data)
    path = tmp_path / "boxes.json"
    path.write_bytes(gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding))
    images = write_pictures_of(data, tmp_path / "images")
    register_coco_instances("named", {}, str(path), str(images))
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("named",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    for _ in range(2):
        register_config_datasets(cfg)
        check_datasets(cfg)
    (record,) = get_detection_dataset_dicts(cfg.DATASETS.TRAIN)
    assert [a["category_id"] for a in record["annotations"]] == [1, 0]
    metadata = MetadataCatalog.get("named")
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {2: 0, 7: 1}


def test_sizes_that_pictures_do_not_have(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_coco()
    data["images"][0].update(width=50, height=200)
    data["annotations"][0]["bbox"] = [0, 0, 50, 80]
    data["annotations"].pop(1)
    data["images"][1].pop("height")
    files = write_files(tmp_path, data)
    with pytest.raises(DataError, match=r"1 of 3 images .* a.jpg is 100x80 .* instead of 50x200"):
        check_files(files)
    cfg = make_config(files)
    cfg.DATASETS.SIZE_MISMATCH = "picture"
    with caplog.at_level(logging.INFO):
        register_config_datasets(cfg)
        check_datasets(cfg)
    assert "no size of 1 of 3 images; that of the picture is taken" in caplog.text
    assert "1 of 3 images have another size than the JSON says, the first a.jpg" in caplog.text
    records = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    assert {(r["width"], r["height"]) for r in records} == {(100, 80)}
    data["images"][0].update(width=80, height=100)  # annotated before it was turned upright
    files = write_files(tmp_path / "turned", data)
    cfg = make_config(files)
    cfg.DATASETS.SIZE_MISMATCH = "picture"
    with pytest.raises(DataError, match="take the EXIF orientation out"):
        register_config_datasets(cfg)
    cfg.DATASETS.SIZE_MISMATCH = "pictures"
    with pytest.raises(ConfigError, match="SIZE_MISMATCH: unknown name 'pictures', did you mean"):
        check_datasets(cfg)


def test_broken_picture_without_a_size_is_skipped(tmp_path: Path) -> None:
    data = make_coco()
    data["images"][1].pop("width")
    files = write_files(tmp_path, data)
    (tmp_path / "images/deep/er/b.jpg").write_bytes(b"")
    cfg = make_config(files)
    register_config_datasets(cfg)
    check_datasets(cfg)
    names = [Path(r["file_name"]).name for r in DatasetCatalog.get(cfg.DATASETS.TRAIN[0])]
    assert names == ["a.jpg", "c.jpg"]
    cfg.DATASETS.BROKEN_IMAGES = "stop"
    with pytest.raises(DataError, match=r"b.jpg .* can't be read; mend or remove it"):
        check_datasets(cfg)


def test_mask_of_another_size_than_its_image_is_one_sentence(tmp_path: Path) -> None:
    data = make_coco()
    rle = {"size": [100, 80], "counts": [4000, 4000]}
    data["annotations"] = [make_annotation(1, 5, 2, [0, 0, 9, 9], segmentation=rle)]
    cfg = make_config(write_files(tmp_path, data))
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = True, "bitmask"
    register_config_datasets(cfg)
    with pytest.raises(DataError, match=r"1 of 1 have another one, .* has \[100, 80\]"):
        check_datasets(cfg)


def test_check_with_eval_only_does_not_look_at_the_training_set(tmp_path: Path) -> None:
    cfg = make_config(test=write_files(tmp_path, make_coco()))
    register_config_datasets(cfg)
    cfg.DATASETS.TRAIN = ("nowhere",)
    check_datasets(cfg, eval_only=True)
    with pytest.raises(DataError, match="unknown data set 'nowhere'"):
        check_datasets(cfg)


# ---- The JSON as a file


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "ends too early, after 0 characters: copy or download it again"),
        (json.dumps(make_coco())[:-40], "ends too early, after"),
        ('{"images": [{"file_name": "a.j', "ends too early, after"),
        ("{'images': []}", "is not valid JSON: Expecting property name .* in line 1, column 2"),
        ("[" * 100_000, "is not valid JSON"),
        ("[1, 2]", "wanted an object with images, annotations and categories, got a list"),
        ('[{"image_id": 1, "score": 0.5}]', "got a list of detections; give the annotations of"),
        ('{"shapes": [], "imagePath": "1.png"}', "a file of labelme's for one picture; give the f"),
        ('{"1.png123": {"regions": []}}', "of the VGG Image Annotator's own; export COCO's format"),
    ],
)
def test_check_reads_what_is_wrong_with_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    json_file, images = write_files(tmp_path, text)
    with pytest.raises(DataError, match=rf"boxes\.json: .*{sentence}"):
        check_files((json_file, images))
    register_coco_instances("by hand", {}, json_file, images)
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("by hand",)
    with pytest.raises(DataError, match=rf"boxes\.json: .*{sentence}"):
        check_datasets(cfg)


def test_check_refuses_bytes_that_are_not_text(tmp_path: Path) -> None:
    files = write_files(tmp_path, "")
    Path(files[0]).write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(
        DataError, match="is not valid JSON: wanted text in UTF-8, got bytes that utf-16"
    ):
        check_files(files)


def test_check_names_a_missing_images_folder(tmp_path: Path) -> None:
    json_file, _ = write_files(tmp_path, make_coco())
    with pytest.raises(DataError, match=r"no images folder .*/nowhere$"):
        check_files((json_file, str(tmp_path / "nowhere")))


# ---- The records


def _set(kind: str, index: int, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data[kind][index].update(fields)


def _without(kind: str, index: int, key: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data[kind][index].pop(key)


def _put(**lists: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.update(lists)


# What is changed in a proper data set, and the sentence that says so.
FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no images": (
        lambda data: data.pop("images"),
        "wanted a list 'images', got only categories, annotations",
    ),
    "no annotations": (
        lambda data: data.pop("annotations"),
        "none of its 3 images has a box to train on; .* got 0 others",
    ),
    "no categories": (lambda data: data.pop("categories"), "wanted a list 'categories'"),
    "images by id": (_put(images={"5": {}}), r"wanted a list 'images', got \{'5': \{\}\}"),
    "empty images": (_put(images=[]), "at least one entry in 'images', got none"),
    "empty categories": (_put(categories=[]), "at least one entry in 'categories', got none"),
    "a number as image": (
        _put(images=[3]),
        r"images: wanted an object, but 1 of 1 differ, the first \(number 1 of the list\) has 3",
    ),
    "image without id": (
        _without("images", 1, "id"),
        r"images\.id: wanted a whole number or a text, .*\(number 2 of the list\) has nothing",
    ),
    "image id true": (_set("images", 0, id=True), r"images\.id: .* has True"),
    "absurd annotation id": (
        _set("annotations", 0, id=10**30),
        r"annotations\.id: wanted a number of 64 bits, but 1 of 3 differ",
    ),
    "image ids of two kinds": (
        _set("images", 0, id="5"),
        r"images\.id: wanted all numbers or all texts, got both",
    ),
    "images with one id": (
        _set("images", 0, id=9),
        r"images\.id: wanted each id once, but 1 of 3 come more than once: 9$",
    ),
    "annotations with one id": (
        _set("annotations", 0, id=13),
        r"annotations\.id: wanted each id once, but 1 of 3 come more than once: 13$",
    ),
    "categories with one id": (
        _set("categories", 0, id=2),
        r"categories\.id: wanted each id once, but 1 of 2 come more than once: 2$",
    ),
    "category without name": (
        _without("categories", 0, "name"),
        r"categories\.name: wanted a text, but 1 of 2 differ, the first \(id 7\) has nothing",
    ),
    "file name of another type": (
        _set("images", 2, file_name=["c.jpg"]),
        r"images\.file_name: wanted a file's name, .*\(id 9\) has \['c\.jpg'\]",
    ),
    "no height": (_set("images", 1, height=0), r"images\.height: .*\(id 3\) has 0"),
    "absurd height": (_set("images", 1, height=float("nan")), r"images\.height: .* has nan"),
    "annotation of no image": (
        _set("annotations", 1, image_id=77),
        r"annotations\.image_id: wanted an id of the list 'images', but 1 of 3 differ, "
        r"the first \(id 12\) has 77",
    ),
    "annotation of an image's number as text": (
        _set("annotations", 1, image_id="5"),
        r"annotations\.image_id: .*\(id 12\) has '5'",
    ),
    "annotation of a list": (
        _set("annotations", 1, image_id=[5]),
        r"annotations\.image_id: wanted the id of an image, .* has \[5\]",
    ),
    "annotation of no category": (
        _set("annotations", 2, category_id=1),
        r"annotations\.category_id: wanted an id of the list 'categories', .*\(id 13\) has 1$",
    ),
    "crowd as text": (
        _set("annotations", 0, iscrowd="0"),
        r"annotations\.iscrowd: wanted 0 or 1, .*\(id 11\) has '0'",
    ),
    "ignore": (
        _set("annotations", 0, ignore=1),
        r"annotations\.ignore: wanted 0 or none \(Detectron2 does not know it.* has 1",
    ),
    "no box": (
        _without("annotations", 0, "bbox"),
        r"annotations\.bbox: wanted four numbers \[x, y, width, height\], .* has nothing",
    ),
    "box of three": (_set("annotations", 0, bbox=[1, 2, 3]), r"annotations\.bbox: .*\[1, 2, 3\]"),
    "box of text": (_set("annotations", 0, bbox=["1", 2, 3, 4]), r"annotations\.bbox: .*\['1', 2"),
    "box beyond floats": (_set("annotations", 0, bbox=[10**400, 0, 1, 1]), r"annotations\.bbox: "),
    "box of nan": (
        _set("annotations", 0, bbox=[float("nan"), 2, 3, 4]),
        r"1 of 3 boxes are not finite, the first: annotation 11 has \[nan, 2, 3, 4\]",
    ),
    "box of infinity": (
        _set("annotations", 1, bbox=[0, 2, float("inf"), 4]),
        r"1 of 3 boxes are not finite, the first: annotation 12 ",
    ),
    "box turned inside out": (
        _set("annotations", 1, bbox=[50, 40, -20, 10]),
        r"1 of 3 boxes have a negative size, the first: annotation 12 has \[50, 40, -20, 10\]",
    ),
    "corners in place of sizes": (
        lambda data: [a.update(bbox=[60, 50, 90, 75]) for a in data["annotations"]],
        r"3 of 3 boxes leave their image, .* the first: annotation 11 has \[60, 50, 90, 75\]; "
        r"wanted \[x, y, width, height\] in pixels",
    ),
    "shares in place of pixels": (
        lambda data: [a.update(bbox=[0.1, 0.2, 0.5, 0.25]) for a in data["annotations"]],
        "3 of 3 boxes are shares of their image",
    ),
    "missing images": (
        lambda data: [image.update(file_name=f"x/{image['id']}.jpg") for image in data["images"]],
        r"3 of 3 images are missing in .*/images: 'x/3\.jpg', 'x/5\.jpg', 'x/9\.jpg'; file_name "
        "must be relative to that folder",
    ),
    "impossible file name": (
        _set("images", 0, file_name="\0\ud800/a.jpg"),
        r"1 of 3 images are missing in .*'\\x00\\ud800/a\.jpg'",
    ),
    "folder in place of an image": (
        _set("images", 0, file_name="deep"),
        "1 of 3 images are missing in .*: 'deep'",
    ),
    "no box at all": (
        _put(annotations=[]),
        "none of its 3 images has a box to train on; .* got 0 others",
    ),
    "crowds and empty boxes only": (
        lambda data: (
            _set("annotations", 0, iscrowd=1)(data),
            _set("annotations", 1, bbox=[1, 1, 0, 5])(data),
        ),
        "none of its 3 images has a box to train on; .* got 3 others",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_says_in_one_sentence(tmp_path: Path, fault: str) -> None:
    change, sentence = FAULTS[fault]
    data = make_coco()
    change(data)
    files = write_files(tmp_path, data)
    with pytest.raises(DataError, match=sentence) as caught:
        check_files(files)
    assert "\n" not in str(caught.value)
    assert "boxes.json" in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [[]], True, float("nan")])
@pytest.mark.parametrize("kind", ["images", "annotations", "categories"])
def test_check_raises_nothing_but_its_own_error(tmp_path: Path, kind: str, value: Any) -> None:
    """Whatever stands in a field, the check passes or says so; the loader's tracebacks never."""
    fields = make_coco()[kind][0]
    for key in [None, *fields]:
        data = make_coco()
        if key is None:
            data[kind][0] = value
        else:
            data[kind][0][key] = value
        files = write_files(tmp_path, data)
        cfg = make_config(files, files)
        try:
            register_config_datasets(cfg)
            check_datasets(cfg)
        except DataError:
            continue
        assert get_detection_dataset_dicts(cfg.DATASETS.TRAIN), f"{kind}.{key} = {value!r} passed"


@pytest.mark.parametrize("area", [None, float("nan"), -3, "12"])
def test_area_that_is_none_is_that_of_the_box(
    tmp_path: Path, area: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    del data["annotations"][1]["iscrowd"]
    data["annotations"][1]["area"] = area
    files = write_files(tmp_path, data)
    check_files(test=files, eval_only=True)
    assert "1 of 3 annotations have no area; that of the box is taken" in caplog.text
    objects = read_coco(files[0]).objects
    assert objects.areas[1] == objects.boxes[1, 2] * objects.boxes[1, 3]
    assert not objects.is_crowd[1]


def test_test_set_without_boxes_is_said_to_be_not_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    for change in (lambda: data.update(annotations=[]), lambda: data.pop("annotations")):
        change()
        check_files(test=write_files(tmp_path, data), eval_only=True)
        assert "no image has a box, so detections are written but not scored" in caplog.text
        caplog.clear()


def test_check_wants_masks_where_they_are_trained(tmp_path: Path) -> None:
    cfg = make_config(write_files(tmp_path, make_coco()))
    cfg.MODEL.MASK_ON = True
    register_config_datasets(cfg)
    wanted = r"annotations\.segmentation: wanted masks, since MODEL\.MASK_ON is True, but 2 of 2"
    with pytest.raises(DataError, match=wanted):
        check_datasets(cfg)


@pytest.mark.parametrize(
    ("keypoints", "told"),
    [
        (0, r"annotations\.keypoints: wanted keypoints, since MODEL\.KEYPOINT_ON is True, but"),
        (2, r"NUM_KEYPOINTS: wanted the number of every object's keypoints, 2, got 17"),
        (17, r"MODEL\.KEYPOINT_ON: wanted keypoint_names and keypoint_flip_map, by which"),
    ],
)
def test_check_wants_keypoints_where_they_are_trained(
    keypoints: int, told: str, tmp_path: Path
) -> None:
    data = make_coco()
    for annotation in data["annotations"] if keypoints else []:
        annotation["keypoints"] = [5, 6, 2] * keypoints
    cfg = make_config(write_files(tmp_path, data))
    cfg.MODEL.KEYPOINT_ON = True
    register_config_datasets(cfg)
    with pytest.raises(DataError, match=told):
        check_datasets(cfg)


@pytest.mark.parametrize(
    ("change", "hint"),
    [(str.upper, "capitals count: a.jpg is there"), ("images/{}".format, "images/a.jpg is there")],
)
def test_picture_that_may_be_meant_is_named(
    change: Callable[[str], str], hint: str, tmp_path: Path
) -> None:
    data = make_coco()
    data["images"][0]["file_name"] = change(data["images"][0]["file_name"])
    with pytest.raises(DataError, match=f"must be relative to that folder, and .*{hint}"):
        check_files(write_files(tmp_path, data))


def test_names_of_keypoints_come_from_the_json(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    for annotation in data["annotations"]:
        annotation["keypoints"] = [5, 6, 2] * 5
    for category in data["categories"]:
        category["keypoints"] = ["nose", "right_eye", "left_eye", "hand-L", "hand-R"]
    cfg = make_config(write_files(tmp_path, data))
    cfg.MODEL.KEYPOINT_ON, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = True, 5
    register_config_datasets(cfg)
    check_datasets(cfg)
    assert "none are exchanged" not in caplog.text
    indices = create_keypoint_hflip_indices(cfg.DATASETS.TRAIN)
    np.testing.assert_array_equal(indices, [0, 2, 1, 4, 3])
    for category in data["categories"]:
        category["keypoints"] = ["bright", "tail", "l", "top", "bottom"]
    cfg = make_config(write_files(tmp_path / "other", data))
    cfg.MODEL.KEYPOINT_ON, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = True, 5
    register_config_datasets(cfg)
    check_datasets(cfg)
    assert "no keypoint is called left or right" in caplog.text
    np.testing.assert_array_equal(create_keypoint_hflip_indices(cfg.DATASETS.TRAIN), range(5))


def test_check_allows_what_coco_itself_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    data["annotations"][1]["bbox"] = [5, 5, 0, 12.5]
    data["annotations"][2]["segmentation"] = {"counts": [10, 20], "size": [80, 100]}
    data["annotations"] += [make_annotation(21, 5, 2, [-0.9, 0, 101.8, 80.9])]
    with caplog.at_level(logging.INFO):
        check_files(write_files(tmp_path / "pets", data))
    assert "1 of 4 boxes have no size" in caplog.text
    assert (
        "data set pets/boxes: 3 images, 4 boxes, 2 classes, 1 crowd boxes, 1 images without boxes"
        in caplog.text
    )


def test_check_allows_texts_as_ids_of_images(tmp_path: Path) -> None:
    data = make_coco()
    for image in data["images"]:
        image["id"] = f"i{image['id']}"
    for annotation in data["annotations"]:
        annotation["image_id"] = f"i{annotation['image_id']}"
    check_files(write_files(tmp_path, data))


def test_check_allows_the_repeated_annotations_of_minival(tmp_path: Path) -> None:
    data = make_coco()
    data["annotations"].append(data["annotations"][0])
    with pytest.raises(DataError, match=r"annotations\.id"):
        check_files(write_files(tmp_path, data))
    check_files(write_files(tmp_path, data, "instances_minival2014"))


def test_check_warns_of_what_spoils_results_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_coco()
    data["categories"][0]["name"] = "cat"
    check_files(test=write_files(tmp_path, data), eval_only=True)
    assert "several categories have the name 'cat'" in caplog.text


# ---- The pictures


def turn(path: Path) -> None:
    """As a phone that was held upright leaves it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80)).save(path, exif=exif)


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_of_another_size_are_found_before_the_training(split: str, tmp_path: Path) -> None:
    json_file, images = write_files(tmp_path, make_coco())
    turn(Path(images, "deep/er/b.jpg"))
    wanted = r"1 of 3 images have another size .*: deep/er/b\.jpg is 80x100 .* instead of 100x80"
    with pytest.raises(DataError, match=wanted):
        check_files(**{split: (json_file, images)}, eval_only=split == "test")


def test_broken_pictures_are_skipped_and_said_or_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_files(tmp_path, make_coco())
    Path(files[1], "c.jpg").write_bytes(b"<html>404</html>")
    check_files(files)
    assert "c.jpg (cannot identify image file) can't be read and is skipped" in caplog.text
    assert "1 of 3 images can't be read and are skipped" in caplog.text
    cfg = make_config(files)
    register_config_datasets(cfg)
    cfg.DATASETS.BROKEN_IMAGES = "stop"
    with pytest.raises(DataError, match="c.jpg .* can't be read; mend or remove it"):
        check_datasets(cfg)
    cfg.DATASETS.BROKEN_IMAGES = "ignore"
    with pytest.raises(ConfigError, match="DATASETS.BROKEN_IMAGES: unknown name 'ignore'"):
        check_datasets(cfg)
    for name in ("a.jpg", "deep/er/b.jpg"):
        Path(files[1], name).write_bytes(b"")
    with pytest.raises(DataError, match="none of its 3 images can be read, the first: .*b.jpg"):
        check_files(files)


# ---- All data sets together


def _rename(data: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    data["categories"] = [{"id": key, "name": name} for key, name in names.items()]
    return data


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            {2: "cat", 7: "hen"},
            "wanted 2 classes, got 2; only in the first: 'dog'; only in the second: 'hen'",
        ),
        (
            {2: "cat", 7: "dog", 8: "hen"},
            "wanted 2 classes, got 3; only in the first: none; only in the second: 'hen'",
        ),
        (
            {2: "dog", 7: "cat"},
            "the same names in another order of ids, class 0 is 'cat' and 'dog'",
        ),
    ],
)
def test_check_compares_the_classes_of_training_and_test(
    tmp_path: Path, names: dict[int, str], sentence: str
) -> None:
    train = write_files(tmp_path, make_coco(), "train")
    test = write_files(tmp_path, _rename(make_coco(), names), "test")
    with pytest.raises(
        DataError,
        match=r"classes of data sets '.*/train' and '.*/test' differ: " + re.escape(sentence),
    ):
        check_files(train, test)


def test_classes_of_every_set_are_listed_and_compared(tmp_path: Path) -> None:
    """Also of a set that Detectron2 has not loaded yet, and so knows no classes of."""
    names = []
    for i, categories in enumerate(
        [{2: "cat", 7: "dog"}, {2: "cat", 7: "dog"}, {2: "dog", 7: "cat"}]
    ):
        name = f"{tmp_path.name}_{i}"
        json_file, images = write_files(tmp_path, _rename(make_coco(), categories), f"set_{i}")
        register_coco_instances(name, {}, json_file, images)
        names.append(name)
    assert list_classes([]) == list_classes(["unknown"]) == []
    assert list_classes(["unknown", *names[:2]]) == ["cat", "dog"]
    with pytest.raises(DataError, match="the same names in another order of ids, class 0"):
        list_classes(names)


@pytest.mark.parametrize(
    ("architecture", "key"),
    [
        ("GeneralizedRCNN", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("RetinaNet", "MODEL.RETINANET.NUM_CLASSES"),
    ],
)
def test_check_compares_the_head_with_the_categories(
    tmp_path: Path, architecture: str, key: str
) -> None:
    cfg = make_config(write_files(tmp_path / "pets", make_coco()))
    register_config_datasets(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    check_datasets(cfg)
    cfg.merge_from_list([key, 80])
    wanted = f"{key}: wanted 2, the number of categories of data set 'pets/boxes', got 80; set "
    with pytest.raises(DataError, match=wanted):
        check_datasets(cfg)
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"  # has no classes
    check_datasets(cfg)


def test_check_compares_the_json_with_what_is_registered(tmp_path: Path) -> None:
    json_file, images = write_files(tmp_path, make_coco())
    register_coco_instances("named", {"thing_classes": ["cat", "cow"]}, json_file, images)
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("named",)
    with pytest.raises(DataError, match="only in the first: 'cow'; only in the second: 'dog'"):
        check_datasets(cfg)
    ids = {"thing_dataset_id_to_contiguous_id": {1: 0, 2: 1}}
    register_coco_instances("numbered", ids, json_file, images)
    cfg.DATASETS.TRAIN = ("numbered",)
    with pytest.raises(DataError, match=r"registered with: wanted \[1, 2\], got \[2, 7\]"):
        check_datasets(cfg)


# ---- Real data


def test_check_passes_blood_cells(reference_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = reference_data / "bccd"
    images = str(folder / "BCCD" / "JPEGImages")
    train, test = (str(folder / f"coco_json/instances_{s}.json") for s in ("train", "val"))
    with caplog.at_level(logging.INFO):
        check_files((train, images), (test, images))
    assert "set coco_json/instances_train: 205 images, 2804 boxes, 3 classes" in caplog.text
    assert "set coco_json/instances_val: 87 images, 1137 boxes, 3 classes" in caplog.text


def test_check_finds_coco_in_detectron2s_own_folder(
    reference_data: Path, repository: Path, tmp_path: Path
) -> None:
    """In a process of its own: Detectron2 reads the variable when it is imported."""
    (tmp_path / "coco").symlink_to(reference_data.resolve() / "coco_small")
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "from nasnet_det.detection.config import get_config\n"
        "from nasnet_det.data.error import DataError\n"
        "from nasnet_det.detection.datasets import check_datasets\n"
        "names = ['DATASETS.TRAIN', '(\"coco_2017_train\",)', 'DATASETS.TEST', "
        "'(\"coco_2017_val\",)']\n"
        "check_datasets(get_config(opts=names))\n"
        "try: check_datasets(get_config(opts=[*names, 'MODEL.ROI_HEADS.NUM_CLASSES', '3']))\n"
        "except DataError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "DETECTRON2_DATASETS": str(tmp_path), "PYTHONPATH": str(repository)},
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "coco_2017_train: 208 images, 1644 boxes, 80 classes, " in done.stdout
    assert "crowd boxes, 2 images without boxes" in done.stdout
    assert "coco_2017_val: 158 images, 1424 boxes, 80 classes, " in done.stdout
    assert "MODEL.ROI_HEADS.NUM_CLASSES: wanted 80, the number" in done.stdout


# ---- Other formats than COCO's


def test_voc_folder_is_a_data_set_as_a_json_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = {"a": [("cat", 1, 1, 60, 40), ("dog", 11, 6, 30, 40)], "b": [("cat", 3, 4, 9, 9)]}
    folder = write_voc_folder(tmp_path, objects, train="a", val="b")
    cfg = make_config((str(folder), ""), (str(folder), ""))
    with caplog.at_level(logging.INFO):
        register_config_datasets(cfg)
        check_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("voc/train",), ("voc/val",))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert "data set voc/train: 1 images, 2 boxes, 2 classes, 0 crowd boxes" in caplog.text
    assert "data set voc/val: 1 images, 1 boxes, 2 classes" in caplog.text
    (record,) = DatasetCatalog.get("voc/train")
    assert record["file_name"] == str(folder / "JPEGImages/a.jpg")
    assert (record["width"], record["height"]) == (60, 40)
    assert [a["bbox"] for a in record["annotations"]] == [[0, 0, 60, 40], [10, 5, 20, 35]]
    Image.new("RGB", (50, 40)).save(folder / "JPEGImages/b.jpg")
    with pytest.raises(DataError, match=r"data set 'voc/val' .* b.jpg is 50x40"):
        check_datasets(cfg)
    (folder / "Annotations/b.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"1 faults in 2 XML files: b.xml"):
        check_datasets(cfg)


def test_yolo_is_a_data_set_as_a_json_is(tmp_path: Path) -> None:
    write_pictures_of(make_coco(), tmp_path / "pets/images")
    (tmp_path / "pets/labels").mkdir()
    (tmp_path / "pets/labels/a.txt").write_text("1 0.5 0.5 0.5 0.5")
    yaml = tmp_path / "pets/data.yaml"
    yaml.write_text("train: images\nval: images\nnames: [cat, dog]\n")
    cfg = make_config((str(yaml), ""), (str(yaml), ""))
    register_config_datasets(cfg)
    check_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("pets/train",), ("pets/val",))
    (record,) = get_detection_dataset_dicts(cfg.DATASETS.TRAIN)
    assert [a["bbox"] for a in record["annotations"]] == [[25, 20, 50, 40]]


def test_split_of_a_folder_is_named_after_a_hash(tmp_path: Path) -> None:
    objects = {"a": [("cat", 1, 1, 60, 40)], "b": [("cat", 3, 4, 9, 9)]}
    folder = write_voc_folder(tmp_path, objects, train="a", extra="b")
    cfg = make_config((f"{folder}#extra", str(folder / "JPEGImages")))
    register_config_datasets(cfg)
    assert cfg.DATASETS.TRAIN == ("voc/extra",)
    assert [Path(r["file_name"]).name for r in DatasetCatalog.get("voc/extra")] == ["b.jpg"]
    with pytest.raises(DataError, match="VOC2020: there is no such file or folder"):
        register_config_datasets(make_config((str(tmp_path / "VOC2020"), "")))
    with pytest.raises(DataError, match="wanted a split for an evaluation, got extra, train"):
        register_config_datasets(make_config(test=(str(folder), "")))
