"""What a prediction looks at: pictures, folders of them, and videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_pixels
from nasnet_det.data.video import import_av, is_video, read_video
from nasnet_det.detection.prediction_folder import leave_out_drawn


class Shot(NamedTuple):
    """A picture, or a frame of a video.

    Attributes:
        path: of the file.
        about: what ``predictions.json`` says about it beside its size.
        pixels: (H, W, 3) uint8, RGB.
        time_s: in a video.
    """

    path: Path
    about: dict[str, Any]
    pixels: np.ndarray
    time_s: float = 0.0

    @property
    def name(self) -> str:
        """For a message."""
        frame = f", frame {self.about['frame']}" if "frame" in self.about else ""
        return f"{self.path}{frame}"


def find_sources(
    inputs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> tuple[list[Path], list[Path]]:
    """Pictures and videos among files, and pictures in folders.

    What an earlier prediction has drawn in ``output`` is left out.

    Raises:
        DataError: one does not exist, or there is nothing to look at.
        MissingPackageError: there is a video, and PyAV is not installed.
    """
    videos = [path for path in map(Path, inputs) if path.is_file() and is_video(path)]
    others = [path for path in map(Path, inputs) if path not in videos]
    if videos:
        import_av()
    try:
        pictures = find_pictures(others) if others else []
    except DataError as error:
        beside = [name for path in others if path.is_dir() for name in os.listdir(path)]
        if clips := sorted(filter(is_video, beside)):
            raise DataError(f"{error}; a video ({clips[0]}) is given by its own name") from None
        raise
    kept = leave_out_drawn(pictures, output)
    if not kept and not videos:
        raise DataError(f"no pictures found but those that were drawn in {output}")
    return kept, videos


def read_pictures(
    paths: Iterable[Path], on_picture: Callable[[Path], object], faults: list[str]
) -> Iterator[Shot]:
    """The pictures one by one; a sentence about each that can't be read goes into ``faults``."""
    for path in paths:
        on_picture(path)
        try:
            pixels = read_pixels(path)
        except DataError as error:
            faults.append(str(error))
            continue
        yield Shot(path, {"file_name": str(path)}, pixels)


def read_frames(path: Path, faults: list[str]) -> Iterator[Shot]:
    """The frames of a video; a sentence about what can't be read goes into ``faults``."""
    try:
        for number, time_s, pixels in read_video(path):
            about = {"file_name": str(path), "frame": number, "time_s": round(time_s, 4)}
            yield Shot(path, about, pixels, time_s)
    except DataError as error:
        faults.append(str(error))
