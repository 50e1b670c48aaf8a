"""Detectron2's augmentations from the lines of ``INPUT.AUGMENTATIONS``.

A line is a call as in Python, ``RandomBrightness(0.8, 1.2)``. It is read as a name and plain
values, never run.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from detectron2.data import transforms as T

from nasnet_det.config import ConfigError
from nasnet_det.errors import MissingPackageError
from nasnet_det.near_names import nearest
from nasnet_det.runs.seeds import seeded

KEY = "INPUT.AUGMENTATIONS"
# That decide how large a picture is, as INPUT.MIN_SIZE_TRAIN does.
SIZES = ("Resize", "ResizeShortestEdge", "ResizeScale", "FixedSizeCrop")
# Whose numbers for the colours are those of red, green and blue.
OF_RGB = ("RandomSaturation", "RandomLighting")
NAMES = (
    *("RandomFlip", "RandomCrop", "RandomExtent", "RandomRotation", "RandomApply"),
    *("RandomBrightness", "RandomContrast"),
    *OF_RGB,
    *SIZES,
)
TRIAL_SIZE = (96, 128)


def build_augmentations(lines: Sequence[Any]) -> list[T.Augmentation]:
    """The augmentations of a config's list, in its order.

    Args:
        lines: such as ``RandomRotation([-10, 10])`` or ``RandomApply(RandomContrast(0.5, 1.5),
            0.3)``, with the arguments of ``detectron2.data.transforms``.

    Raises:
        ConfigError: a line is none, its name is unknown, or its arguments can't be meant.
        MissingPackageError: a rotation without OpenCV.
    """
    return [_read_line(line) for line in lines]


def list_names(lines: Sequence[str]) -> list[str]:
    """The names in lines that :func:`build_augmentations` takes, the inner ones too."""
    nodes = (node for line in lines for node in ast.walk(ast.parse(line.strip(), mode="eval")))
    return [
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def _read_line(line: Any) -> T.Augmentation:
    if not isinstance(line, str):
        raise ConfigError(f"{KEY}: wanted calls such as 'RandomBrightness(0.8, 1.2)', got {line!r}")
    try:
        augmentation = _build(ast.parse(line.strip(), mode="eval").body)
        with seeded(0):  # what its arguments can't be shows in its first picture
            given = T.AugInput(np.zeros((*TRIAL_SIZE, 3), np.uint8))
            T.AugmentationList([augmentation])(given)
    except (ConfigError, MissingPackageError):
        raise
    except Exception as error:  # theirs raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{KEY}: {line!r:.100} can't be built: {reason:.200}") from None
    return augmentation


def _build(node: ast.expr) -> T.Augmentation:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ValueError("wanted a call such as RandomBrightness(0.8, 1.2)")
    name = node.func.id
    if name not in NAMES:
        raise ConfigError(f"{KEY}: unknown name {name!r}, {nearest(name, NAMES)}")
    if name == "RandomRotation" and find_spec("cv2") is None:  # Detectron2 rotates with it
        raise MissingPackageError("cv2", "pip install opencv-python-headless")
    if any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("wanted arguments one by one, got **")
    arguments = [_read_value(value) for value in node.args]
    named = {str(keyword.arg): _read_value(keyword.value) for keyword in node.keywords}
    return getattr(T, name)(*arguments, **named)


def _read_value(node: ast.expr) -> Any:
    return _build(node) if isinstance(node, ast.Call) else ast.literal_eval(node)
