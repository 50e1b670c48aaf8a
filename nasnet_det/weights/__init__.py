"""Weights: files that are read safely, and the published checkpoints under this project's names."""

from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.weights.classifier import ConvertedWeights
from nasnet_det.weights.conversion import convert_file, convert_weights
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.file import read_weights, write_weights
from nasnet_det.weights.published import fetch_published, load_published

__all__ = [
    "CheckpointError",
    "ConvertedWeights",
    "WeightsError",
    "convert_file",
    "convert_weights",
    "fetch_published",
    "load_published",
    "read_weights",
    "write_weights",
]
