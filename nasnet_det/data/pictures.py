"""Pictures as arrays: the one place where a picture is opened and converted.

Search, classifier, detector, prediction, report and checks of weights all read with
:func:`read_picture`, so that they see the same. A picture becomes 8 bits of red, green and blue:

- It is turned upright as its EXIF orientation says.
- Palettes, CMYK, YCbCr, grey and black-and-white become RGB; what is transparent becomes white.
- Of several frames or pages the first one counts.
- Whole numbers of more than 8 bits are divided so that the smallest of 8, 12 and 16 bits that holds
  the picture's largest value becomes 8 bits. Microscopes and X-rays fill 12 bits of 16.
- Floats from 0 to 1 are multiplied by 255; floats from 0 to 255 are rounded.
- Of other numbers the picture's smallest becomes 0 and its largest 255.

Formats that need another program (EPS) or that Pillow can only name (HDF5, MPEG) are no pictures.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nasnet_det.data.error import DataError

BIT_DEPTHS = (8, 12, 16)  # of cameras and scanners
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
# What is looked for in files without a suffix: formats that their first bytes prove.
PROVEN_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
_EXIF_ORIENTATION = 0x0112
_TIFF_SIZE = (256, 257)  # tags of the stored width and height
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height

logger = logging.getLogger(__name__)


class PictureError(DataError):
    """A file that can't be read as a picture.

    Attributes:
        reason: without the file's name.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def read_picture(source: str | os.PathLike[str] | BinaryIO, *, name: str = "") -> Image.Image:
    """Read a picture; see the module for how it is converted.

    Args:
        source: a path, or a file of bytes.
        name: of the picture in a message; the path where there is one.

    Returns:
        a loaded picture of mode RGB.

    Raises:
        PictureError: there is no such file, it is no picture or broken, or its header claims more
            pixels than Pillow reads (179 million by default).
    """
    with _open(source, name) as image:
        return convert_picture(image, name=name or str(source))


def convert_picture(image: Image.Image, *, name: str = "a picture") -> Image.Image:
    """An opened picture as :func:`read_picture` gives it; the image itself stays as it is.

    Args:
        image: of Pillow.
        name: for a message.

    Raises:
        PictureError: its file is broken.
    """
    try:
        image.load()
        return _to_rgb(_turn_upright(image), name)
    except Exception as error:  # decoders raise anything on broken bytes
        raise _name_fault(name, " ".join(str(error).split()) or type(error).__name__) from None


def read_pixels(source: str | os.PathLike[str] | BinaryIO, *, name: str = "") -> np.ndarray:
    """The picture as (H, W, 3) uint8, RGB; see :func:`read_picture`."""
    return np.asarray(read_picture(source, name=name))


class Header(NamedTuple):
    """What the header of a picture says.

    Attributes:
        width, height: in pixels, of the upright picture.
        orientation: of EXIF, 1 to 8; 1 where it is stored upright.
        mode: Pillow's word for its pixels, such as ``RGB`` or ``I;16``.
    """

    width: int
    height: int
    orientation: int
    mode: str


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height in pixels of the upright picture; see :func:`read_header`."""
    header = read_header(path)
    return header.width, header.height


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the header of a picture alone.

    Raises:
        PictureError: as :func:`read_picture`, but for what only decoding shows.
    """
    with _open(path, "") as image:
        width, height = image.size
        if image.format == "TIFF":  # newer Pillows have turned the size of these already
            width, height = (int(image.tag_v2[tag]) for tag in _TIFF_SIZE)  # type: ignore[attr-defined]
        orientation, mode = _find_orientation(image), image.mode
    if orientation in _TURNED:
        width, height = height, width
    return Header(width, height, orientation, mode)


def has_picture_suffix(name: str) -> bool:
    """Whether a file's name ends as the pictures do that can be read, such as ``.jpg``."""
    return os.path.splitext(name)[1].lower() in picture_suffixes()


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """All suffixes of the formats that are read, in lower case with the dot."""
    formats = _list_formats()  # which loads them
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, format in suffixes.items() if format in formats)


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file's first bytes are those of a picture, whatever its name."""
    try:
        with _open(path, "") as image:
            return image.format in PROVEN_FORMATS
    except PictureError:
        return False


@functools.cache
def _list_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@contextmanager
def _open(source: str | os.PathLike[str] | BinaryIO, name: str) -> Iterator[Image.Image]:
    """An opened picture; whatever goes wrong with it becomes one sentence."""
    name = name or (str(source) if isinstance(source, str | Path) else "a picture")
    try:
        with warnings.catch_warnings():
            # The header's size is refused above twice the limit of this warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source, formats=_list_formats()) as image:
                yield image
    except PictureError:
        raise
    except FileNotFoundError:
        raise _name_fault(name, "there is no such file") from None
    except UnidentifiedImageError:
        raise _name_fault(name, "cannot identify image file") from None
    except Image.DecompressionBombError as error:
        raise _name_fault(name, f"{error} Cut a larger one into parts.") from None
    except Exception as error:  # decoders raise anything on broken bytes
        raise _name_fault(name, " ".join(str(error).split()) or type(error).__name__) from None


def _name_fault(name: str, reason: str) -> PictureError:
    return PictureError(f"{name} can't be read as a picture: {reason}", reason=reason)


def _find_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # as of a broken picture, but what it shows may be whole
        return 1


def _turn_upright(image: Image.Image) -> Image.Image:
    """As EXIF says; of a TIFF, Pillow has done it when it loaded."""
    if _find_orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that can't be written again
        return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(scale_to_bytes(np.asarray(image), name=name)).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        return paper.convert("RGB")
    return image.convert("RGB")


def scale_to_bytes(values: np.ndarray, *, name: str = "") -> np.ndarray:
    """Numbers of any range as bytes, by the rule of the module; NaN and infinities become 0.

    Args:
        values: (H, W), whole numbers or floats.
        name: of the picture, for the log.

    Returns:
        uint8 of the same shape.
    """
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
    is_float = values.dtype.kind == "f"
    tops = (1.0, 255.0) if is_float else tuple(2.0**bits - 1 for bits in BIT_DEPTHS)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        low, top = float(numbers.min()), float(numbers.max())
        _tell_scale(f"its smallest ({low:g}) and largest ({top:g}) become 0 and 255", name)
    else:
        low = 0.0
        if not is_float:
            _tell_scale(f"0 to {top:,.0f} become 0 to 255", name)
    return np.rint((numbers - low) * 255 / (top - low or 1.0)).astype(np.uint8)


_told: set[str] = set()


def _tell_scale(rule: str, name: str) -> None:
    """Say once in a process how pictures of more than 8 bits are scaled."""
    kind = rule.partition(" (")[0]
    if kind not in _told:
        _told.add(kind)
        logger.info(
            "a picture of more than 8 bits, %s: %s; others like it are scaled so", name, rule
        )
