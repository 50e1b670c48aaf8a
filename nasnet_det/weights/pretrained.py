"""Trained classifiers in one line: ``create_model("nasnet_a_large", pretrained=True)``."""

from __future__ import annotations

import logging
from typing import Any

from nasnet_det import network
from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.near_names import nearest
from nasnet_det.plan import find_differences
from nasnet_det.weights.backbone_file import read_card
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.file import read_weights
from nasnet_det.weights.packaged import find_packaged, list_packaged
from nasnet_det.weights.published import PREFIX, PUBLISHED, load_published

ORIGINS = ("timm", "keras", "cadene", "tf_slim")
"""Who published weights, in the order of preference."""

logger = logging.getLogger(__name__)


def create_model(
    name_or_genotype: str | Genotype = "nasnet_a_mobile",
    num_classes: int = 1000,
    *,
    pretrained: bool | str = False,
    **options: Any,
) -> network.NASNet:
    """Build an image classifier, from random or from trained weights.

    Args:
        name_or_genotype: see :func:`nasnet_det.network.create_model`; with ``pretrained`` a
            published name, or one of the weights that come with the package
            (``nasnet_a_small``, a trunk alone).
        num_classes: length of the logits; 0 for the pooled features in place of logits. Where the
            weights tell others apart than this many classes, the last layer is made anew.
        pretrained: take trained weights; a text says whose, such as ``"keras"``.
        **options: further arguments of :func:`nasnet_det.network.create_model`.

    Raises:
        InputError: an unknown name or field, an impossible value, no such weights, or another
            network than theirs.
        CheckpointError: the weights can't be had or read; the sentence says what to do.
    """
    if not pretrained:
        return network.create_model(name_or_genotype, num_classes, **options)
    if not isinstance(name_or_genotype, str):
        raise InputError("pretrained: wanted the name of a network, got a genotype")
    if options.get("in_chans", 3) != 3:
        raise InputError(f"pretrained: wanted in_chans=3, got {options['in_chans']}")
    if path := find_packaged(name_or_genotype):
        return _create_packaged(path, num_classes, options)
    return _create_published(_choose(name_or_genotype, pretrained), num_classes, options)


def _choose(name: str, pretrained: bool | str) -> str:
    origins = [origin for origin in ORIGINS if f"{name}.{origin}" in PUBLISHED]
    if not origins:
        known = {key.split(".")[0] for key in PUBLISHED} | set(list_packaged())
        raise InputError(f"no weights were published of {name!r}, {nearest(name, known)}")
    if pretrained is True:
        return f"{name}.{origins[0]}"
    if pretrained not in origins:
        raise InputError(f"pretrained: wanted {', '.join(origins)} for {name}, got {pretrained!r}")
    return f"{name}.{pretrained}"


def _create_published(name: str, num_classes: int, options: dict[str, Any]) -> network.NASNet:
    converted = load_published(PREFIX + name)
    about = converted.metadata
    spec = {"pool_padding": about["pool_padding"], **about["spec"], **options}
    model = network.create_model(about["variant"], about["num_classes"], **spec)
    trained = converted.build_model().trunk
    _check_network(model, PREFIX + name, trained.spec, trained.genotype)
    _load(model, converted.weights)
    if num_classes != about["num_classes"]:
        model.reset_classifier(num_classes)
    return model


def _create_packaged(path: str, num_classes: int, options: dict[str, Any]) -> network.NASNet:
    card = read_card(path)
    if card is None:
        raise WeightsError(f"{path} is damaged: it has no card; install the package again")
    config = card.config
    size = {"channels": card.spec.channels, "num_cells_per_stage": card.spec.num_cells_per_stage}
    options = {**size, **options}
    model = network.create_model(config["MODEL.NASNET.VARIANT"], num_classes, **options)
    _check_network(model, path, card.spec, card.genotype)
    _load(model, read_weights(path)["model"])
    return model


def _check_network(model: network.NASNet, source: str, spec: Any, genotype: Genotype) -> None:
    faults = find_differences(spec, genotype, model.trunk.spec, model.trunk.genotype)
    if faults:
        raise InputError(f"{source} is of another network: {'; '.join(faults)}")


def _load(model: network.NASNet, weights: dict[str, Any]) -> None:
    """Take all weights; layers that they lack stay random, and are named."""
    found = model.load_state_dict(weights, strict=False)
    heads = sorted({name.split(".")[0] for name in found.missing_keys} - {"trunk"})
    if heads:
        logger.warning("Made anew, as the weights are of other layers: %s", " and ".join(heads))
