"""Published checkpoints -> our state dict, completely: no tensor is left over on either side.

What can't be placed is an error that names the tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from nasnet_det.genotype import nearest
from nasnet_det.weights.classifier import ORIGINS, ConvertedWeights, convert_classifier
from nasnet_det.weights.detector import convert_detector, is_detector
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.file import hash_file, read_weights, write_weights
from nasnet_det.weights.tensorflow_checkpoint import find_prefix

_AVERAGE = "/ExponentialMovingAverage"
_OPTIMIZER = re.compile(r"(^|/)(global_step|RMSProp(_1)?|Momentum|Adam(_1)?|beta[12]_power)$")


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
    name = os.path.basename(find_prefix(path) or path)
    source = {"source": name, "sha256": hash_file(path)}
    return ConvertedWeights(converted.weights, {**converted.metadata, **source})


def convert(source: str, output: str, *, origin: str = "") -> ConvertedWeights:
    """Convert a published file, and write what comes of it.

    Args:
        source: see :func:`~nasnet_det.weights.file.read_weights`.
        output: ``.safetensors`` or, for Detectron2's own tools, ``.pth``.
        origin: see :func:`convert_weights`.

    Raises:
        FileError: the file can't be read or written, or its weights can't be placed.
    """
    converted = convert_file(source, origin=origin)
    write_weights(output, converted.weights, converted.metadata)
    return converted


def convert_weights(
    tensors: Mapping[str, Any], *, origin: str = "", variant: str = "", **spec_overrides: Any
) -> ConvertedWeights:
    """Rename tensors, transpose them, and drop the background class.

    Args:
        tensors: names -> tensors or arrays, as the source has them.
        origin: a key of :data:`~nasnet_det.weights.classifier.ORIGINS`, for the sources that it
            can't be told from: timm and Cadene have the same names. By default, a head with a
            background class, and the mobile network, are Cadene's.
        variant: the network; recognised by default.
        **spec_overrides: fields of :class:`~nasnet_det.plan.NetworkSpec` in which the network
            differs from the variant.

    Raises:
        WeightsError: an unknown source, tensors that are missing, left over, of another shape or
            not finite.
    """
    if origin and origin not in ORIGINS:
        raise WeightsError(f"unknown origin {origin!r}, {nearest(origin, ORIGINS)}")
    tensors = _choose_tensors(tensors)
    if is_detector(tensors):
        if origin not in ("", "tf_detection"):
            raise WeightsError(f"these weights have the names of tf_detection, not of {origin}")
        return convert_detector(tensors, variant=variant, **spec_overrides)
    return convert_classifier(tensors, origin=origin, variant=variant, **spec_overrides)


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
