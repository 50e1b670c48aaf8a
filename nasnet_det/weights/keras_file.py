"""Keras's files as ``layer/variable`` -> array: ``.h5`` with names inside, and ``.keras``.

A ``.keras`` file is a zip with the layers in ``config.json``, which is read as plain JSON, and the
arrays in ``model.weights.h5``, which numbers the layers of each class and the variables of each
layer instead of naming them.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from typing import IO, Any

import numpy as np

from nasnet_det.runs.checkpoint import CheckpointError, broken_file
from nasnet_det.weights.error import missing_package

_NAMELESS = (
    "has the arrays without the names of their layers: save the model itself, by "
    "model.save('name.keras') or model.save('name.h5')"
)
_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "BatchNormalization": (
        "batch_normalization",
        ("gamma", "beta", "moving_mean", "moving_variance"),
    ),
    "Conv2D": ("conv2d", ("kernel", "bias")),
    "Dense": ("dense", ("kernel", "bias")),
    "SeparableConv2D": ("separable_conv2d", ("depthwise_kernel", "pointwise_kernel", "bias")),
}
"""Keras's class -> how a ``.keras`` file names its first layer of it, and its variables."""
_NESTED = {"Functional": "functional", "Sequential": "sequential"}
"""Keras's class of a network in another one -> how a ``.keras`` file names the first of it."""


def read_h5(path: str) -> dict[str, np.ndarray]:
    """The arrays of an HDF5 file in which Keras publishes its models.

    Raises:
        CheckpointError: it is broken, or does not name its layers.
    """
    with open(path, "rb") as file:
        return _read_hdf5(path, file, None)


def read_keras(path: str) -> dict[str, np.ndarray]:
    """The arrays of a ``.keras`` file. Nothing that it may hold is executed.

    Raises:
        CheckpointError: it is broken.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            config = json.loads(archive.read("config.json"))
            arrays = io.BytesIO(archive.read("model.weights.h5"))
        names = _name_variables(config["config"]["layers"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RecursionError):
        raise broken_file(path) from None
    return _read_hdf5(path, arrays, names)


def _name_variables(
    layers: list[dict[str, Any]], place: str = "", owner: str = ""
) -> dict[str, str]:
    """Place in ``model.weights.h5`` -> ``layer/variable``, below the name of a nested network.

    Args:
        layers: of a network.
        place, owner: of a nested network, where it lies in the file and its name; with a slash.
    """
    names: dict[str, str] = {}
    count: Counter[str] = Counter()
    for layer in layers:
        kind = layer["class_name"]
        group, variables = _LAYERS.get(kind, (_NESTED.get(kind, ""), ()))
        if not group:
            continue
        number = f"_{count[group]}" if count[group] else ""
        count[group] += 1
        inner = f"{place}layers/{group}{number}/"
        name = layer.get("name") or layer["config"]["name"]
        if kind in _NESTED:
            names |= _name_variables(layer["config"]["layers"], inner, f"{owner}{name}/")
        for i, variable in enumerate(variables):
            names[f"{inner}vars/{i}"] = f"{owner}{name}/{variable}"
    return names


def _read_hdf5(path: str, file: IO[bytes], names: dict[str, str] | None) -> dict[str, np.ndarray]:
    """The arrays under ``names``, or, without, under the names that the file itself gives."""
    try:
        import h5py
    except ImportError:
        raise missing_package(path, "h5py", "weights") from None
    weights: dict[str, np.ndarray] = {}

    def add(place: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if names is None:
            # The group of a layer, and the variable's own name: layer/variable. In that of a nested
            # network the variables of its layers, a group's name before them.
            group, *inner, variable = place.split("/")
            nested = inner[-1:] if inner[-1:] != [group] else []
            weights["/".join([group, *nested, variable.split(":")[0]])] = item[()]
        elif place.startswith("layers/"):  # beside them lies the state of the optimizer
            weights[names.get(place, place)] = item[()]

    try:
        with h5py.File(file) as content:
            group = content.get("model_weights", content)
            if names is None and "layer_names" not in group.attrs:
                raise CheckpointError(f"{path} {_NAMELESS}")
            group.visititems(add)
    except OSError:  # what h5py says of broken bytes
        raise broken_file(path) from None
    return weights
