"""What can be wrong with a file of weights."""

from __future__ import annotations

from nasnet_det.runs.files import FileError


class CheckpointError(FileError):
    """A file of weights that can't be read."""


class WeightsError(CheckpointError):
    """Weights that don't fit the model."""


def broken_file(path: str) -> CheckpointError:
    """The error for a file whose bytes make no sense to its reader."""
    return CheckpointError(f"{path} is truncated or no file of weights")


def missing_package(path: str, package: str, extra: str) -> CheckpointError:
    """The error for a file whose reader is not installed."""
    return CheckpointError(f"{path} needs {package}: run pip install 'nasnet-det[{extra}]'")
