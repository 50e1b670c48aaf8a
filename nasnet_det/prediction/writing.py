"""Pictures and videos through a detector: what it found as COCO's JSON, and drawn."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nasnet_det.data.video import import_av
from nasnet_det.errors import InputError
from nasnet_det.prediction.folder import PredictionFolder
from nasnet_det.prediction.sources import Shot, find_ids, find_sources, read_frames, read_pictures
from nasnet_det.runs.signals import stop_on_sigterm
from nasnet_det.runtime.detections import Detections, Finder

MAX_RATE = 1000  # frames a second

logger = logging.getLogger(__name__)


class Predicted(NamedTuple):
    """What :func:`write_predictions` did.

    Attributes:
        num_pictures: that it looked at.
        unreadable: why it could not look at others, or not draw them, one sentence each.
    """

    num_pictures: int
    unreadable: list[str]


def write_predictions(
    open_finder: Callable[[], Finder],
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    threshold: float = 0.5,
    frames_per_second: float = 0.0,
    json_file: str = "",
    with_fiftyone: bool = False,
    on_picture: Callable[[Path], object] = lambda _: None,
) -> Predicted:
    """Find objects in pictures and videos.

    No input is written over, whatever the folders are. A picture that can't be used is named, and
    the others are done. ``predictions.json`` is written in the end, of Ctrl-C and SIGTERM too.

    Args:
        open_finder: gives the detector, once inputs and output are found to be good.
        inputs: pictures, folders with pictures in them, and videos.
        output: a folder, which is made. It gets each picture and video with the boxes drawn, and
            predictions.json in COCO's format with all scores.
        threshold: of the score, 0 to 1, for drawing.
        frames_per_second: if above 0, pictures are the frames of one video, in their order.
        json_file: a COCO JSON whose ids the pictures keep; without one they are numbered from 1.
        with_fiftyone: write what was found as a FiftyOne dataset, too; pictures alone.
        on_picture: is told each one before it is read.

    Raises:
        InputError: there is no picture, or the detector or the folder can't be used.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold of the score: wanted 0 to 1, got {threshold}")
    if not 0 <= frames_per_second <= MAX_RATE:
        raise InputError(f"frames per second: wanted 0 to {MAX_RATE}, got {frames_per_second}")
    if json_file and frames_per_second:
        raise InputError(f"{json_file}: wanted pictures, as frames of a video have no ids")
    if frames_per_second:
        import_av()
    pictures, videos = find_sources(inputs, output)
    ids = find_ids(json_file, inputs, [*pictures, *videos]) if json_file else {}
    folder = PredictionFolder(output)
    finder = open_finder()
    work = _Prediction(finder, folder, threshold)
    try:
        with stop_on_sigterm("predictions.json has what was found so far"):
            shots = read_pictures(pictures, on_picture, work.faults, ids)
            if frames_per_second and pictures:
                frames = (
                    shot._replace(time_s=i / frames_per_second) for i, shot in enumerate(shots)
                )
                work.film(_name_frames(inputs), frames)
            else:
                work.look_at(shots, work.draw_picture)
            for video in videos:
                on_picture(video)
                work.film(video, read_frames(video, work.faults))
    finally:
        folder.write(finder.categories, weights=finder.name)
        if with_fiftyone:
            folder.write_fiftyone(finder.categories, weights=finder.name)
    work.raise_if_all_failed()
    return Predicted(len(folder.images), work.faults)


class _Prediction:
    """What happens to each picture.

    Attributes:
        faults: sentences about pictures that could not be looked at, or drawn.
    """

    def __init__(self, finder: Finder, folder: PredictionFolder, threshold: float) -> None:
        self.finder, self.folder, self.threshold = finder, folder, threshold
        self.faults: list[str] = []
        self._error: Exception | None = None  # the first that is no fault of a file

    def look_at(self, shots: Iterator[Shot], draw: Callable[[Shot, np.ndarray], str]) -> None:
        """Find, draw and take in what is in pictures.

        Args:
            shots: the pictures.
            draw: gets each with its boxes and returns the name of the file that shows them.
        """
        while batch := list(itertools.islice(shots, self.finder.batch_size)):
            for shot, found in zip(batch, self._find(batch), strict=True):
                if found is not None:
                    self._take(shot, found, draw)

    def draw_picture(self, shot: Shot, drawn: np.ndarray) -> str:
        """Write a picture of its own."""
        name = self.folder.choose_name(shot.path)
        self.folder.write_drawing(name, drawn)
        return name

    def film(self, source: Path, shots: Iterator[Shot]) -> None:
        """As :meth:`look_at`, and the pictures become a video."""
        name = self.folder.choose_name(source, ".mp4")
        with contextlib.closing(self.folder.start_video(name)) as video:

            def draw(shot: Shot, drawn: np.ndarray) -> str:
                video.write(drawn, shot.time_s)
                return name

            self.look_at(shots, draw)

    def _find(self, shots: Sequence[Shot]) -> list[Detections | None]:
        """Objects in each; None where that fails, and one picture's failure is its own."""
        try:
            return [*self.finder.detect([shot.pixels for shot in shots])]
        except Exception as error:  # as of a picture that is too large for the memory
            if len(shots) > 1:
                return [one for shot in shots for one in self._find([shot])]
            self._error = self._error or error
            self.faults.append(f"{shots[0].name}: nothing could be found in it: {_words(error)}")
            logger.debug("%s", shots[0].name, exc_info=True)
            return [None]

    def _take(self, shot: Shot, found: Detections, draw: Callable[[Shot, np.ndarray], str]) -> None:
        height, width = shot.pixels.shape[:2]
        entry = {"id": len(self.folder.images) + 1, **shot.about, "width": width, "height": height}
        try:
            shown = found[found.scores >= self.threshold]
            entry["drawn"] = draw(shot, shown.draw(shot.pixels))
        except Exception as error:  # what was found is kept all the same
            self.faults.append(f"{shot.name} is not drawn: {_words(error)}")
        self.folder.add(entry, found.to_coco(entry["id"]))

    def raise_if_all_failed(self) -> None:
        """Raise the error of the first picture where none could be looked at.

        Then it is not the picture that is wrong.
        """
        if self._error is not None and not self.folder.images:
            raise self._error


def _words(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"


def _name_frames(inputs: Sequence[str | os.PathLike[str]]) -> Path:
    """What a video of pictures is called after: their folder."""
    first = Path(inputs[0]).resolve()
    return first if first.is_dir() else first.parent
