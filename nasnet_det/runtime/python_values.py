"""Where a network turns numbers of a tensor into Python's, which a trace can't follow.

A trace keeps what happened to one picture: a branch that was taken, a number that was read, an
array of NumPy's. Torch warns of each such place, also where only a size was read, and Detectron2's
own are made for it. So a place counts if torch warns of it, it lies in no library that is compared
with its traces, and a run without a trace reads numbers there that depend on the picture.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

KNOWN = ("torch", "torchvision", "detectron2", "nasnet_det", "timm", "fvcore")
"""Packages whose networks are traced and compared, here or by their makers."""
READERS = ("item", "numpy", "tolist", "__array__", "__bool__", "__int__", "__float__", "__index__")
"""Methods of tensors that give Python's or NumPy's values."""


class Place(NamedTuple):
    """A line of Python.

    Attributes:
        file: its path.
        line: from 1 on.
    """

    file: str
    line: int

    def __str__(self) -> str:
        """As a message has it."""
        return f"{Path(self.file).name}, line {self.line}"


def find_foreign(caught: Sequence[warnings.WarningMessage]) -> set[Place]:
    """The places outside of :data:`KNOWN` that torch warned of while it traced."""
    places = {Place(w.filename, w.lineno) for w in caught if is_of_trace(w)}
    return {place for place in places if not is_known(place.file)}


def is_of_trace(warning: warnings.WarningMessage) -> bool:
    """Whether a trace may be wrong because of what it warns of."""
    return issubclass(warning.category, torch.jit.TracerWarning)


def is_known(file: str) -> bool:
    """Whether a file belongs to one of :data:`KNOWN`."""
    return any(Path(file).is_relative_to(folder) for folder in _find_folders().values())


def find_python_values(
    model: nn.Module, example: torch.Tensor, places: set[Place] | None
) -> dict[Place, str]:
    """The places where numbers that depend on the picture become Python's.

    Args:
        model: in evaluation mode; runs once.
        example: what it gets.
        places: where to look; None for everywhere outside of :data:`KNOWN`.

    Returns:
        place -> the method of the tensor, such as ``item``.
    """
    if places is not None and not places:
        return {}
    example = example.clone()
    watch = _Watch(example)
    with torch.no_grad(), watch:
        model(example)
    return {
        place: name
        for place, name in watch.found.items()
        if (not is_known(place.file) if places is None else place in places)
    }


class _Watch(TorchFunctionMode):
    """Notes who reads numbers of tensors that a picture's were made into."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        self.found: dict[Place, str] = {}
        self.made = WeakIdKeyDictionary({picture: True})

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function."""
        result = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if not any(x in self.made for x in given):
            return result
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor):
                self.made[made] = True
        name = getattr(func, "__name__", "")
        if name in READERS:
            place = next((p for p in _walk_frames() if not _is_torch(p.file)), None)
            if place is not None:
                self.found.setdefault(place, name.strip("_"))
        return result


def _walk_frames() -> Iterator[Place]:
    """The lines that led here, the last before this module first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield Place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back


def _is_torch(file: str) -> bool:
    return Path(file).is_relative_to(_find_folders()["torch"])


def _find_folders() -> dict[str, Path]:
    loaded = {name: sys.modules.get(name) for name in KNOWN}
    files = {name: getattr(module, "__file__", None) for name, module in loaded.items()}
    return {name: Path(file).parent for name, file in files.items() if file}
