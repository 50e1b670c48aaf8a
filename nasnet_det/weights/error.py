"""What can be wrong with a file of weights."""

from __future__ import annotations

from nasnet_det.runs.checkpoint import CheckpointError


class WeightsError(CheckpointError):
    """Weights that don't fit the model."""


def missing_package(path: str, package: str, extra: str) -> CheckpointError:
    """The error for a file whose reader is not installed."""
    return CheckpointError(f"{path} needs {package}: run pip install 'nasnet-det[{extra}]'")
