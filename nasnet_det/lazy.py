"""Names that a package offers and that are imported when they are first used.

So ``import nasnet_det`` needs no torch, and a stage no library of another one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasnet_det.errors import requires


def offer(
    package: str, modules: Mapping[str, Sequence[str]], *, extra: str = ""
) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        modules: a module of the package, such as ``network`` -> the names that it has.
        extra: of this project, which brings the libraries that the modules import.

    Raises:
        MissingPackageError: one of these is not installed; by the function that is returned.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with requires(extra):
            value = getattr(importlib.import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
