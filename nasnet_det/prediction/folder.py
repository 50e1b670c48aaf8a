"""The folder with what was found: pictures and videos with boxes, and ``predictions.json``.

Nothing in it is replaced but what an earlier prediction has put there. What is drawn carries
:data:`MARK`, so it is known again: it may be replaced, and is never taken for an input.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nasnet_det.data.fiftyone_dataset import PREDICTIONS as FOUND
from nasnet_det.data.fiftyone_dataset import Box, Sample, write_fiftyone
from nasnet_det.data.video import VideoWriter, read_comment
from nasnet_det.errors import InputError
from nasnet_det.runs.files import FileError, shorten_name, write_content

PREDICTIONS = "predictions.json"
MARK = "nasnet-det predict"  # "Software" of a picture, "comment" of a video


class PredictionFolder:
    """A folder for what is found; it is made when something is written.

    Args:
        path: of the folder.

    Raises:
        InputError: there is a ``predictions.json`` that no prediction has written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._taken: set[str] = set()
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output {self.path}: wanted a folder, got a file")
        old = self.path / PREDICTIONS
        if os.path.lexists(old) and not _is_prediction(old):
            raise InputError(
                f"{old} is there and was not written by a prediction; move it, or give another "
                "folder"
            )
        if self.path.is_dir():
            self._taken = {
                name.casefold() for name in os.listdir(self.path) if not is_drawn(self.path / name)
            }

    def choose_name(self, source: Path, suffix: str = ".png") -> str:
        """A free name: ``photo.png``, or ``photo_2.png`` where something else is called so."""
        stem = shorten_name(source.stem) or "picture"
        number = 1
        while (name := f"{stem}{'' if number == 1 else f'_{number}'}{suffix}").casefold() in (
            self._taken
        ):
            number += 1
        self._taken.add(name.casefold())
        return name

    def write_drawing(self, name: str, drawn: np.ndarray) -> None:
        """Write a picture (H, W, 3).

        Raises:
            FileError: it can't be written.
        """
        info = PngInfo()
        info.add_text("Software", MARK)
        file = io.BytesIO()
        Image.fromarray(drawn).save(file, "PNG", pnginfo=info)
        self._make()
        write_content(self.path / name, file.getvalue())

    def start_video(self, name: str) -> VideoWriter:
        """A video to which pictures can be added."""
        self._make()
        return VideoWriter(self.path / name, comment=MARK)

    def add(self, image: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> None:
        """Take in what was found in an image; ids of annotations are counted."""
        start = len(self.annotations) + 1
        self.images.append(image)
        self.annotations += [{"id": start + i, **one} for i, one in enumerate(annotations)]

    def write(self, categories: Sequence[dict[str, Any]], **info: Any) -> None:
        """Write ``predictions.json`` with all that was taken in.

        Raises:
            FileError: it can't be written.
        """
        content = {
            "info": {"written_by": MARK, **info},
            "images": self.images,
            "annotations": self.annotations,
            "categories": list(categories),
        }
        self._make()
        write_content(self.path / PREDICTIONS, json.dumps(content))

    def write_fiftyone(self, categories: Sequence[dict[str, Any]], **info: Any) -> None:
        """Write the folder ``fiftyone`` with what was found in pictures, not in frames of videos.

        Raises:
            FileError: it can't be written.
        """
        names = {category["id"]: category["name"] for category in categories}
        boxes: dict[Any, list[Box]] = {}
        for one in self.annotations:
            box = Box(names[one["category_id"]], one["bbox"], one["score"])
            boxes.setdefault(one["image_id"], []).append(box)
        pictures = [image for image in self.images if "frame" not in image]
        samples = (
            Sample(
                Path(image["file_name"]),
                (image["width"], image["height"]),
                {FOUND: boxes.get(image["id"], [])},
            )
            for image in pictures
        )
        name = self.path.resolve().name
        about = {"written_by": MARK, **info}
        write_fiftyone(
            self.path / "fiftyone", samples, name=name, classes=list(names.values()), **about
        )

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self.path} can't be made ({error.strerror})") from None


def leave_out_drawn(paths: Iterable[Path], folder: str | os.PathLike[str]) -> list[Path]:
    """The paths without the pictures that earlier predictions have drawn in a folder."""
    place = os.path.realpath(folder)
    return [path for path in paths if os.path.realpath(path.parent) != place or not is_drawn(path)]


def is_drawn(path: Path) -> bool:
    """Whether a file is a picture or a video that a prediction has drawn."""
    if path.is_symlink():
        return False
    if path.suffix == ".mp4":
        return read_comment(path) == MARK
    if path.suffix != ".png":
        return False
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == MARK
    except Exception:  # as of any broken picture
        return False


def _is_prediction(path: Path) -> bool:
    try:
        info = json.loads(path.read_text(encoding="utf-8"))["info"]
        return not path.is_symlink() and "weights" in info
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
