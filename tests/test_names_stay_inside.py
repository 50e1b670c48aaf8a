"""Names that come from input: whatever they are, nothing is written outside of the output folder.

Where a name can't be used the right result is one sentence, as in test_hostile_input.py.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_voc import make_xml

from nasnet_det.data.conversion import convert_data
from nasnet_det.data.crops import crop_objects
from nasnet_det.data.splitting import split_data
from nasnet_det.doctor.contact_sheet import write_contact_sheet
from nasnet_det.doctor.datasets import DataFiles
from nasnet_det.errors import InputError
from nasnet_det.runs.files import PARTIAL, FileError, write_content

TARGETS = ("coco", "voc", "yolo", "labelme", "csv")
NAMES = (
    *("../x.jpg", "../../../x.jpg", "a/../../../x.jpg", "..", ".", "", "/", "./../x.jpg"),
    *("..\\..\\x.jpg", "a\\..\\..\\..\\x.jpg", "C:\\x.jpg", "\\\\server\\x.jpg", "~/x.jpg"),
    *("x\0.jpg", "\0/x.jpg", "../\0x.jpg", "\ud800.jpg", "\udcff/x.jpg", "x\n.jpg", "\u202ex.jpg"),
    *("y" * 300 + ".jpg", "猫" * 100 + ".jpg", "a/" * 300 + "x.jpg", "x." + "j" * 300, ".x.jpg"),
    *("x.jpg/y.jpg", "x.jpg", "X.JPG", "data.yaml", "report.json", "Annotations/x.xml"),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No log: what pytest's processes tell each other can't hold half of a character."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@contextmanager
def nothing_outside(root: Path, out: Path) -> Iterator[None]:
    """Of all files below ``root``, those outside of ``out`` stay as they are, and none comes."""

    def look() -> dict[str, Any]:
        return {
            str(path): path.read_bytes() if path.is_file() else "folder"
            for path in root.rglob("*")
            if path != out and out not in path.parents and path not in out.parents
        }

    before = look()
    try:
        yield
    except (InputError, OSError) as error:
        if not 0 < len(str(error)) < 20_000:
            raise AssertionError("no sentence") from error
    assert look() == before


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that is deep enough for every ``..`` of the names to be seen."""
    folder = tmp_path / "1/2/3/4"
    folder.mkdir(parents=True)
    (tmp_path / "1/x.jpg").write_text("mine")
    return folder


def write_picture(path: Path) -> None:
    """60x40, where the name can be one of a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), "red").save(path, "PNG")
    except (OSError, ValueError):
        pass


def write_coco(place: Path, names: tuple[str, ...], root: Path, classes: tuple[str, ...]) -> Path:
    """A COCO JSON with one object in each picture, and the pictures."""
    for name in names:
        if "x" in name or "y" in name:  # no folder
            write_picture(root / name.replace("\\", "/").lstrip("/"))
    content = {
        "images": [
            {"id": f"../{i}", "file_name": name, "width": 60, "height": 40}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {
                **{"id": f"../../{i}", "image_id": f"../{i}", "category_id": i % len(classes)},
                **{"bbox": [5, 5, 30, 20], "area": 600, "iscrowd": 0},
            }
            for i in range(len(names))
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
    }
    path = place / "instances_train.json"
    path.write_text(json.dumps(content))
    return path


def all_names(root: Path) -> tuple[str, ...]:
    return (*NAMES, str(root / "absolute.jpg"))


@pytest.mark.parametrize(("to", "how"), [("voc", "copy"), ("yolo", "link")])
def test_converted_from_coco(place: Path, tmp_path: Path, to: str, how: str) -> None:
    out = place / "out"
    for number, name in enumerate(all_names(tmp_path)):
        root = place / f"{number}/a/b/c"
        root.mkdir(parents=True)
        path = write_coco(place, (name,), root, ("cat",))
        with nothing_outside(tmp_path, out):
            convert_data([str(path)], out, to=to, images=str(root), pictures=how)
        for used in (out, place / str(number)):
            shutil.rmtree(used, ignore_errors=True)


@pytest.mark.parametrize("to", TARGETS)
def test_converted_from_coco_all_at_once(place: Path, tmp_path: Path, to: str) -> None:
    """Names that are like one another once they are safe stay apart."""
    root, out = place / "pictures/a/b/c", place / "out"
    path = write_coco(place, all_names(tmp_path), root, NAMES[:9])
    with nothing_outside(tmp_path, out):
        convert_data([str(path)], out, to=to, images=str(root))


def write_voc(place: Path, name: str) -> str:
    folder = place / "voc"
    write_picture(folder / "JPEGImages/a.jpg")
    (folder / "Annotations").mkdir(exist_ok=True)
    shown = "".join(c for c in name if c.isprintable()).replace("&", "")
    xml = make_xml([("../cat", 1, 1, 9, 9)], filename=shown)
    (folder / "Annotations/b.xml").write_text(xml, encoding="utf-8")
    return str(folder)


def write_labelme(place: Path, name: str) -> str:
    shape = {"label": "../cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    content = {"shapes": [shape], "imagePath": name, "imageHeight": 40, "imageWidth": 60}
    (place / "labelme/train").mkdir(parents=True, exist_ok=True)
    (place / "labelme/train/b.json").write_text(json.dumps(content))
    return str(place / "labelme")


def write_csv(place: Path, name: str) -> str:
    path = place / "..csv"
    row = json.dumps(name, ensure_ascii=False)
    text = f"filename,width,height,class,xmin,ymin,xmax,ymax\n{row},60,40,../cat,1,1,9,9\n"
    path.write_bytes(text.encode(errors="surrogatepass"))
    return str(path)


def write_yolo(place: Path, name: str) -> str:
    (place / "yolo").mkdir(exist_ok=True)
    name = "." if name == "/" else name  # which is a whole disk to look for pictures in
    write_picture(place / "yolo/images/a.jpg")
    content = {"path": name, "train": [name, "images"], "val": f"../{name}", "names": ["../cat"]}
    (place / "yolo/data.yaml").write_text(json.dumps(content))
    return str(place / "yolo/data.yaml")


@pytest.mark.parametrize("to", ["voc", "yolo"])
@pytest.mark.parametrize("write", [write_voc, write_labelme, write_csv, write_yolo])
def test_converted_from_other_formats(place: Path, tmp_path: Path, write: Any, to: str) -> None:
    for name in all_names(tmp_path):
        source = write(place, name)
        with nothing_outside(tmp_path, place / "out"):
            convert_data([source], place / "out", to=to)
        shutil.rmtree(place / "out", ignore_errors=True)


@pytest.mark.parametrize("to", TARGETS)
def test_split_is_named_after_a_folder_that_is_no_name(
    place: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(write_voc(place, "a.jpg")) / "Annotations"
    (source / "inner").mkdir()
    out = place / "out"
    for number, (where, name) in enumerate([(source, "."), (source / "inner", "..")]):
        monkeypatch.chdir(where)
        with nothing_outside(tmp_path, out):
            convert_data([name], out / str(number), to=to, images="../JPEGImages")
            written = [path.name for path in (out / str(number)).rglob("*") if path.is_file()]
            assert written
            assert not [found for found in written if found.startswith(".")]


def test_crops_and_splits(place: Path, tmp_path: Path) -> None:
    root, out = place / "pictures/a/b/c", place / "out"
    classes = (*(name for name in NAMES if name), "\U00020000" * 100, "..", "train", "CON")
    path = write_coco(place, all_names(tmp_path), root, tuple(dict.fromkeys(classes)))
    with nothing_outside(tmp_path, out / "crops"):
        made = crop_objects([str(path)], out / "crops", images=str(root), min_size=1)
        assert made["train"].counts.total() > 10
    with nothing_outside(tmp_path, out / "split"):
        split_data(str(path), out / "split", images=str(root))
        assert {p.name for p in (out / "split").iterdir()} == {"train.json", "val.json"}


def test_contact_sheet(place: Path, tmp_path: Path) -> None:
    root = place / "pictures/a/b/c"
    path = write_coco(place, all_names(tmp_path), root, NAMES[:9])
    out = place / "out"
    out.mkdir()
    with nothing_outside(tmp_path, out):
        write_contact_sheet(str(out / "sheet.jpg"), DataFiles(str(path), str(root)))
        assert (out / "sheet.jpg").is_file()
    (out / "link.jpg").symlink_to(place / "new.jpg")
    with nothing_outside(tmp_path, out), pytest.raises(FileError, match="is there already"):
        write_contact_sheet(str(out / "link.jpg"), DataFiles(str(path), str(root)))


def test_links_that_lie_in_the_output_folder(place: Path, tmp_path: Path) -> None:
    out, mine = place / "out", place / "mine.txt"
    out.mkdir()
    mine.write_text("mine")
    (out / "file").symlink_to(mine)
    (out / "other").symlink_to(place / "new")
    (out / f"third{PARTIAL}").symlink_to(mine)
    with nothing_outside(tmp_path, out):
        write_content(out / "file", "text")
        write_content(out / "other", "text")
    assert not (out / "file").is_symlink()
    assert (out / "other").read_text() == "text"
    with nothing_outside(tmp_path, out):
        write_content(out / "third", "text")
    assert mine.read_text() == "mine"


def test_pictures_and_videos_of_a_prediction(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("detectron2")
    from nasnet_det.prediction.folder import PREDICTIONS, PredictionFolder

    out = place / "out"
    out.mkdir()
    (out / "x.png").symlink_to(place / "new.png")
    (out / "y.mp4").symlink_to(tmp_path / "1/x.jpg")
    folder = PredictionFolder(out)
    names: list[str] = []
    with nothing_outside(tmp_path, out):
        for name in (name for name in all_names(tmp_path) if "\0" not in name):
            for suffix in (".png", ".mp4"):
                names.append(folder.choose_name(Path(name), suffix))
                assert os.path.dirname(out / names[-1]) == str(out)
            folder.write_drawing(names[-2], np.zeros((2, 2, 3), np.uint8))
        folder.write([])
    assert len({name.casefold() for name in names}) == len(names)
    assert not {"x.png", "y.mp4"} & set(names)
    (out / PREDICTIONS).unlink()
    (out / PREDICTIONS).symlink_to(tmp_path / "1/x.jpg")
    with pytest.raises(InputError, match="was not written by a prediction"):
        PredictionFolder(out)
