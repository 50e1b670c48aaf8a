"""Fine-tuning: a training that starts from the weights of an earlier one, ours or published."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from yacs.config import CfgNode

from nasnet_det.classification.checkpoint import get_evaluated_weights, load_checkpoint
from nasnet_det.classification.published import is_published
from nasnet_det.config import ConfigError
from nasnet_det.genotype import Genotype
from nasnet_det.network import NASNet
from nasnet_det.plan import NetworkSpec, find_differences
from nasnet_det.weights.backbone_file import make_card, read_card
from nasnet_det.weights.file import read_weights
from nasnet_det.weights.packaged import resolve_packaged
from nasnet_det.weights.published import load_published

TRUNK = "trunk."

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialWeights:
    """Weights of a classifier or of its trunk, and what they were trained for.

    Attributes:
        weights: under the names of :class:`~nasnet_det.network.NASNet`.
        spec, genotype: the network.
        classes: names in the order of the last layer; () if they are not known.
        pixel_mean, pixel_std: of the input, RGB in the scale of bytes.
    """

    weights: dict[str, torch.Tensor]
    spec: NetworkSpec
    genotype: Genotype
    classes: tuple[str, ...]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]


def read_initial_weights(path: str) -> InitialWeights:
    """Read what ``MODEL.WEIGHTS`` may name for a training.

    Args:
        path: a checkpoint of a classifier, a file of ``export-backbone``, published or packaged
            weights (``nasnet://NAME``) or a file of ``convert-weights``.

    Raises:
        CheckpointError: the file is missing, damaged or refused, or does not say what it is of.
    """
    path = resolve_packaged(path)
    if is_published(path):
        converted = load_published(path)
        trunk, about = converted.build_model().trunk, converted.metadata["preprocessing"]
        mean, std = (tuple(255 * value for value in about[key]) for key in ("mean", "std"))
        return InitialWeights(converted.weights, trunk.spec, trunk.genotype, (), mean, std)
    card = read_card(path)
    if card is not None:
        weights = read_weights(path)["model"]
    else:
        state = load_checkpoint(Path(path))
        card, weights = make_card(state, path), get_evaluated_weights(state)
    return InitialWeights(
        weights, card.spec, card.genotype, card.classes, card.pixel_mean, card.pixel_std
    )


def load_initial_weights(model: NASNet, cfg: CfgNode, classes: Sequence[str]) -> None:
    """Start a model from ``MODEL.WEIGHTS``: its trunk, and its last layers where the classes agree.

    What is made anew is logged as a warning.

    Args:
        model: changed in place.
        cfg: its config.
        classes: what it is to tell apart.

    Raises:
        ConfigError: network or input of the weights are others.
        CheckpointError: see :func:`read_initial_weights`.
    """
    path = cfg.MODEL.WEIGHTS
    found = read_initial_weights(path)
    faults = find_differences(found.spec, found.genotype, model.trunk.spec, model.trunk.genotype)
    faults += [
        f"DATA.{key} was {list(was)}, is {list(cfg.DATA[key])}"
        for key, was in (("PIXEL_MEAN", found.pixel_mean), ("PIXEL_STD", found.pixel_std))
        if any(abs(a - b) > 1e-3 for a, b in zip(was, cfg.DATA[key], strict=True))
    ]
    trunk = {k: v for k, v in found.weights.items() if k.startswith(TRUNK)}
    expected = {k: v for k, v in model.state_dict().items() if k.startswith(TRUNK)}
    missing = [k for k in expected if k not in trunk and not k.endswith("num_batches_tracked")]
    other = [k for k in trunk if k not in expected or trunk[k].shape != expected[k].shape]
    if missing or other:
        names = ", ".join([*missing, *other][:3])
        faults.append(
            f"{len(missing)} of its weights are missing and {len(other)} others ({names})"
        )
    if faults:
        raise ConfigError(
            f"MODEL.WEIGHTS: {path} is of another network or input: {'; '.join(faults)}; give its "
            "settings, or other weights"
        )
    heads: dict[str, torch.Tensor] = {}
    anew = []
    for name, head in model.named_children():
        mine = {f"{name}.{key}": value for key, value in head.state_dict().items()}
        if name == TRUNK.rstrip(".") or not mine:
            continue
        given = {key: found.weights[key] for key in mine if key in found.weights}
        fits = {k: v.shape for k, v in given.items()} == {k: v.shape for k, v in mine.items()}
        if fits and found.classes == tuple(classes):
            heads |= given
        else:
            anew.append(name)
    model.load_state_dict({**model.state_dict(), **trunk, **heads})
    logger.info("The trunk starts from %s", path)
    if anew:
        logger.warning(
            "Made anew, as classes or sizes are not those of %s: %s", path, " and ".join(anew)
        )
