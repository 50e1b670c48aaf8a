"""Published checkpoints -> our state dict, completely: no tensor is left over on either side.

The source is recognised from its names, the network from names and shapes together. What can't be
placed is an error that names the tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nasnet_det.genotype import nearest
from nasnet_det.network import NASNet, create_model, resolve_variant
from nasnet_det.weights.file import WeightsError, hash_file, read_weights
from nasnet_det.weights.naming import SCHEMES, Scheme, their_names

ORIGINS: dict[str, tuple[str, str]] = {
    "timm": ("torch", "timm"),
    "cadene": ("torch", "tf"),
    "keras": ("keras", "keras"),
    "tf_slim": ("tf_slim", "tf"),
}
"""Who published a file -> the scheme of its names, the pool padding that reproduces the network."""

NUM_CLASSES = 1000
_AVERAGE = "/ExponentialMovingAverage"
_OPTIMIZER = re.compile(r"(^|/)(global_step|RMSProp(_1)?|Momentum|Adam(_1)?|beta[12]_power)$")


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


@dataclass(frozen=True)
class ConvertedWeights:
    """Weights under our names.

    Attributes:
        weights: the state dict of :class:`~nasnet_det.network.NASNet`, without the counters of
            batch normalizations, and without a classifier where the source has none.
        metadata: ``variant``, ``spec`` (fields that differ from the variant's), ``origin``,
            ``pool_padding``, ``num_classes``, ``class_order``, ``preprocessing``, and from a file
            its ``source`` and ``sha256``.
    """

    weights: dict[str, torch.Tensor]
    metadata: dict[str, Any]

    def build_model(self) -> NASNet:
        """The network, with the pools of its origin and these weights, in evaluation mode."""
        model = create_model(
            self.metadata["variant"],
            self.metadata["num_classes"] or 1,
            aux_head=_has_aux(self.weights),
            pool_padding=self.metadata["pool_padding"],
            **self.metadata["spec"],
        )
        has_head = self.metadata["num_classes"] > 0
        model.load_state_dict(self.weights, strict=has_head)  # a missing head stays as it is
        return model.eval()


def convert_file(path: str, *, origin: str = "", variant: str = "") -> ConvertedWeights:
    """Read and convert a published file.

    Args:
        path: see :func:`~nasnet_det.weights.file.read_weights`.
        origin, variant: see :func:`convert_weights`.

    Raises:
        CheckpointError: the file can't be read, or its weights can't be placed.
    """
    try:
        converted = convert_weights(read_weights(path)["model"], origin=origin, variant=variant)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    source = {"source": os.path.basename(path), "sha256": hash_file(path)}
    return ConvertedWeights(converted.weights, {**converted.metadata, **source})


def convert_weights(
    tensors: Mapping[str, Any], *, origin: str = "", variant: str = "", **spec_overrides: Any
) -> ConvertedWeights:
    """Rename tensors, transpose them, and drop the background class.

    Args:
        tensors: names -> tensors or arrays, as the source has them.
        origin: a key of :data:`ORIGINS`, for the sources that it can't be told from: timm and
            Cadene have the same names. By default, a head with a background class, and the mobile
            network, are Cadene's.
        variant: the network; recognised by default.
        **spec_overrides: fields of :class:`~nasnet_det.network.NetworkSpec` in which the network
            differs from the variant.

    Raises:
        WeightsError: an unknown source, tensors that are missing, left over, of another shape or
            not finite.
    """
    if origin and origin not in ORIGINS:
        raise WeightsError(f"unknown origin {origin!r}, {nearest(origin, ORIGINS)}")
    tensors = _choose_tensors(tensors)
    match = match_names({k: tuple(v.shape) for k, v in tensors.items()}, variant, **spec_overrides)
    if origin and ORIGINS[origin][0] != match.scheme.name:
        raise WeightsError(f"these weights have the names of {match.scheme.name}, not of {origin}")
    weights, faults = {}, []
    for theirs, ours in match.names.items():
        tensor = tensors[theirs]
        tensor = torch.from_numpy(np.array(tensor)) if isinstance(tensor, np.ndarray) else tensor
        tensor = match.scheme.to_ours(ours, tensor.detach())
        if not torch.isfinite(tensor).all():
            faults.append(theirs)
        has_background = tensor.shape[0] == match.shapes[ours][0] + 1
        weights[ours] = (tensor[1:] if has_background else tensor).contiguous().clone()
    if faults:
        raise WeightsError(f"values that are not finite in {_list(faults)}")
    background = _num_rows(tensors, match.scheme) == NUM_CLASSES + 1
    origin = origin or _guess_origin(match, background)
    metadata = {
        "variant": match.variant,
        "spec": spec_overrides,
        "origin": origin,
        "pool_padding": ORIGINS[origin][1],
        **_describe_classes(match),
        "preprocessing": _describe_preprocessing(match.variant, origin),
    }
    return ConvertedWeights(dict(sorted(weights.items())), metadata)


def export_weights(
    weights: Mapping[str, torch.Tensor], scheme: str, variant: str, **spec_overrides: Any
) -> dict[str, torch.Tensor]:
    """Our state dict under the names and with the axes of another implementation.

    Args:
        weights: of a :class:`~nasnet_det.network.NASNet`. The auxiliary head is left out where
            the implementation has none.
        scheme: ``torch`` (timm, Cadene), ``keras`` or ``tf_slim``.
        variant, **spec_overrides: the network.

    Raises:
        WeightsError: that implementation does not have the network.
    """
    found = next((s for s in SCHEMES if s.name == scheme and variant in s.variants), None)
    if found is None:
        raise WeightsError(f"{scheme} has no network {variant!r}")
    has_aux = "aux_linear" in found.templates and _has_aux(weights)
    names = their_names(found, _build(variant, 1, has_aux, spec_overrides))
    return {
        theirs: found.to_theirs(ours, weights[ours]).contiguous()
        for ours, theirs in names.items()
        if ours in weights
    }


def match_names(
    shapes: Mapping[str, tuple[int, ...]], variant: str = "", **spec_overrides: Any
) -> Match:
    """Find the network whose tensors have these names and shapes.

    Args:
        shapes: their name -> shape.
        variant, **spec_overrides: see :func:`convert_weights`.

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
        said = "; ".join(f"{len(f)} {what}: {_list(f)}" for what, f in faults.items() if f)
        raise WeightsError(
            f"these are no weights of {match.variant} in the form of {match.scheme.name}, the "
            f"nearest that is known: {said}"
        )
    return match


def _match(
    scheme: Scheme, variant: str, shapes: Mapping[str, tuple[int, ...]], overrides: dict[str, Any]
) -> tuple[Match, dict[str, list[str]]]:
    """A candidate and what speaks against it."""
    num_rows = _num_rows(shapes, scheme)
    num_classes = NUM_CLASSES if num_rows == NUM_CLASSES + 1 else num_rows
    has_aux = "aux_linear" in scheme.templates and any(n.startswith("aux_") for n in shapes)
    model = _build(variant, num_classes or 1, has_aux, overrides)
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


def _build(variant: str, num_classes: int, aux_head: bool, overrides: dict[str, Any]) -> NASNet:
    with torch.device("meta"):
        return create_model(variant, num_classes, aux_head=aux_head, **overrides)


def _has_aux(weights: Iterable[str]) -> bool:
    return any(name.startswith("aux_head.") for name in weights)


def _choose_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the network itself: averages for what has one, no optimizer, no counters."""
    averaged = {name.removesuffix(_AVERAGE) for name in tensors if name.endswith(_AVERAGE)}
    return {
        name.removesuffix(_AVERAGE).removeprefix("module."): tensor
        for name, tensor in tensors.items()
        if not name.endswith(".num_batches_tracked")
        and not _OPTIMIZER.search(name)
        and name not in averaged
    }


def _num_rows(tensors: Mapping[str, Any], scheme: Scheme) -> int:
    """Classes of the head, a background class included; 0 without a head."""
    name = scheme.templates["linear"].format(tensor=scheme.other_tensors.get("bias", "bias"))
    if name not in tensors:
        return 0
    shape = getattr(tensors[name], "shape", tensors[name])
    return int(shape[0])


def _guess_origin(match: Match, background: bool) -> str:
    if match.scheme.name != "torch":
        return match.scheme.name
    return "cadene" if background or match.variant == "nasnet_a_mobile" else "timm"


def _describe_classes(match: Match) -> dict[str, Any]:
    if "classifier.bias" not in match.shapes:
        return {"num_classes": 0, "class_order": ""}
    num_classes = match.shapes["classifier.bias"][0]
    order = "ImageNet-1k by WordNet id" if num_classes == NUM_CLASSES else "the source's"
    return {"num_classes": num_classes, "class_order": order}


def _describe_preprocessing(variant: str, origin: str) -> dict[str, Any]:
    """Pixels in [0, 1], RGB, minus the mean, divided by the deviation: [-1, 1] in all of them."""
    size = resolve_variant(variant)[0].input_size
    crop: dict[str, Any] = {
        "timm": {"crop_fraction": 0.911, "interpolation": "bicubic"},
        "tf_slim": {"crop_fraction": 0.875, "interpolation": "bilinear"},
    }.get(origin, {})
    return {"channels": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": size, **crop}


def _describe_unknown(shapes: Mapping[str, Any], variant: str) -> str:
    if any(name.startswith(("trunk.", "backbone.")) for name in shapes):
        return "these weights have this project's names already"
    stems = sorted({scheme.stem for scheme in SCHEMES if not variant or variant in scheme.variants})
    network = f" of {variant}" if variant else ""
    if not stems:
        return f"no source of weights{network} is known"
    return (
        f"no known form of weights{network}: wanted one of the tensors {', '.join(stems)}, "
        f"got {_list(sorted(shapes))}"
    )


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
