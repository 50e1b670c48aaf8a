"""Files of weights, read without running what may be inside, and written.

``.pth`` goes through ``torch.load(weights_only=True)``, ``.safetensors`` through safetensors,
Keras's ``.h5`` and ``.keras`` through h5py, a TensorFlow checkpoint through TensorFlow, and
``.pkl``, the format of Detectron2's model zoo, through an unpickler that knows arrays and plain
containers only. There is no fall-back to unsafe loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from nasnet_det.runs.checkpoint import CheckpointError, broken_file, load_tensors, refused_file
from nasnet_det.runs.files import FileError, write_content, write_whole_file
from nasnet_det.weights.error import missing_package
from nasnet_det.weights.keras_file import read_h5, read_keras
from nasnet_det.weights.tensorflow_checkpoint import find_prefix, list_files, read_tensorflow

try:
    from numpy._core import multiarray, numeric
except ImportError:  # numpy 1
    from numpy.core import multiarray, numeric  # type: ignore[no-redef]

# Under these keys lie the tensors of files that hold more than tensors.
WEIGHT_KEYS = ("model", "model_state", "state_dict", "weights")
# And under these an average of them over the training, as EMA makes.
AVERAGE_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
_INSIDE = ("module", "shadow", *WEIGHT_KEYS)  # of an average
TAKEN, LEFT = "taken", "left"
"""Under which keys of a file with an average lie the weights that were taken, and the others."""
# What this project says about weights that it wrote lies under this key: as JSON in safetensors,
# whose own order of several keys differs from run to run.
METADATA_KEY = "nasnet_det"


def read_weights(path: str, *, mmap: bool = False, average: bool = False) -> dict[str, Any]:
    """Read a file of weights.

    Args:
        path: ``.pth`` (or any other name that torch's format has), ``.safetensors``, ``.pkl``,
            ``.h5``, ``.keras``, or the common beginning of a TensorFlow checkpoint's files or any
            of them.
        mmap: leave the tensors of a ``.pth`` on the disk until they are used.
        average: take the average that a training has kept beside its last weights. An average that
            is alone is taken anyhow.

    Returns:
        ``model``: names -> tensors or arrays, and whatever else the file holds; ``taken`` and
        ``left`` where there was an average.

    Raises:
        CheckpointError: the file is missing, truncated, refused or holds no weights.
    """
    extension = os.path.splitext(path)[1]
    try:
        if extension == ".safetensors":
            return _read_safetensors(path)
        if extension in (".h5", ".hdf5"):
            return _with_model(path, {"model": read_h5(path)})
        if extension == ".keras":
            return _with_model(path, {"model": read_keras(path)})
        if prefix := find_prefix(path):
            return _with_model(path, {"model": read_tensorflow(prefix)})
        if extension == ".pkl":
            return _describe_zoo_format(path, _read_pickle(path))
        data = _with_model(path, _choose(path, load_tensors(path, mmap=mmap), average))
        if extension == ".pyth":  # pycls
            data["matching_heuristics"] = True
        return data
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read ({error.strerror or error})") from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise refused_file(path) from None
        raise broken_file(path) from None
    except Exception:  # the readers raise anything from EOFError to KeyError on broken bytes
        raise broken_file(path) from None


def _choose(path: str, data: Any, average: bool) -> Any:
    """``data`` with the last weights or their average under ``model``, where it has an average."""
    content = data if isinstance(data, Mapping) else {}
    averaged = next((k for k in AVERAGE_KEYS if isinstance(content.get(k), Mapping)), None)
    if averaged is None:
        if average:
            raise CheckpointError(
                f"{path} holds no average of weights: wanted one under {', '.join(AVERAGE_KEYS)}"
            )
        return data
    last = next((k for k in WEIGHT_KEYS if isinstance(content.get(k), Mapping)), "")
    if last and not average:
        return {**content, TAKEN: last, LEFT: averaged}
    rest = {key: value for key, value in content.items() if key not in (*WEIGHT_KEYS, averaged)}
    weights = content[averaged]
    inside = next((k for k in _INSIDE if isinstance(weights.get(k), Mapping)), None)
    return {**rest, "model": weights[inside] if inside else weights, TAKEN: averaged, LEFT: last}


def read_description(path: str) -> dict[str, Any]:
    """What :func:`write_weights` was told about the weights of a file; {} for other files.

    The weights themselves are not read, so a file that is broken further on may look whole.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                described = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        elif path.endswith(".pth"):
            described = read_weights(path, mmap=True).get(METADATA_KEY)
        else:
            return {}
    except Exception:  # who reads the weights says what is wrong
        return {}
    return described if isinstance(described, dict) else {}


def is_detector(path: str | os.PathLike[str]) -> bool:
    """Whether a file is the checkpoint of a detector's training, which has its config as a text."""
    name = os.fspath(path)
    try:
        return name.endswith(".pth") and isinstance(load_tensors(name, mmap=True)["config"], str)
    except Exception:  # who reads the weights says what is wrong
        return False


def _read_safetensors(path: str) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError:
        raise missing_package(path, "safetensors", "weights") from None
    with open(path, "rb"):  # the system's own words where that fails
        pass
    with safe_open(path, framework="pt") as file:
        content = _with_model(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        described = (file.metadata() or {}).get(METADATA_KEY)
    return content if described is None else {**content, METADATA_KEY: json.loads(described)}


def hash_file(path: str) -> str:
    """The SHA-256 of a file, or of all files of a TensorFlow checkpoint in the order of names."""
    digest = hashlib.sha256()
    prefix = find_prefix(path)
    for name in list_files(prefix) if prefix else [path]:
        with open(name, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_weights(path: str, weights: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and what is known about them; the same input gives the same bytes.

    Args:
        path: ``.safetensors`` or, for Detectron2's own tools, ``.pth``.
        weights: names -> tensors.
        metadata: JSON values.

    Raises:
        FileError: another extension, or the file can't be written.
    """
    extension = os.path.splitext(path)[1]
    if extension == ".safetensors":
        try:
            from safetensors.torch import save
        except ImportError:
            raise missing_package(path, "safetensors", "weights") from None
        content = save(weights, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})
        write_content(path, content)
    elif extension == ".pth":
        # Detectron2's own checkpointer then finds the trunk's names behind any prefix.
        data = {"model": weights, METADATA_KEY: metadata, "matching_heuristics": True}
        write_whole_file(path, lambda file: torch.save(data, file))
    else:
        raise FileError(f"{path}: wanted a name that ends with .safetensors or .pth")


def _with_model(path: str, data: Any) -> dict[str, Any]:
    """``data`` with its weights under ``model``."""
    content = dict(data) if isinstance(data, Mapping) else {}
    key = next((key for key in WEIGHT_KEYS if isinstance(content.get(key), Mapping)), None)
    if key is None and all(isinstance(value, torch.Tensor) for value in content.values()):
        content = {"model": content}
    elif key is not None:
        content["model"] = content.pop(key)
    weights = content.get("model")
    if not weights or not all(_is_weight(value) for value in weights.values()):
        found = f"keys {', '.join(map(str, content))}" if content else type(data).__name__
        raise CheckpointError(
            f"{path} holds no weights: wanted names and tensors, at the top or under one of "
            f"{', '.join(WEIGHT_KEYS)}, got {found:.100}"
        )
    return content


def _is_weight(value: Any) -> bool:
    """Whether a value is a tensor, or an array that can become one."""
    return isinstance(value, torch.Tensor) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.dtype.isnative
    )


def _describe_zoo_format(path: str, data: Any) -> dict[str, Any]:
    """Tell Detectron2's own ``.pkl`` from Caffe2's, as Detectron2's loader does."""
    if isinstance(data, dict) and "model" in data and "__author__" in data:
        return _with_model(path, data)
    if isinstance(data, dict):
        data = data.get("blobs", data)  # detectors have it, ImageNet models don't
        data = {"model": {k: v for k, v in data.items() if not k.endswith("_momentum")}}
    return {**_with_model(path, data), "__author__": "Caffe2", "matching_heuristics": True}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """What Python 3 writes for bytes in its older pickle protocols."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"Unsupported GLOBAL _codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _allowed_names() -> dict[tuple[str, str], Callable[..., Any]]:
    """Everything that a pickle may name: makers of arrays, numbers and containers."""
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _encode,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = multiarray._reconstruct
        names[f"{core}.multiarray", "scalar"] = multiarray.scalar
        names[f"{core}.numeric", "_frombuffer"] = numeric._frombuffer  # type: ignore[attr-defined]
    for builtins in ("builtins", "__builtin__"):
        for kind in (set, frozenset, bytearray, complex):
            names[builtins, kind.__name__] = kind
    return names


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that refuses every name but those of :func:`_allowed_names`."""

    allowed = _allowed_names()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"Unsupported GLOBAL {module}.{name}")
        return self.allowed[module, name]


def _read_pickle(path: str) -> Any:
    with open(path, "rb") as file:
        return _ArrayUnpickler(file, encoding="latin1").load()
