"""Published checkpoints -> our state dict, completely: no tensor is left over on either side.

What can't be placed is an error that names the tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from nasnet_det.near_names import nearest
from nasnet_det.weights.classifier import ORIGINS, ConvertedWeights, convert_classifier
from nasnet_det.weights.detector import convert_detector, is_detector
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.file import LEFT, TAKEN, hash_file, read_weights, write_weights
from nasnet_det.weights.matching import list_names
from nasnet_det.weights.naming import SCHEMES
from nasnet_det.weights.prefixes import drop_wrappers, find_inner
from nasnet_det.weights.tensorflow_checkpoint import find_prefix

_AVERAGE = "/ExponentialMovingAverage"
_OPTIMIZER = re.compile(r"(^|/)(global_step|RMSProp(_1)?|Momentum|Adam(_1)?|beta[12]_power)$")
_COUNTERS = ("num_batches_tracked", "n_averaged")


def convert_file(
    path: str, *, origin: str = "", variant: str = "", average: bool = False
) -> ConvertedWeights:
    """Read and convert a published file, or one that a training tool has written.

    Args:
        path, average: see :func:`~nasnet_det.weights.file.read_weights`.
        origin, variant: see :func:`convert_weights`.

    Raises:
        CheckpointError: the file can't be read, or its weights can't be placed.
    """
    try:
        content = read_weights(path, average=average)
        converted = convert_weights(
            content["model"], origin=origin, variant=variant, average=average
        )
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    name = os.path.basename(find_prefix(path) or path)
    source = {"source": name, "sha256": hash_file(path)}
    chosen = {key: content[key] for key in (TAKEN, LEFT) if key in content}
    return ConvertedWeights(converted.weights, {**converted.metadata, **source, **chosen})


def convert(
    source: str, output: str, *, origin: str = "", average: bool = False
) -> ConvertedWeights:
    """Convert a published file, and write what comes of it.

    Args:
        source, average: see :func:`~nasnet_det.weights.file.read_weights`.
        output: ``.safetensors`` or, for Detectron2's own tools, ``.pth``.
        origin: see :func:`convert_weights`.

    Raises:
        FileError: the file can't be read or written, or its weights can't be placed.
    """
    converted = convert_file(source, origin=origin, average=average)
    write_weights(output, converted.weights, converted.metadata)
    return converted


def convert_weights(
    tensors: Mapping[str, Any],
    *,
    origin: str = "",
    variant: str = "",
    average: bool = False,
    **spec_overrides: Any,
) -> ConvertedWeights:
    """Rename tensors, transpose them, and drop the background class.

    Args:
        tensors: names -> tensors or arrays, as the source has them. The network may lie in
            another one, whose own tensors are left out: ``left_out`` of the metadata names them.
        origin: a key of :data:`~nasnet_det.weights.classifier.ORIGINS`, for the sources that it
            can't be told from: timm and Cadene have the same names. By default, a head with a
            background class, and the mobile network, are Cadene's.
        variant: the network; recognised by default.
        average: of two networks take the one whose place is called an average.
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
    inner = find_inner(tensors, {scheme.stem for scheme in SCHEMES}, average=average)
    converted = convert_classifier(inner.tensors, origin=origin, variant=variant, **spec_overrides)
    if inner.left_out:
        converted.metadata["left_out"] = list_names(sorted(inner.left_out))
    return converted


def _choose_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the network itself: averages for what has one, no optimizer, no counters."""
    averaged = {name.removesuffix(_AVERAGE) for name in tensors if name.endswith(_AVERAGE)}
    return {
        name.removesuffix(_AVERAGE): tensor
        for name, tensor in drop_wrappers(tensors).items()
        if name.rpartition(".")[2] not in _COUNTERS
        and not _OPTIMIZER.search(name)
        and name not in averaged
    }
