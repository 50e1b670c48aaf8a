"""The check that a detector runs a backbone's network, and on the input that it was trained on.

Every builder of a backbone makes it, so it holds for this project's commands, for Detectron2's
trainer and predictor, and for projects with their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from nasnet_det import libraries
from nasnet_det.config import ConfigError
from nasnet_det.detection.config import network_arguments
from nasnet_det.genotype import Genotype
from nasnet_det.network_config import config_errors, resolve_network
from nasnet_det.plan import NetworkSpec, find_differences
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.weights.backbone_file import make_card, read_card, read_library_card
from nasnet_det.weights.file import read_description, read_weights
from nasnet_det.weights.packaged import resolve_packaged
from nasnet_det.weights.published import find_weights

CHECKPOINT_KEY = "backbone"
"""Under which a detector's checkpoint has its :func:`describe_backbone`."""

LIBRARIES = ("timm", "torchvision")
"""Whose networks are backbones too; in capitals the node of ``MODEL`` that names one."""

# Fields of the network that decide what the weights compute; the rest is about training.
_FIELDS = (
    *("num_cells_per_stage", "channels", "stem", "stem_multiplier", "skip_reduction_input"),
    *("extra_reduction_cells", "norm_eps", "pool_padding"),
)
_INPUT = ("format", "pixel_mean", "pixel_std")
_KEYS = {*_INPUT, "cells", *_FIELDS}
_LIBRARY_KEYS = {*_INPUT, "library", "name"}


def compare_preprocessing(
    cfg: CfgNode, channels: str, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> list[str]:
    """What a config's input has different from that of a training, key by key.

    Args:
        cfg: the config.
        channels: ``RGB`` or ``BGR``.
        pixel_mean, pixel_std: 3 numbers in that order, in the scale of bytes.
    """
    faults = []
    if channels != cfg.INPUT.FORMAT:
        faults.append(f"INPUT.FORMAT: wanted {channels}, got {cfg.INPUT.FORMAT}")
    for key, wanted in (("PIXEL_MEAN", pixel_mean), ("PIXEL_STD", pixel_std)):
        got = cfg.MODEL[key]
        if len(got) != 3 or any(abs(a - b) > 1e-3 for a, b in zip(got, wanted, strict=True)):
            faults.append(f"MODEL.{key}: wanted {list(wanted)}, got {list(got)}")
    return faults


def describe_backbone(cfg: CfgNode) -> dict[str, Any]:
    """What decides what the backbone of a config computes of an image.

    Returns:
        plain values; empty if the backbone is neither a NASNet nor a library's.

    Raises:
        ConfigError: there is no such network.
    """
    if library := find_library(cfg):
        name = cfg.MODEL[library.upper()].NAME
        return _describe_library(
            library, name, cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        )
    if "nasnet" not in cfg.MODEL.BACKBONE.NAME:
        return {}
    no_fields = ("activation_checkpointing", "drop_path_iters")
    arguments = {k: v for k, v in network_arguments(cfg).items() if k not in no_fields}
    with config_errors():
        spec, genotype = resolve_network(**arguments)
    return _describe(spec, genotype, cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)


def check_backbone(cfg: CfgNode) -> None:
    """Compare a config with what ``MODEL.WEIGHTS`` says about the backbone in it.

    The weights may be an exported backbone, or a checkpoint of a classifier or of a detector. Of
    converted ones the input is compared, and that their pools were not forgotten. Those that say
    nothing are not compared.

    Of a library's network it is also seen that there is one of its name, and that its own weights
    get the input that they were trained on.

    Raises:
        ConfigError: network or preprocessing differ; every difference is named.
        FileError: the file's card can't be understood.
        MissingPackageError: the library is not installed.
    """
    now = describe_backbone(cfg)
    if not now:
        return
    if "library" in now:
        _check_library(cfg, now["library"])
    else:
        _check_converted(cfg)
    trained = read_backbone_description(resolve_packaged(cfg.MODEL.WEIGHTS))
    if not trained:
        return
    faults = compare_preprocessing(
        cfg, trained["format"], trained["pixel_mean"], trained["pixel_std"]
    )
    if "library" in now or "library" in trained:
        if (wanted := _name_network(trained)) != (got := _name_network(now)):
            faults.append(f"MODEL.BACKBONE: wanted {wanted}, got {got}")
    elif differences := find_differences(*_read_network(trained), *_read_network(now)):
        faults.append(f"MODEL.NASNET: {', '.join(differences)}")
    if faults:
        raise ConfigError(
            f"{cfg.MODEL.WEIGHTS} was trained as another backbone than this config's: "
            f"{'; '.join(faults)}"
        )


def find_library(cfg: CfgNode) -> str:
    """The library that the backbone of a config is of, "" for none."""
    for name in LIBRARIES:
        ends = (f"build_{name}", f"build_{name}_fpn", f"build_retinanet_{name}_fpn")
        if cfg.MODEL.BACKBONE.NAME.removesuffix("_backbone") in ends:
            return name
    return ""


def _check_library(cfg: CfgNode, library: str) -> None:
    node = cfg.MODEL[library.upper()]
    key = f"MODEL.{library.upper()}.NAME"
    if not node.NAME:
        raise ConfigError(f"{key}: wanted a network of {library}, such as resnet50, got ''")
    if library == "timm":
        libraries.check_timm_name(node.NAME, key)
        wanted = libraries.get_timm_preprocessing(node.NAME) if node.PRETRAINED else None
    else:
        libraries.check_torchvision_name(node.NAME, node.WEIGHTS, key)
        wanted = (
            libraries.get_torchvision_preprocessing(node.NAME, node.WEIGHTS)
            if node.WEIGHTS
            else None
        )
    if wanted is None:
        return
    if faults := compare_preprocessing(cfg, "RGB", wanted.mean, wanted.std):
        raise ConfigError(
            f"{library}'s weights of {node.NAME} were trained otherwise than this config says: "
            f"{'; '.join(faults)}"
        )


def _name_network(description: Mapping[str, Any]) -> str:
    if "library" not in description:
        return "a NASNet"
    return f"{description['library']}'s {description['name']}"


def _check_converted(cfg: CfgNode) -> None:
    try:
        converted = read_description(find_weights(cfg.MODEL.WEIGHTS))
    except CheckpointError:
        return  # who loads the weights says so
    faults = []
    if prepared := converted.get("preprocessing"):
        mean, std = ([255 * value for value in prepared[key]] for key in ("mean", "std"))
        faults += compare_preprocessing(cfg, prepared["channels"], mean, std)
    pools = converted.get("pool_padding", "tf")
    if not cfg.MODEL.NASNET.POOL_PADDING and pools != "tf":
        faults.append(
            f"MODEL.NASNET.POOL_PADDING: wanted {pools}, which nasnet_det.detection.adopt_pools"
            "(cfg) sets, got ''"
        )
    if faults:
        raise ConfigError(
            f"{cfg.MODEL.WEIGHTS} was trained otherwise than this config says: {'; '.join(faults)}"
        )


def _describe(
    spec: NetworkSpec,
    genotype: Genotype,
    pixel_format: str,
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
) -> dict[str, Any]:
    cells = genotype.to_dict()
    return {
        "format": pixel_format,
        "pixel_mean": list(pixel_mean),
        "pixel_std": list(pixel_std),
        "cells": {kind: cells[kind] for kind in ("normal", "reduction")},
        **{name: getattr(spec, name) for name in _FIELDS},
    }


def _describe_library(
    library: str,
    name: str,
    pixel_format: str,
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
) -> dict[str, Any]:
    architecture, _, _ = name.partition(".")  # behind it the tag of the weights
    return {
        "library": library,
        "name": architecture,
        "format": pixel_format,
        "pixel_mean": list(pixel_mean),
        "pixel_std": list(pixel_std),
    }


def _read_network(description: Mapping[str, Any]) -> tuple[NetworkSpec, Genotype]:
    spec = NetworkSpec(**{name: description[name] for name in _FIELDS})
    return spec, Genotype.from_dict(description["cells"])


def read_backbone_description(path: str) -> Mapping[str, Any]:
    """What a file of weights says, as :func:`describe_backbone` does; {} if nothing."""
    library = read_library_card(path)
    if library is not None:
        return _describe_library(
            library.library, library.name, library.format, library.pixel_mean, library.pixel_std
        )
    card = read_card(path)
    if card is None and os.path.isfile(path) and path.endswith(".pth"):
        try:
            state = read_weights(path, mmap=True)
        except CheckpointError:
            return {}  # who loads the weights says so
        description = state.get(CHECKPOINT_KEY)
        if isinstance(description, Mapping) and (
            description.keys() >= _KEYS or description.keys() >= _LIBRARY_KEYS
        ):
            return description
        if {"genotype", "spec"} <= state.keys():
            card = make_card(state, path)
    if card is None:
        return {}
    return _describe(card.spec, card.genotype, card.format, card.pixel_mean, card.pixel_std)
