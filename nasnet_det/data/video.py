"""Videos as pictures one after the other, and pictures as a video; PyAV does it.

A frame is turned upright as the video says of itself, as phones do. Sound is neither read nor
written. A file is opened alone: a playlist or a link in it leads nowhere.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nasnet_det.data.error import DataError
from nasnet_det.errors import requires
from nasnet_det.runs.files import PARTIAL, FileError

SUFFIXES = frozenset(
    [".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"]
    + [".ogv", ".ts", ".webm", ".wmv"]
)
CODECS = ("libx264", "mpeg4")  # the first that is there
CLOCK = Fraction(1, 90_000)  # s, the unit of time of most videos
_NO_OTHER_FILES = {"protocol_whitelist": ""}


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        number: from 0.
        time_s: since the beginning.
        pixels: (H, W, 3) uint8, RGB.
    """

    number: int
    time_s: float
    pixels: np.ndarray


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends as those of videos do."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def read_video(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """The frames of a video.

    Raises:
        DataError: it is none, or broken from the next frame on.
        MissingPackageError: PyAV is not installed.
    """
    av = import_av()
    number = 0
    try:
        with open(path, "rb") as file, av.open(file, options=_NO_OTHER_FILES) as container:
            if not container.streams.video:
                raise DataError(f"{path}: wanted a video, got a file without pictures")
            stream = container.streams.video[0]
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 2**62)
            if stream.width * stream.height > limit:
                size = f"{stream.width} x {stream.height}"
                raise DataError(f"{path}: wanted at most {limit:,} pixels in a frame, got {size}")
            start = None
            for frame in container.decode(stream):
                time_s = float(frame.time if frame.time is not None else number / 25)
                start = time_s if start is None else start
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield Frame(number, time_s - start, np.ascontiguousarray(pixels))
                number += 1
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        where = f"after {number} frames" if number else "as a video"
        raise DataError(f"{path} can't be read {where}: {reason}") from None
    if not number:
        raise DataError(f"{path}: wanted a video, got one without frames")


def read_comment(path: str | os.PathLike[str]) -> str:
    """What a video says about itself; "" where it says nothing or can't be read."""
    try:
        av = import_av()
        with open(path, "rb") as file, av.open(file, options=_NO_OTHER_FILES) as container:
            return str(container.metadata.get("comment", ""))
    except Exception:  # as of any broken video
        return ""


def import_av() -> Any:
    """PyAV.

    Raises:
        MissingPackageError: it is not installed.
    """
    with requires("video"):
        import av
    return av


class VideoWriter:
    """Pictures as an MP4 whose name appears when it is whole, be it ended early.

    Args:
        path: of the video; replaced in the end.
        comment: what it says about itself.

    Raises:
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, path: Path, *, comment: str = "") -> None:
        self.path, self.comment = path, comment
        self._av = import_av()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, ...] = ()
        self._last = -1

    def write(self, pixels: np.ndarray, time_s: float) -> None:
        """Add a picture (H, W, 3), uint8, RGB, of the size of the first one.

        Raises:
            DataError: it has another size.
            FileError: it can't be written.
        """
        if self._container is None:
            self._open(pixels)
        if pixels.shape[:2] != self._size:
            (height, width), (now_height, now_width) = self._size, pixels.shape[:2]
            raise DataError(
                f"wanted the {width} x {height} pixels of the video's first frame, got "
                f"{now_width} x {now_height}"
            )
        rows, columns = (side % 2 for side in self._size)  # codecs want even sides
        even = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(self._last + 1, round(time_s / CLOCK))
        frame.pts, frame.time_base = self._last, CLOCK
        self._encode(frame)

    def close(self) -> None:
        """Finish the video; nothing happens where no picture came."""
        if self._container is None:
            return
        self._encode(None)
        try:
            self._container.close()
            os.replace(self._partial, self.path)
        except (self._av.FFmpegError, OSError) as error:
            raise self._fault(error) from None

    @property
    def _partial(self) -> str:
        return f"{self.path}{PARTIAL}"

    def _open(self, pixels: np.ndarray) -> None:
        try:
            self._container = self._av.open(self._partial, "w", format="mp4")
        except (self._av.FFmpegError, OSError) as error:
            raise self._fault(error) from None
        self._container.metadata["comment"] = self.comment
        codec = next(name for name in CODECS if name in self._av.codecs_available)
        self._stream = self._container.add_stream(codec)
        self._size = pixels.shape[:2]
        self._stream.height, self._stream.width = (side + side % 2 for side in self._size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = CLOCK

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (self._av.FFmpegError, OSError) as error:
            with contextlib.suppress(Exception):
                Path(self._partial).unlink()
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> FileError:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        return FileError(f"{self.path} can't be written ({reason})")
