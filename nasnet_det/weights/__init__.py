"""Weights: files that are read safely, and the published checkpoints under this project's names."""

from nasnet_det.weights.conversion import ConvertedWeights, convert_file, convert_weights
from nasnet_det.weights.file import CheckpointError, WeightsError, read_weights, write_weights

__all__ = [
    "CheckpointError",
    "ConvertedWeights",
    "WeightsError",
    "convert_file",
    "convert_weights",
    "read_weights",
    "write_weights",
]
