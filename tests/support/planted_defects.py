"""Defects that are planted in copies of data sets, and what ``doctor`` has to say about each."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Json = dict[str, Any]
Found = tuple[str, str, list[Any]]
"""Where a finding is (``train`` or ``val``), its kind, and its ids."""


@dataclass
class Copy:
    """A copy of a training and a test set, whose files may be changed.

    Attributes:
        folder: with ``train.json``, ``val.json`` and a folder of pictures for each.
        train, val: the content of the JSONs, which :meth:`write` writes.
    """

    folder: Path
    train: Json
    val: Json

    def get_path(self, split: str, image: Json) -> Path:
        return self.folder / split / image["file_name"]

    def replace(self, split: str, image: Json, content: bytes) -> None:
        path = self.get_path(split, image)
        path.unlink()  # it may be a link to the real one
        path.write_bytes(content)

    def write(self) -> None:
        for split in ("train", "val"):
            (self.folder / f"{split}.json").write_text(json.dumps(getattr(self, split)))

    def list_words(self) -> list[str]:
        """The arguments of ``nasnet-det doctor``."""
        words = []
        for split in ("train", "val"):
            place = self.folder / split
            words += [f"--{split}", f"{place}.json", str(place)]
        return words


def copy_sets(folder: Path, sets: dict[str, tuple[Json, Path]]) -> Copy:
    """A copy of ``train`` and ``val`` (content of the JSON, folder), whose pictures are links."""
    for split, (data, images) in sets.items():
        for image in data["images"]:
            path = folder / split / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(images / image["file_name"])
    return Copy(folder, *(copy.deepcopy(sets[split][0]) for split in ("train", "val")))


def make_tiny_sets(folder: Path) -> dict[str, tuple[Json, Path]]:
    """Six and three clean pictures of 96x64, of noise in coarse squares, with ten boxes a class."""
    generator = np.random.default_rng(0)
    sets = {}
    for split, number in (("train", 6), ("val", 3)):
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for key in range(1, number + 1):
            name = f"{split}_{key}.png"
            squares = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
            Image.fromarray(squares.repeat(8, 0).repeat(8, 1)).save(folder / split / name)
            images.append({"id": key, "file_name": name, "width": 96, "height": 64})
            for place in range(4):
                box = [4 + 22 * place, 5 + 3 * place + key, 18, 20]
                fields = {"id": 100 * key + place, "image_id": key, "category_id": 1 + place % 2}
                annotations.append({**fields, "bbox": box, "area": 300 + key, "iscrowd": 0})
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        data = {"images": images, "annotations": annotations, "categories": categories}
        sets[split] = data, folder / split
    return sets


# ---- What is planted where


def _choose_box(data: Json, number: int = 0) -> Json:
    """A plain box, of a picture that lies well inside."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}

    def is_plain(annotation: Json) -> bool:
        x, y, width, height = annotation["bbox"]
        right, low = sizes[annotation["image_id"]]
        is_inside = x > 2 and y > 2 and x + width < right - 2 and y + height < low - 2
        return is_inside and not annotation.get("iscrowd") and min(width, height) > 8

    return [a for a in data["annotations"] if is_plain(a)][number]


def _find_image(data: Json, annotation: Json) -> Json:
    return next(i for i in data["images"] if i["id"] == annotation["image_id"])


def _add_annotation(data: Json, like: Json, **changes: Any) -> Json:
    key = max(a["id"] for a in data["annotations"]) + 1
    data["annotations"].append({**like, "id": key, **changes})
    return data["annotations"][-1]


def _change_box(box: Callable[[list[float]], list[Any]], kind: str) -> Callable[[Copy], Found]:
    def plant(sets: Copy) -> Found:
        annotation = _choose_box(sets.train)
        annotation["bbox"] = box(annotation["bbox"])
        annotation["area"] = 0
        return "train", kind, [annotation["id"]]

    return plant


def _change_annotation(kind: str, **changes: Any) -> Callable[[Copy], Found]:
    def plant(sets: Copy) -> Found:
        annotation = _choose_box(sets.train)
        annotation.update(changes)
        return "train", kind, [annotation["id"]]

    return plant


def _write_file(kind: str, change: Callable[[bytes], bytes]) -> Callable[[Copy], Found]:
    def plant(sets: Copy) -> Found:
        image = _find_image(sets.train, _choose_box(sets.train))
        sets.replace("train", image, change(sets.get_path("train", image).read_bytes()))
        return "train", kind, [image["id"]]

    return plant


def miss_picture(sets: Copy) -> Found:
    image = sets.train["images"][1]
    sets.get_path("train", image).unlink()
    return "train", "missing_picture", [image["id"]]


def capitalize_name(sets: Copy) -> Found:
    image = sets.train["images"][1]
    path = sets.get_path("train", image)
    path.rename(path.with_name(path.name.swapcase()))
    return "train", "missing_picture", [image["id"]]


def claim_other_size(sets: Copy) -> Found:
    image = _find_image(sets.train, _choose_box(sets.train))
    image["width"] += 10
    return "train", "other_size", [image["id"]]


def _save(picture: Image.Image, path: Path, **options: Any) -> bytes:
    content = io.BytesIO()
    kind = {".png": "PNG"}.get(path.suffix.lower(), "JPEG")
    picture.save(content, kind, **options)
    return content.getvalue()


def turn_by_exif(sets: Copy) -> Found:
    annotation = next(
        a
        for a in sets.train["annotations"]
        if _find_image(sets.train, a)["width"] != _find_image(sets.train, a)["height"]
    )
    image = _find_image(sets.train, annotation)
    path = sets.get_path("train", image)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as picture:
        sets.replace("train", image, _save(picture.convert("RGB"), path, exif=exif))
    return "train", "turned_by_exif", [image["id"]]


def mirror_by_exif(sets: Copy) -> Found:
    image = _find_image(sets.train, _choose_box(sets.train))
    path = sets.get_path("train", image)
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(path) as picture:
        sets.replace("train", image, _save(picture.convert("RGB"), path, exif=exif))
    return "train", "turned_picture", [image["id"]]


def forget_size(sets: Copy) -> Found:
    image = _find_image(sets.train, _choose_box(sets.train))
    del image["height"]
    return "train", "missing_size", [image["id"]]


def _add_image(data: Json, like: Json, name: str) -> Json:
    key = max(image["id"] for image in data["images"]) + 1
    data["images"].append({**like, "id": key, "file_name": name})
    box = next(a for a in data["annotations"] if not a.get("iscrowd"))
    new = {"image_id": key, "bbox": [4, 5, 12, 12], "area": 144, "segmentation": []}
    _add_annotation(data, box, **new)
    return data["images"][-1]


def list_twice(sets: Copy) -> Found:
    image = sets.train["images"][0]
    new = _add_image(sets.train, image, image["file_name"])
    return "train", "listed_twice", [new["id"]]


def copy_picture(sets: Copy) -> Found:
    image = sets.train["images"][0]
    content = sets.get_path("train", image).read_bytes()
    new = _add_image(sets.train, image, "copy" + Path(image["file_name"]).suffix)
    (sets.folder / "train" / new["file_name"]).write_bytes(content)
    return "train", "duplicate", [new["id"]]


def copy_into_val(sets: Copy) -> Found:
    image = sets.train["images"][0]
    content = sets.get_path("train", image).read_bytes()
    new = _add_image(sets.val, image, "copy" + Path(image["file_name"]).suffix)
    (sets.folder / "val" / new["file_name"]).write_bytes(content)
    return "val", "leak", [new["id"]]


def shrink_into_val(sets: Copy) -> Found:
    image = sets.train["images"][0]
    new = _add_image(sets.val, image, "small.jpg")
    new["width"], new["height"] = (side * 3 // 4 for side in (image["width"], image["height"]))
    with Image.open(sets.get_path("train", image)) as picture:
        small = picture.convert("RGB").resize((new["width"], new["height"]))
        small.save(sets.folder / "val" / "small.jpg", quality=60)
    return "val", "near_leak", [new["id"]]


def repeat_box(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    x, y, width, height = annotation["bbox"]
    new = _add_annotation(sets.train, annotation, bbox=[x, y, 1.02 * width, height])
    return "train", "near_duplicate_box", [new["id"]]


def classify_twice(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    others = [c["id"] for c in sets.train["categories"] if c["id"] != annotation["category_id"]]
    new = _add_annotation(sets.train, annotation, category_id=others[0])
    return "train", "two_classes", [new["id"]]


def repeat_id(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    _add_annotation(sets.train, annotation, id=annotation["id"], bbox=[3, 3, 9, 9])
    return "train", "annotations.id", [annotation["id"]]


def repeat_image_id(sets: Copy) -> Found:
    image = sets.train["images"][0]
    sets.train["images"].append({**sets.train["images"][1], "id": image["id"]})
    return "train", "images.id", [image["id"]]


def add_class(sets: Copy) -> Found:
    key = max(c["id"] for c in sets.train["categories"]) + 1
    for data in (sets.train, sets.val):
        data["categories"].append({"id": key, "name": "nothing"})
    return "train", "class_without_objects", [key]


def make_class_rare(sets: Copy) -> Found:
    key = max(c["id"] for c in sets.train["categories"]) + 1
    for data in (sets.train, sets.val):
        data["categories"].append({"id": key, "name": "rare"})
    _choose_box(sets.train)["category_id"] = key
    return "train", "few_objects", [key]


def spell_class_in_two_ways(sets: Copy) -> Found:
    category = sets.train["categories"][0]
    key = max(c["id"] for c in sets.train["categories"]) + 1
    for data in (sets.train, sets.val):
        data["categories"].append({"id": key, "name": f" {category['name'].upper()}"})
    for number in range(10):
        _add_annotation(sets.train, _choose_box(sets.train, number), category_id=key)
        sets.train["annotations"][-1].update(bbox=[1 + number, 1, 8, 8], area=60)
    return "train", "alike_names", sorted([category["id"], key])


def swap_classes(sets: Copy) -> Found:
    first, second = sets.val["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    return "val", "other_classes", sorted(c["id"] for c in sets.val["categories"])


def number_from_0(sets: Copy) -> Found:
    _choose_box(sets.val)["id"] = 0
    return "val", "id_0", [0]


def crowd_picture(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    for number in range(101):
        box = [number % 20 * 4, number // 20 * 4, 3, 3]
        _add_annotation(sets.train, annotation, bbox=box, area=9)
    return "train", "many_boxes", [annotation["image_id"]]


def leave_window_names(sets: Copy) -> Found:
    image = sets.train["images"][0]
    path = sets.get_path("train", image)
    (path.parent / "deep").mkdir()
    path.rename(path.parent / "deep" / path.name)
    image["file_name"] = f"deep\\{path.name}"
    return "train", "back_slashes", [image["id"]]


def exceed_area(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    width, height = annotation["bbox"][2:]
    annotation["area"] = 3 * width * height
    return "train", "wrong_area", [annotation["id"]]


def forget_area(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    del annotation["area"]
    return "train", "missing_area", [annotation["id"]]


def leave_picture(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    image = _find_image(sets.train, annotation)
    annotation["bbox"] = [image["width"] - 20, 4, 50, 20]
    annotation["area"] = 100
    return "train", "clipped_box", [annotation["id"]]


def lie_outside(sets: Copy) -> Found:
    annotation = _choose_box(sets.train)
    image = _find_image(sets.train, annotation)
    annotation["bbox"] = [image["width"] + 20, 4, 50, 20]
    annotation["area"] = 0
    return "train", "outside_box", [annotation["id"]]


def forget_in_json(sets: Copy) -> Found:
    image = _find_image(sets.train, _choose_box(sets.train))
    content = _save(Image.new("RGB", (50, 40), "red"), Path("x.png"))
    (sets.folder / "train" / "unlisted.png").write_bytes(content)
    assert image
    return "train", "unlisted_picture", []


PLANTED: dict[str, Callable[[Copy], Found]] = {
    "a picture is missing": miss_picture,
    "a name has other capitals": capitalize_name,
    "a picture is cut off": _write_file("broken_picture", lambda data: data[: len(data) * 2 // 3]),
    "a picture is empty": _write_file("broken_picture", lambda _: b""),
    "a picture is a page": _write_file("broken_picture", lambda _: b"<html>404</html>"),
    "a picture has another size": claim_other_size,
    "a picture is turned": turn_by_exif,
    "a picture stands on its head": mirror_by_exif,
    "a size is missing": forget_size,
    "a picture is listed twice": list_twice,
    "a picture is copied": copy_picture,
    "a picture is in val too": copy_into_val,
    "a smaller picture is in val too": shrink_into_val,
    "a picture is in no JSON": forget_in_json,
    "a box has no width": _change_box(lambda b: [b[0], b[1], 0, b[3]], "box_without_size"),
    "a box has a negative width": _change_box(lambda b: [*b[:2], -5, b[3]], "annotations.bbox"),
    "a box is not finite": _change_box(lambda b: [float("nan"), *b[1:]], "annotations.bbox"),
    "a box has three numbers": _change_box(lambda b: b[:3], "annotations.bbox"),
    "a box has texts": _change_box(lambda b: list(map(str, b)), "annotations.bbox"),
    "a box is a line": _change_box(lambda b: [*b[:3], 1], "tiny_box"),
    "a box leaves its picture": leave_picture,
    "a box lies outside": lie_outside,
    "a box is there twice": repeat_box,
    "a box has two classes": classify_twice,
    "a picture has 100 boxes": crowd_picture,
    "an annotation's id comes twice": repeat_id,
    "an image's id comes twice": repeat_image_id,
    "an image is unknown": _change_annotation("annotations.image_id", image_id=10**9),
    "a category is unknown": _change_annotation("annotations.category_id", category_id=10**6),
    "a crowd is a text": _change_annotation("annotations.iscrowd", iscrowd="0"),
    "an area is missing": forget_area,
    "an area exceeds its box": exceed_area,
    "an id is 0": number_from_0,
    "a class has no objects": add_class,
    "a class is rare": make_class_rare,
    "a class has two names": spell_class_in_two_ways,
    "classes are exchanged": swap_classes,
    "names are of Windows": leave_window_names,
}


def link_real_sets(folder: Path, name: str) -> dict[str, tuple[Json, Path]]:
    """The sets of the folder of real data."""
    place = folder / name
    if name == "bccd":
        files = {
            split: (place / "coco_json" / f"instances_{split}.json", place / "BCCD" / "JPEGImages")
            for split in ("train", "val")
        }
    else:
        files = {
            split: (place / "annotations" / f"instances_{split}2017.json", place / f"{split}2017")
            for split in ("train", "val")
        }
    return {split: (json.loads(file.read_text()), root) for split, (file, root) in files.items()}
