"""TensorFlow's checkpoints, read by TensorFlow in a process of its own.

TensorFlow and torch disturb each other in one process: each brings its own copy of the same
libraries. ``tensorflow_reader.py`` runs apart and hands the arrays over in a safetensors file.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.weights.error import missing_package

_READER = Path(__file__).with_name("tensorflow_reader.py")
_UNREADABLE = 3  # the reader's exit status


def find_prefix(path: str) -> str:
    """The common beginning of the names of a checkpoint's files, or "".

    Args:
        path: that beginning, or any of the files.
    """
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    return prefix if os.path.isfile(f"{prefix}.index") else ""


def list_files(prefix: str) -> list[str]:
    """The files with the variables, in the order of their names."""
    path = Path(prefix)
    data = re.compile(re.escape(path.name) + r"\.(index|data-\d+-of-\d+)")
    return sorted(str(file) for file in path.parent.iterdir() if data.fullmatch(file.name))


def read_tensorflow(prefix: str) -> dict[str, np.ndarray]:
    """Variable -> array, for the variables that are numbers.

    Raises:
        CheckpointError: a package is not installed, or TensorFlow can't read the checkpoint.
    """
    for module, package in (("tensorflow", "TensorFlow"), ("safetensors", "safetensors")):
        if importlib.util.find_spec(module) is None:
            raise missing_package(prefix, package, "tensorflow")
    from safetensors.numpy import load_file

    with TemporaryDirectory() as folder:
        arrays = os.path.join(folder, "arrays.safetensors")
        done = subprocess.run(
            # By -c: a script's folder would come first where Python looks for modules.
            [sys.executable, "-c", _READER.read_text(), prefix, arrays],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},  # to read takes no GPU
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode == _UNREADABLE:
            raise CheckpointError(
                f"{prefix} can't be read by TensorFlow: one of its files is truncated or missing "
                f"(there are {', '.join(map(os.path.basename, list_files(prefix)))})"
            )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise CheckpointError(f"{prefix}: TensorFlow does not run ({reason:.200})")
        return load_file(arrays)
