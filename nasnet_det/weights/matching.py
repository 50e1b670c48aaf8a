"""Finding the network to which a source's tensors belong, by their names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nasnet_det.network import NASNet, create_model
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.naming import SCHEMES, Scheme, their_names

NUM_CLASSES = 1000


@dataclass(frozen=True)
class Match:
    """A source's names and ours.

    Attributes:
        scheme: how the source names its tensors.
        variant: the network.
        names: their name -> ours.
        shapes: our name -> its shape in a network with as many classes as the source's head has,
            a background class left out.
    """

    scheme: Scheme
    variant: str
    names: dict[str, str]
    shapes: dict[str, torch.Size]


def match_names(
    shapes: Mapping[str, tuple[int, ...]], variant: str = "", **spec_overrides: Any
) -> Match:
    """Find the network whose tensors have these names and shapes.

    Args:
        shapes: their name -> shape.
        variant, **spec_overrides: see :func:`~nasnet_det.weights.conversion.convert_weights`.

    Raises:
        WeightsError: there is none.
    """
    candidates = [
        (scheme, name)
        for scheme in SCHEMES
        if scheme.stem in shapes
        for name in scheme.variants
        if variant in ("", name)
    ]
    if not candidates:
        raise WeightsError(_describe_unknown(shapes, variant))
    matches = [_match(scheme, name, shapes, spec_overrides) for scheme, name in candidates]
    match, faults = min(matches, key=lambda found: sum(map(len, found[1].values())))
    if any(faults.values()):
        raise WeightsError(
            f"these are no weights of {match.variant} in the form of {match.scheme.name}, the "
            f"nearest that is known: {describe_faults(faults)}"
        )
    return match


def _match(
    scheme: Scheme, variant: str, shapes: Mapping[str, tuple[int, ...]], overrides: dict[str, Any]
) -> tuple[Match, dict[str, list[str]]]:
    """A candidate and what speaks against it."""
    num_rows = count_rows(shapes, scheme)
    num_classes = NUM_CLASSES if num_rows == NUM_CLASSES + 1 else num_rows
    has_aux = "aux_linear" in scheme.templates and any(n.startswith("aux_") for n in shapes)
    model = build_empty(variant, num_classes or 1, has_aux, overrides)
    names = {
        theirs: ours
        for ours, theirs in their_names(scheme, model).items()
        if num_classes or not ours.startswith("classifier.")
    }
    state = model.state_dict()
    wanted = {ours: state[ours].shape for ours in names.values()}
    faults: dict[str, list[str]] = {
        "missing": sorted(set(names) - set(shapes)),
        "left over": sorted(set(shapes) - set(names)),
        "of another shape": [],
    }
    for theirs in sorted(set(names) & set(shapes)):
        found = tuple(
            scheme.to_ours(names[theirs], torch.empty(shapes[theirs], device="meta")).shape
        )
        rows, *rest = wanted[names[theirs]]
        is_head = names[theirs].startswith(("classifier.", "aux_head.linear."))
        if is_head and num_rows == NUM_CLASSES + 1:
            rows = num_rows
        if found != (rows, *rest):
            faults["of another shape"].append(theirs)
    return Match(scheme, variant, names, wanted), faults


def build_empty(
    variant: str, num_classes: int, aux_head: bool, overrides: dict[str, Any]
) -> NASNet:
    """A classifier with names and shapes and no numbers."""
    with torch.device("meta"):
        return create_model(variant, num_classes, aux_head=aux_head, **overrides)


def has_aux_head(weights: Iterable[str]) -> bool:
    """Whether our names include those of an auxiliary head."""
    return any(name.startswith("aux_head.") for name in weights)


def count_rows(tensors: Mapping[str, Any], scheme: Scheme) -> int:
    """Classes of the head, a background class included; 0 without a head."""
    name = scheme.templates["linear"].format(tensor=scheme.other_tensors.get("bias", "bias"))
    if name not in tensors:
        return 0
    shape = getattr(tensors[name], "shape", tensors[name])
    return int(shape[0])


def _describe_unknown(shapes: Mapping[str, Any], variant: str) -> str:
    if any(name.startswith(("trunk.", "backbone.")) for name in shapes):
        return "these weights have this project's names already"
    stems = sorted({scheme.stem for scheme in SCHEMES if not variant or variant in scheme.variants})
    network = f" of {variant}" if variant else ""
    if not stems:
        return f"no source of weights{network} is known"
    return (
        f"no known form of weights{network}: wanted one of the tensors {', '.join(stems)}, "
        f"got {list_names(sorted(shapes))}"
    )


def describe_faults(faults: Mapping[str, list[str]]) -> str:
    """What is wrong, how many tensors each time, and which."""
    return "; ".join(f"{len(n)} {what}: {list_names(n)}" for what, n in faults.items() if n)


def list_names(names: list[str]) -> str:
    """The first five."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
