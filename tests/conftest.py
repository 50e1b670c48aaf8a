"""Shared fixtures. Every test starts from the same random seed."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")  # files in it are in memory; Linux has it

# A search of a second waits for two more where each of its hundred writes is synced to a disk.
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
os.environ.setdefault("NASNET_DET_OFFLINE", "1")  # tests download nothing
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    # A shell's background job ignores Ctrl-C, and so would all that the tests start; and a test
    # may have left a handler of its own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """A command in the tests' own process leaves handlers, whose streams end with its test."""
    loggers = [logging.getLogger(name) for name in ("nasnet_det", "detectron2", "d2", "fvcore")]
    handlers = [logger.handlers[:] for logger in loggers]
    yield
    for logger, before in zip(loggers, handlers, strict=True):
        logger.handlers[:] = before


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real data; a test that asks for it is skipped where the folder is absent.

    It is ``$NASNET_DET_DATA``, or ``shared/data`` beside the checkout.
    """
    folder = Path(os.environ.get("NASNET_DET_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder} (set NASNET_DET_DATA to their folder)")
    return folder
