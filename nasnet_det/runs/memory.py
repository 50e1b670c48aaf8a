"""The memory that a process has had."""

from __future__ import annotations

import sys

import torch


def read_peak_memory(device: torch.device) -> float | None:
    """The most memory so far, in MiB: PyTorch's on a GPU, else this process's own.

    Returns:
        None on a system that does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
