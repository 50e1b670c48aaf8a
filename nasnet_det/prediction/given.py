"""A picture as a caller has it: a path, an array, a PIL image or a tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image

from nasnet_det.data.pictures import convert_picture, read_pixels
from nasnet_det.errors import InputError

Picture: TypeAlias = "str | os.PathLike[str] | np.ndarray | Image.Image | torch.Tensor"

WANTED = (
    "a picture: wanted a path, a PIL image, an array (H, W, 3) of uint8 in RGB, or a tensor "
    "(3, H, W) of uint8 or of floats from 0 to 1"
)


def to_pixels(picture: Picture) -> np.ndarray:
    """A picture as (H, W, 3) uint8, RGB.

    Paths and PIL images are turned as EXIF says, and every colour mode becomes RGB; see
    :mod:`nasnet_det.data.pictures`. Arrays are taken as they are, (H, W, 3) uint8 in RGB, which
    OpenCV's are not. Tensors are (3, H, W) of uint8, or of floats from 0 to 1, on any device.

    Raises:
        DataError: a file can't be read as a picture.
        InputError: it is none of these.
    """
    if isinstance(picture, str | os.PathLike):
        return read_pixels(os.fspath(picture))
    if isinstance(picture, Image.Image):
        return np.asarray(convert_picture(picture))
    if isinstance(picture, torch.Tensor):
        return _from_tensor(picture)
    if not isinstance(picture, np.ndarray):
        raise InputError(f"{WANTED}, got a {type(picture).__name__}", got=picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(f"{WANTED}, got an array {picture.shape} of {picture.dtype}", got=picture)
    return picture


def _from_tensor(picture: torch.Tensor) -> np.ndarray:
    kind = str(picture.dtype).removeprefix("torch.")
    is_float = picture.is_floating_point()
    if (
        picture.ndim != 3
        or picture.shape[0] != 3
        or not picture.numel()
        or not (is_float or picture.dtype == torch.uint8)
    ):
        raise InputError(f"{WANTED}, got a tensor {tuple(picture.shape)} of {kind}", got=picture)
    values = picture.detach().cpu()
    if is_float:
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:  # nor NaN
            raise InputError(f"{WANTED}, got floats from {low:g} to {high:g}", got=picture)
        values = (values.float() * 255).round().to(torch.uint8)
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())


def split_batch(pictures: object) -> Iterator[Picture] | None:
    """The pictures of a list, a tuple, or a batch in one array or tensor; None of one picture."""
    if isinstance(pictures, list | tuple):
        return iter(pictures)
    if isinstance(pictures, np.ndarray | torch.Tensor) and pictures.ndim == 4:
        return iter(pictures)
    return None
