"""Networks of timm and torchvision by name, and the input that their weights want.

Both are imported when a name of theirs is asked for; timm comes with the extra ``timm``.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from nasnet_det.config import ConfigError
from nasnet_det.errors import requires
from nasnet_det.near_names import nearest_of_many


class Preprocessing(NamedTuple):
    """The input of published weights.

    Attributes:
        mean, std: RGB, in the scale of bytes.
        size: height and width that they were trained with.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int


def import_timm() -> Any:
    """The package timm.

    Raises:
        MissingPackageError: it is not installed.
    """
    with requires("timm"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch, about what timm is made with
        return importlib.import_module("timm")


def check_timm_name(name: str, key: str) -> None:
    """See that timm has a network of a name, before anything is built or downloaded.

    Args:
        name: of the network, with or without the tag of its weights (``resnet50.a1_in1k``), or what
            timm finds elsewhere (``hf-hub:owner/name``), of which nothing is known yet.
        key: of the config, where the name stands.

    Raises:
        ConfigError: it has none; the nearest is named.
        MissingPackageError: timm is not installed.
    """
    timm = import_timm()
    if ":" in name:
        return
    architecture, _, tag = name.partition(".")
    _check_name(architecture, timm.list_models(), key, "timm")
    if tag:
        tagged = timm.list_models(f"{architecture}.*", pretrained=True)
        _check_name(name, tagged, key, "timm")


def get_timm_preprocessing(name: str) -> Preprocessing | None:
    """The input of the weights of a name that :func:`check_timm_name` has seen; None: unknown."""
    about = import_timm().models.get_pretrained_cfg(name) if ":" not in name else None
    return _read_timm(about.to_dict()) if about else None


def read_timm_preprocessing(model: nn.Module) -> Preprocessing:
    """The input of a network of timm."""
    return _read_timm(import_timm().data.resolve_model_data_config(model))


def _read_timm(about: dict[str, Any]) -> Preprocessing:
    return Preprocessing(_to_bytes(about["mean"]), _to_bytes(about["std"]), about["input_size"][-1])


def build_timm(name: str, key: str, *, pretrained: bool, **arguments: Any) -> nn.Module:
    """A network of timm.

    Args:
        name, key: see :func:`check_timm_name`.
        pretrained: with the weights that timm has for it.
        **arguments: of ``timm.create_model``.

    Raises:
        ConfigError: there is none, it can't be built like this, or its weights can't be had.
        MissingPackageError: timm is not installed.
    """
    check_timm_name(name, key)
    try:
        model: nn.Module = import_timm().create_model(name, pretrained=pretrained, **arguments)
    except Exception as error:  # an argument that it has not, or everything that a network can do
        raise _refuse(f"timm's {name}", key, error) from None
    return model


def check_torchvision_name(name: str, weights: str, key: str) -> None:
    """See that torchvision has a classifier of a name, and weights for it.

    Args:
        name: such as ``resnet50``.
        weights: of the name's weights, such as ``IMAGENET1K_V2`` or ``DEFAULT``; "" for none.
        key: of the config, where the name stands; that of the weights ends with ``WEIGHTS``.

    Raises:
        ConfigError: it has none; the nearest is named.
    """
    from torchvision import models

    _check_name(name, models.list_models(module=models), key, "torchvision")
    if weights:
        node, _, _ = key.rpartition(".")
        known = models.get_model_weights(name).__members__
        _check_name(weights, known, f"{node}.WEIGHTS", f"torchvision's {name}")


def get_torchvision_preprocessing(name: str, weights: str) -> Preprocessing:
    """The input of weights that :func:`check_torchvision_name` has seen."""
    from torchvision import models

    about = models.get_model_weights(name)[weights].transforms()  # type: ignore[index]
    return Preprocessing(_to_bytes(about.mean), _to_bytes(about.std), about.crop_size[0])


def build_torchvision(name: str, weights: str, key: str) -> nn.Module:
    """A classifier of torchvision.

    Args:
        name, weights, key: see :func:`check_torchvision_name`.

    Raises:
        ConfigError: there is none, or its weights can't be had.
    """
    from torchvision import models

    check_torchvision_name(name, weights, key)
    try:
        return models.get_model(name, weights=weights or None)
    except Exception as error:  # everything that a network can do
        raise _refuse(f"torchvision's {name}", key, error) from None


def _check_name(name: str, known: Sequence[str] | Any, key: str, library: str) -> None:
    if name not in known:
        hint = nearest_of_many(name, known)
        raise ConfigError(f"{key}: {library} has no {name!r}, {hint}", where=key, got=name)


def _refuse(what: str, key: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ConfigError(f"{key}: {what} can't be had ({reason:.300})", where=key)


def _to_bytes(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(255 * value, 3) for value in values)
