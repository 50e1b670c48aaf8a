"""Weights: files that are read safely, and the published checkpoints under this project's names."""

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer
from nasnet_det.runs.checkpoint import CheckpointError

if TYPE_CHECKING:
    from nasnet_det.weights.classifier import ConvertedWeights
    from nasnet_det.weights.conversion import convert, convert_file, convert_weights
    from nasnet_det.weights.error import WeightsError
    from nasnet_det.weights.file import read_weights, write_weights
    from nasnet_det.weights.published import fetch_published, load_published
    from nasnet_det.weights.verification import Verification, verify

__all__ = [
    "CheckpointError",
    "ConvertedWeights",
    "Verification",
    "WeightsError",
    "convert",
    "convert_file",
    "convert_weights",
    "fetch_published",
    "load_published",
    "read_weights",
    "verify",
    "write_weights",
]

_MODULES = {
    "classifier": ("ConvertedWeights",),
    "conversion": ("convert", "convert_file", "convert_weights"),
    "error": ("WeightsError",),
    "file": ("read_weights", "write_weights"),
    "published": ("fetch_published", "load_published"),
    "verification": ("Verification", "verify"),
}
__getattr__ = offer(__name__, _MODULES, extra="weights")
