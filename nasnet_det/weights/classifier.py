"""Published classifiers -> our state dict, and back.

The source is recognised from its names, the network from names and shapes together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nasnet_det.network import NASNet, create_model
from nasnet_det.variants import resolve_variant
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.matching import (
    NUM_CLASSES,
    Match,
    build_empty,
    count_rows,
    has_aux_head,
    list_names,
    match_names,
)
from nasnet_det.weights.naming import SCHEMES, their_names

ORIGINS: dict[str, tuple[str, str]] = {
    "timm": ("torch", "timm"),
    "cadene": ("torch", "tf"),
    "keras": ("keras", "keras"),
    "tf_slim": ("tf_slim", "tf"),
    "tf_detection": ("tf_detection", "tf"),
}
"""Who published a file -> the scheme of its names, the pool padding that reproduces the network."""


@dataclass(frozen=True)
class ConvertedWeights:
    """Weights under our names.

    Attributes:
        weights: the state dict of :class:`~nasnet_det.network.NASNet`, without the counters of
            batch normalizations, and without a classifier where the source has none. From a
            detector, that of Detectron2's model.
        metadata: ``variant``, ``spec`` (fields that differ from the variant's), ``origin``,
            ``pool_padding``, ``num_classes``, ``class_order``, ``preprocessing``, and from a file
            its ``source`` and ``sha256``.
    """

    weights: dict[str, torch.Tensor]
    metadata: dict[str, Any]

    def build_model(self) -> NASNet:
        """The network, with the pools of its origin and these weights, in evaluation mode.

        Without a classifier in the source it gives the pooled features.

        Raises:
            WeightsError: they are a detector's.
        """
        if self.metadata["origin"] == "tf_detection":
            raise WeightsError("these are a detector's weights, for MODEL.WEIGHTS of Detectron2")
        model = create_model(
            self.metadata["variant"],
            self.metadata["num_classes"],
            aux_head=has_aux_head(self.weights),
            pool_padding=self.metadata["pool_padding"],
            **self.metadata["spec"],
        )
        model.load_state_dict(self.weights)
        return model.eval()


def convert_classifier(
    tensors: Mapping[str, Any], *, origin: str = "", variant: str = "", **spec_overrides: Any
) -> ConvertedWeights:
    """Rename the tensors of a network, transpose them, and drop the background class.

    Args:
        tensors: names -> tensors or arrays of the network itself, as the source has them.
        origin, variant, **spec_overrides: see
            :func:`~nasnet_det.weights.conversion.convert_weights`.

    Raises:
        WeightsError: tensors that are missing, left over, of another shape or not finite.
    """
    match = match_names({k: tuple(v.shape) for k, v in tensors.items()}, variant, **spec_overrides)
    if origin and ORIGINS[origin][0] != match.scheme.name:
        raise WeightsError(f"these weights have the names of {match.scheme.name}, not of {origin}")
    converted = {theirs: to_tensor(tensors[theirs]) for theirs in match.names}
    check_finite(converted)
    weights = {}
    for theirs, ours in match.names.items():
        tensor = match.scheme.to_ours(ours, converted[theirs])
        has_background = tensor.shape[0] == match.shapes[ours][0] + 1
        weights[ours] = (tensor[1:] if has_background else tensor).contiguous().clone()
    background = count_rows(tensors, match.scheme) == NUM_CLASSES + 1
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
    has_aux = "aux_linear" in found.templates and has_aux_head(weights)
    names = their_names(found, build_empty(variant, 1, has_aux, spec_overrides))
    return {
        theirs: found.to_theirs(ours, weights[ours]).contiguous()
        for ours, theirs in names.items()
        if ours in weights
    }


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


def to_tensor(value: Any) -> torch.Tensor:
    """A tensor of its own from what a file holds."""
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value.detach()


def check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise WeightsError naming the tensors with values that are not finite."""
    faults = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if faults:
        raise WeightsError(f"values that are not finite in {list_names(faults)}")
