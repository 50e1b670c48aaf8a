"""YOLO's ``data.yaml``: the names of the classes, and where pictures are."""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

from nasnet_det.config import parse_yaml
from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import list_pictures

YAML = "data.yaml"


CLASS_LISTS = ("classes.txt", "labels/classes.txt", "obj.names")  # of labelImg and darknet
SPLITS = ("train", "val", "valid", "test")


class YoloFile:
    """A ``data.yaml``: its content, and where it points; or what a folder without one shows.

    Attributes:
        path: of the file, or of the folder.
        content: what is in it.
        root: the folder from which its paths start.
    """

    def __init__(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.isfile(os.path.join(path, YAML)):
            self.path, self.root = path, os.path.normpath(path)
            self.content: Any = _look_at_folder(path)
            return
        self.path = os.path.join(path, YAML) if os.path.isdir(path) else path
        try:
            text = Path(self.path).read_text(encoding="utf-8-sig")
            self.content = parse_yaml(text, self.path)
        except (OSError, ValueError) as error:
            raise DataError(" ".join(str(error).split())) from None
        if not isinstance(self.content, dict) or "names" not in self.content:
            raise DataError(
                f"{self.path}: wanted a YOLO data.yaml with names, train and val, got "
                f"{reprlib.repr(self.content):.80}"
            )
        folder = os.path.dirname(os.path.abspath(self.path))
        named = str(self.content.get("path") or "")
        # Relative to the YAML; ultralytics takes a folder of its settings, which others don't have.
        places = [os.path.join(folder, named), folder]
        self.root = next((place for place in places if os.path.isdir(place)), folder)
        self.root = os.path.normpath(self.root)

    def read_names(self) -> list[str]:
        """The classes in the order of their numbers, from a list or from numbers to names."""
        names = self.content["names"]
        if names is None:
            raise DataError(
                f"{self.path}: wanted a data.yaml or a classes.txt with the names of the classes, "
                "got none; name them with --classes"
            )
        if isinstance(names, dict):
            if set(names) != set(range(len(names))):
                got = reprlib.repr(list(names))
                raise DataError(f"{self.path}: names: wanted numbers from 0, got {got}")
            names = [names[number] for number in range(len(names))]
        is_list = isinstance(names, list) and all(isinstance(name, str | int) for name in names)
        if not is_list or not 0 < len(names) == len(set(map(str, names))):
            got = reprlib.repr(names)
            raise DataError(f"{self.path}: names: wanted different names, got {got}")
        count = self.content.get("nc", len(names))
        if count != len(names):
            raise DataError(f"{self.path}: nc: wanted {len(names)}, as many as names, got {count}")
        return list(map(str, names))

    def find(self, split: str) -> list[str]:
        """The folders and lists of a split that are there."""
        value = self.content.get(split)
        found = []
        for name in value if isinstance(value, list) else [value]:
            # Roboflow's start with ../ and are meant from the folder itself.
            tails = [str(name), str(name).removeprefix("../")]
            places = [os.path.normpath(os.path.join(self.root, tail)) for tail in tails]
            found += [place for place in places if name and os.path.exists(place)][:1]
        return found

    def list_pictures(self, split: str) -> list[str]:
        """The paths of a split's pictures.

        Raises:
            DataError: there are none.
        """
        places = self.find(split)
        pictures = [p for place in places for p in _list_place(place, self.root)]
        if not pictures:
            raise DataError(
                f"{self.path}: {split}: wanted a folder or a list of pictures, got "
                f"{reprlib.repr(self.content.get(split))}, where there are none"
            )
        return list(dict.fromkeys(pictures))


def is_yolo_folder(path: str) -> bool:
    """Whether a folder without a ``data.yaml`` has YOLO's texts by its names."""
    has_labels = all(os.path.isdir(os.path.join(path, name)) for name in ("images", "labels"))
    return has_labels or os.path.isfile(os.path.join(path, CLASS_LISTS[0]))


def _look_at_folder(path: str) -> dict[str, Any]:
    """What a ``data.yaml`` would say of a folder."""
    lists = [Path(path, name) for name in CLASS_LISTS]
    text = next((p.read_text("utf-8-sig", "replace") for p in lists if p.is_file()), None)
    names = None if text is None else [line.strip() for line in text.splitlines() if line.strip()]
    images = "images" if os.path.isdir(os.path.join(path, "images")) else "."
    splits = [name for name in SPLITS if os.path.isdir(os.path.join(path, images, name))]
    places = {name: f"{images}/{name}" for name in splits} or {"train": images}
    return {"names": names, **places}


def _list_place(place: str, root: str) -> list[str]:
    """The pictures of a folder, or of a list: from the root, or with ./ from the list itself."""
    if os.path.isdir(place):
        return list_pictures(place)
    lines = Path(place).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    starts = [os.path.dirname(place) if line.startswith("./") else root for line in lines]
    return [
        os.path.normpath(os.path.join(start, line.strip()))
        for start, line in zip(starts, lines, strict=True)
        if line.strip()
    ]
