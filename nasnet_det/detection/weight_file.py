"""Files of weights: read without running what may be inside, and matched with a model.

``.pth`` goes through ``torch.load(weights_only=True)``, ``.safetensors`` through safetensors, and
``.pkl``, the format of Detectron2's model zoo, through an unpickler that knows arrays and plain
containers only. There is no fall-back to unsafe loading.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from fvcore.common.checkpoint import _IncompatibleKeys

from nasnet_det.files import FileError

try:
    from numpy._core import multiarray, numeric
except ImportError:  # numpy 1
    from numpy.core import multiarray, numeric  # type: ignore[no-redef]

# Under these keys lie the tensors of files that hold more than tensors.
WEIGHT_KEYS = ("model", "model_state", "state_dict", "weights")
# Where a file with the keys of a classifier or of its trunk may belong. What is left over goes to
# the second half of a C4 detector.
BACKBONE_PREFIXES = (
    "",
    *("backbone.", "backbone.bottom_up."),
    *("backbone.trunk.", "backbone.bottom_up.trunk."),
)
HEAD_PREFIXES = ("roi_heads.res5.", "roi_heads.res5.trunk.")
FPN_PARTS = ("backbone.fpn_", "backbone.top_block.")

logger = logging.getLogger(__name__)


class CheckpointError(FileError):
    """A file of weights that can't be read."""


class WeightsError(CheckpointError):
    """Weights that don't fit the model."""


def read_weights(path: str, *, mmap: bool = False) -> dict[str, Any]:
    """Read a file of weights.

    Args:
        path: ``.pth`` (or any other name that torch's format has), ``.safetensors`` or ``.pkl``.
        mmap: leave the tensors of a ``.pth`` on the disk until they are used.

    Returns:
        ``model``: names -> tensors or arrays, and whatever else the file holds.

    Raises:
        CheckpointError: the file is missing, truncated, refused or holds no weights.
    """
    extension = os.path.splitext(path)[1]
    try:
        if extension == ".safetensors":
            return _with_model(path, _read_safetensors(path))
        if extension == ".pkl":
            return _describe_zoo_format(path, _read_pickle(path))
        data = _with_model(path, _read_torch(path, mmap=mmap))
        if extension == ".pyth":  # pycls
            data["matching_heuristics"] = True
        return data
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read ({error.strerror or error})") from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # both unpicklers say so
            raise CheckpointError(
                f"{path} is refused: it holds Python objects, which could run code, instead of "
                "only tensors, numbers and plain containers"
            ) from None
        raise CheckpointError(f"{path} is truncated or no file of weights") from None
    except Exception:  # the readers raise anything from EOFError to KeyError on broken bytes
        raise CheckpointError(f"{path} is truncated or no file of weights") from None


def _read_torch(path: str, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)
    except RuntimeError as error:
        if mmap and "mmap" in str(error):  # torch's format before 1.6
            return torch.load(path, map_location="cpu", weights_only=True)
        raise


def _read_safetensors(path: str) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f"{path} needs safetensors: run pip install safetensors") from None
    return load_file(path)


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


def match_prefix(state: Mapping[str, Any], model_keys: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a bare backbone to those of the detector, by the best of the prefixes."""
    if all(key.startswith("module.") for key in state):  # saved from a DistributedDataParallel
        state = {key[len("module.") :]: value for key, value in state.items()}
    own = max(BACKBONE_PREFIXES, key=lambda prefix: sum(prefix + k in model_keys for k in state))
    if not own:
        return dict(state)
    rest = [key for key in state if own + key not in model_keys]
    head = max(HEAD_PREFIXES, key=lambda prefix: sum(prefix + k in model_keys for k in rest))
    renamed = {}
    for key, value in state.items():
        name = next((p + key for p in (own, head) if p + key in model_keys), key)
        renamed[name] = value
    return renamed


def check_matches(
    file: str, incompatible: _IncompatibleKeys, model_keys: list[str], *, exact: str = ""
) -> None:
    """Log how well a file fitted; raise :class:`WeightsError` if it hardly did.

    Args:
        file: its name.
        incompatible: what Detectron2 found.
        model_keys: all keys of the model.
        exact: if true, everything must fit.
    """
    shapes = [key for key, _, _ in incompatible.incorrect_shapes]
    unfit = set(incompatible.missing_keys) | set(shapes)
    missing = [key for key in incompatible.missing_keys if key not in shapes]
    unexpected = incompatible.unexpected_keys
    trunk = _trunk_keys(model_keys)
    num_matched = sum(key not in unfit for key in trunk)
    counts = (
        f"{file}: {num_matched} of {len(trunk)} tensors of the backbone and "
        f"{len(model_keys) - len(unfit)} of {len(model_keys)} of the model matched, "
        f"{len(missing)} missing{_first(missing)}, {len(unexpected)} unexpected"
        f"{_first(unexpected)}, {len(shapes)} of another shape{_first(shapes)}"
    )
    if exact and (unfit or unexpected):
        raise WeightsError(f"{counts}; it is a checkpoint of another model")
    if 2 * num_matched < len(trunk):
        raise WeightsError(
            f"{counts}; training would start from noise, so give MODEL.WEIGHTS of this backbone, "
            "the MODEL.BACKBONE and MODEL.NASNET of these weights, or MODEL.WEIGHTS ''"
        )
    logger.info("%s", counts)


def _trunk_keys(model_keys: list[str]) -> list[str]:
    """Keys of the backbone without its FPN and without the counters of batch normalizations."""
    keys = [key for key in model_keys if key.startswith("backbone.bottom_up.")] or [
        key for key in model_keys if key.startswith("backbone.")
    ]
    return [
        key
        for key in keys
        if not key.startswith(FPN_PARTS) and not key.endswith("num_batches_tracked")
    ]


def _first(keys: list[str]) -> str:
    return f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""
