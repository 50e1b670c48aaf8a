"""A trained backbone in one file: what the classification writes and the detector reads.

It is a safetensors file with the weights of the trunk, and with a card in its metadata: genotype,
network, preprocessing and accuracy, from which the detector sees that it runs the same network on
the same kind of input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nasnet_det.genotype import Genotype
from nasnet_det.network_config import NETWORK_KEYS
from nasnet_det.plan import NetworkSpec
from nasnet_det.runs.files import FileError, write_content

_LIBRARY_KEY = "nasnet_det_library_backbone"
_KEY = "nasnet_det_backbone"  # converted weights describe themselves under nasnet_det


@dataclass(frozen=True)
class BackboneCard:
    """What is known about the weights of a backbone.

    Attributes:
        genotype: its cells.
        spec: its size.
        pixel_mean, pixel_std: of the input, in the scale of bytes and in the order of ``format``.
        format: ``RGB``.
        score: ``top1`` and ``top5`` on the test images, 0 to 1, after ``iteration`` steps.
        classes: names of what it was trained to tell apart.
        config: what trained it, key by key.
        version: of this package.
    """

    genotype: Genotype
    spec: NetworkSpec
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    format: str
    score: dict[str, float]
    classes: tuple[str, ...]
    config: dict[str, Any]
    version: str

    def get_detector_settings(self) -> dict[str, Any]:
        """Keys of a detector's config and the values that the backbone needs."""
        keys = (f"MODEL.NASNET.{name}" for name in NETWORK_KEYS)
        return {
            **{key: self.config[key] for key in keys if self.config.get(key)},
            "MODEL.PIXEL_MEAN": list(self.pixel_mean),
            "MODEL.PIXEL_STD": list(self.pixel_std),
            "INPUT.FORMAT": self.format,
        }


@dataclass(frozen=True)
class LibraryCard:
    """The same about a network of timm or torchvision, whose names its weights have.

    Attributes:
        library, name: of the network.
        pixel_mean, pixel_std, format, score, classes, config, version: see :class:`BackboneCard`.
    """

    library: str
    name: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    format: str
    score: dict[str, float]
    classes: tuple[str, ...]
    config: dict[str, Any]
    version: str

    def get_detector_settings(self) -> dict[str, Any]:
        """Keys of a detector's config and the values that the backbone needs."""
        return {
            "MODEL.BACKBONE.NAME": f"build_{self.library}_fpn_backbone",
            f"MODEL.{self.library.upper()}.NAME": self.name,
            "MODEL.PIXEL_MEAN": list(self.pixel_mean),
            "MODEL.PIXEL_STD": list(self.pixel_std),
            "INPUT.FORMAT": self.format,
        }


def make_card(state: Mapping[str, Any], source: str) -> BackboneCard:
    """The card of a classifier's checkpoint.

    Args:
        state: what the checkpoint holds.
        source: its path, for messages.

    Raises:
        FileError: it lacks what a card needs.
    """
    config: Any = state.get("config")
    if isinstance(config, str):
        raise FileError(f"{source}: wanted a classifier's checkpoint, got a detector's")
    try:
        return BackboneCard(
            genotype=Genotype.from_dict(state["genotype"], source=source),
            spec=NetworkSpec(**state["spec"]).validate(),
            pixel_mean=tuple(config["DATA.PIXEL_MEAN"]),
            pixel_std=tuple(config["DATA.PIXEL_STD"]),
            format="RGB",
            score=state["score"],
            classes=tuple(state["classes"]),
            config=dict(config),
            version=state["version"],
        )
    except (KeyError, TypeError) as error:
        raise FileError(f"{source} lacks what a backbone's card needs: {error}") from None


def save_backbone(
    path: str | os.PathLike[str], weights: Mapping[str, torch.Tensor], card: BackboneCard
) -> None:
    """Write a backbone's file in one step.

    Raises:
        FileError: the disk is full or can't be written to.
    """
    _save(path, weights, _KEY, {**asdict(card), "genotype": card.genotype.to_dict()})


def save_library_backbone(
    path: str | os.PathLike[str], weights: Mapping[str, torch.Tensor], card: LibraryCard
) -> None:
    """The same of a network of timm or torchvision."""
    _save(path, weights, _LIBRARY_KEY, asdict(card))


def _save(
    path: str | os.PathLike[str], weights: Mapping[str, torch.Tensor], key: str, about: Any
) -> None:
    from safetensors.torch import save

    metadata = {"format": "pt", key: json.dumps(about)}
    write_content(path, save({k: v.contiguous() for k, v in weights.items()}, metadata))


def read_card(path: str | os.PathLike[str]) -> BackboneCard | None:
    """The card of a file; None if it is no file of :func:`save_backbone`.

    Raises:
        FileError: it has a card that can't be understood.
    """
    data = _read(path, _KEY)
    if data is None:
        return None
    try:
        return BackboneCard(
            **{
                **data,
                "genotype": Genotype.from_dict(data["genotype"], source=str(path)),
                "spec": NetworkSpec(**data["spec"]).validate(),
                **{key: tuple(data[key]) for key in ("pixel_mean", "pixel_std", "classes")},
            }
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refuse(path, error) from None


def read_library_card(path: str | os.PathLike[str]) -> LibraryCard | None:
    """The card of a file; None if it is no file of :func:`save_library_backbone`.

    Raises:
        FileError: it has a card that can't be understood.
    """
    data = _read(path, _LIBRARY_KEY)
    if data is None:
        return None
    try:
        tuples = {key: tuple(data[key]) for key in ("pixel_mean", "pixel_std", "classes")}
        return LibraryCard(**{**data, **tuples})
    except (KeyError, TypeError) as error:
        raise _refuse(path, error) from None


def _read(path: str | os.PathLike[str], key: str) -> dict[str, Any] | None:
    """What a file's metadata has under a key; None if nothing."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), "pt") as file:
            text = (file.metadata() or {}).get(key)
    except (OSError, SafetensorError):
        return None  # who reads the weights says so
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise _refuse(path, error) from None


def _refuse(path: str | os.PathLike[str], error: Exception) -> FileError:
    reason = " ".join(str(error).split())
    return FileError(f"{path}: its card can't be understood ({reason:.200})")
