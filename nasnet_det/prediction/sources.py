"""What a prediction looks at: pictures, folders of them, and videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nasnet_det.data.coco import read_coco
from nasnet_det.data.error import DataError
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_pixels
from nasnet_det.data.video import import_av, is_video, read_video
from nasnet_det.prediction.folder import leave_out_drawn


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


def find_ids(
    json_file: str, inputs: Sequence[str | os.PathLike[str]], pictures: Sequence[Path]
) -> dict[Path, Any]:
    """The ids that pictures have in a COCO JSON.

    Args:
        json_file: may be without annotations, as of COCO's test sets. Its names start from the
            folders of ``inputs``, or have none.
        inputs: that the pictures were found in.
        pictures: paths.

    Raises:
        DataError: it can't be read, or a picture has no id of its own in it.
    """
    coco = read_coco(json_file)
    known = dict(zip(coco.file_names, coco.image_ids, strict=True))
    roots = [Path(root) for root in inputs]
    ids: dict[Path, Any] = {}
    for path in pictures:
        names = [path.relative_to(root).as_posix() for root in roots if root in path.parents]
        name = next((name for name in [*names, path.name] if name in known), None)
        if name is not None:
            ids[path] = known[name]
    if missing := [path for path in pictures if path not in ids]:
        raise DataError(
            f"{json_file}: wanted the ids of {len(pictures)} pictures, but {len(missing)} are not "
            f"in it, the first: {missing[0]}"
        )
    if len(set(ids.values())) < len(ids):
        raise DataError(f"{json_file}: wanted an id for each picture, but two have the same name")
    return ids


def read_pictures(
    paths: Iterable[Path],
    on_picture: Callable[[Path], object],
    faults: list[str],
    ids: Mapping[Path, Any],
) -> Iterator[Shot]:
    """The pictures one by one; a sentence about each that can't be read goes into ``faults``."""
    for path in paths:
        on_picture(path)
        try:
            pixels = read_pixels(path)
        except DataError as error:
            faults.append(str(error))
            continue
        about = {"id": ids[path]} if path in ids else {}
        yield Shot(path, {**about, "file_name": str(path)}, pixels)


def read_frames(path: Path, faults: list[str]) -> Iterator[Shot]:
    """The frames of a video; a sentence about what can't be read goes into ``faults``."""
    try:
        for number, time_s, pixels in read_video(path):
            about = {"file_name": str(path), "frame": number, "time_s": round(time_s, 4)}
            yield Shot(path, about, pixels, time_s)
    except DataError as error:
        faults.append(str(error))
