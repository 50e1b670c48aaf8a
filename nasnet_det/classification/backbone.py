"""A trained classifier as the backbone of a detector: one file for its ``MODEL.WEIGHTS``."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from nasnet_det import __version__
from nasnet_det.classification.checkpoint import get_evaluated_weights, load_checkpoint
from nasnet_det.classification.library_classifier import export_library_backbone
from nasnet_det.classification.unreached_taps import clear_unreached_taps
from nasnet_det.plan import override_spec
from nasnet_det.runs.files import FileError
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import resolve_variant
from nasnet_det.weights import read_weights
from nasnet_det.weights.backbone_file import (
    BackboneCard,
    LibraryCard,
    make_card,
    read_card,
    save_backbone,
)
from nasnet_det.weights.file import read_description
from nasnet_det.weights.published import PREFIX, load_published

TRUNK = "trunk."
SCHEME = "nasnet:/"  # as a Path has it, which knows no //

logger = logging.getLogger(__name__)


def export_backbone(
    checkpoint: str | os.PathLike[str], output: str | os.PathLike[str], *, half: bool = False
) -> BackboneCard | LibraryCard:
    """Write the trunk of a classifier's checkpoint, the moving average where there is one.

    Taps of kernels that were only ever over the padding become zeros; see
    :func:`~nasnet_det.classification.unreached_taps.clear_unreached_taps`.

    Args:
        checkpoint: of a training, such as ``model_best.pth``.
        output: a name that ends with ``.safetensors``.
        half: write the convolutions in float16, in half of the space. Normalizations stay float32.

    Returns:
        what the file says about itself. Whatever builds a detector compares it with its config.

    Raises:
        FileError: the checkpoint can't be read, or the output can't be written or has another
            ending.
    """
    if Path(output).suffix != ".safetensors":
        raise FileError(f"wanted an output that ends with .safetensors, got {output}")
    state = load_checkpoint(Path(checkpoint))
    if "network" in state:
        return export_library_backbone(state, output, half=half)
    card = make_card(state, str(checkpoint))
    weights = get_evaluated_weights(state)
    network = NASNetTrunk(card.spec, card.genotype)
    network.load_state_dict(
        {k.removeprefix(TRUNK): v for k, v in weights.items() if k.startswith(TRUNK)}
    )
    counts = clear_unreached_taps(network, card.spec.input_size)
    if counts:
        logger.info("Zeros where %d kernels were only over the padding", len(counts))
    trunk = {TRUNK + k: v for k, v in network.state_dict().items()}
    if half:
        trunk = {k: v.half() if v.ndim > 1 else v for k, v in trunk.items()}
    save_backbone(output, trunk, card)
    return card


def read_network(
    path: str | os.PathLike[str],
) -> tuple[BackboneCard, dict[str, torch.Tensor], bool]:
    """Card and weights of a checkpoint or a backbone's file, and whether it is a trunk alone.

    Args:
        path: of the file, of one that ``nasnet-det convert-weights`` wrote, or ``nasnet://`` with
            the name of published weights.

    Raises:
        FileError: it can't be read, or says not what it is.
        CheckpointError: published weights can't be had, or are a detector's.
    """
    name = os.fspath(path)
    if name.startswith(SCHEME):
        return _read_published(PREFIX + name.removeprefix(SCHEME).lstrip("/"))
    if read_description(name):
        return _read_published(name)
    if Path(path).suffix != ".safetensors":
        state = load_checkpoint(Path(path))
        if "network" in state:
            raise FileError(
                f"{path}: wanted a NASNet, got {state['network']}; use nasnet-det export-backbone "
                "for a detector, or the export of its library"
            )
        return make_card(state, str(path)), get_evaluated_weights(state), False
    weights = read_weights(os.fspath(path))["model"]
    card = read_card(path)
    if card is None:
        raise FileError(f"{path}: wanted a file of nasnet-det export-backbone, got other weights")
    return card, weights, True


def _read_published(path: str) -> tuple[BackboneCard, dict[str, torch.Tensor], bool]:
    converted = load_published(path)
    model, about = converted.build_model(), converted.metadata
    spec, genotype = resolve_variant(about["variant"])
    card = BackboneCard(
        genotype=genotype,
        spec=override_spec(spec, pool_padding=about["pool_padding"], **about["spec"]),
        pixel_mean=tuple(255 * value for value in about["preprocessing"]["mean"]),
        pixel_std=tuple(255 * value for value in about["preprocessing"]["std"]),
        format=about["preprocessing"]["channels"],
        score={},
        classes=tuple(map(str, range(about["num_classes"]))),
        config={},
        version=__version__,
    )
    return card, model.state_dict(), not about["num_classes"]
