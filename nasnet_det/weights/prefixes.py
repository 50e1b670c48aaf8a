"""What wrappers and training tools put before the names of a network's tensors.

``module.`` is DataParallel's, ``_orig_mod.`` torch.compile's, ``model.`` Lightning's; a network in
another one has the name of its place there. None of them is looked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nasnet_det.weights.error import WeightsError

# Modules that stand around others and have nothing of their own, wherever they are.
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AVERAGE = re.compile(r"ema|average", re.IGNORECASE)


class Inner(NamedTuple):
    """A network among the tensors of a file.

    Attributes:
        tensors: its own, without the prefix.
        prefix: what stood before their names.
        left_out: names of the tensors that are not below the prefix.
    """

    tensors: dict[str, Any]
    prefix: str
    left_out: list[str]


def drop_wrappers(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors without the parts of their names that wrappers inside a network leave."""
    return {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}


def list_shared_prefixes(names: Iterable[str]) -> list[str]:
    """What all names begin with, in whole parts: ``""``, ``a.``, ``a.b.``, the shortest first."""
    given = list(names)
    ends = (min(given).split(".")[:-1], max(given).split(".")[:-1]) if given else ()
    prefixes = [""]
    for part, other in zip(*ends, strict=False):
        if part != other:
            break
        prefixes.append(f"{prefixes[-1]}{part}.")
    return prefixes


def find_inner(tensors: Mapping[str, Any], marks: Iterable[str], *, average: bool = False) -> Inner:
    """The network that one of the marks is of, wherever it lies.

    Args:
        tensors: of a file.
        marks: names of tensors, one of which every network has.
        average: of two networks take the one that is called an average.

    Raises:
        WeightsError: there are several.
    """
    wanted = tuple(marks)
    prefixes = {
        name[: len(name) - len(mark)]
        for name in tensors
        for mark in wanted
        if name.endswith(mark) and re.search(r"(^|[./])$", name[: len(name) - len(mark)])
    }
    if len(prefixes) > 1:
        prefixes = {p for p in prefixes if bool(_AVERAGE.search(p)) == average} or prefixes
    if len(prefixes) > 1:
        raise WeightsError(
            f"wanted one network, got {len(prefixes)}, below {', '.join(sorted(prefixes))}; save "
            "one of them alone"
        )
    prefix = prefixes.pop() if prefixes else ""
    inner = {
        n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)
    }
    return Inner(inner, prefix, [name for name in tensors if not name.startswith(prefix)])
