"""Networks of timm and torchvision in the place of a NASNet: ``MODEL.NETWORK timm:resnet18``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from nasnet_det import libraries
from nasnet_det.classification.checkpoint import get_evaluated_weights
from nasnet_det.config import ConfigError
from nasnet_det.weights.backbone_file import LibraryCard, save_library_backbone

KEY = "MODEL.NETWORK"
TRUNK = "trunk."


class LibraryClassifier(nn.Module):
    """A classifier of another library, with a last layer for the classes of the data.

    Args:
        network: ``timm:NAME`` or ``torchvision:NAME``; see :func:`check_network`.
        num_classes: C.
        image_size: height and width of the pictures, which some networks must know.
        pretrained: start from the library's weights.

    Attributes:
        network: as given.
        trunk: the network up to its pooled features, under the library's names.
        num_features: length of these.

    Raises:
        ConfigError: there is no such network, or it can't be trained.
    """

    def __init__(
        self, network: str, num_classes: int, *, image_size: int, pretrained: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        library, _, name = network.partition(":")
        if library == "timm":
            self.trunk = libraries.build_timm(name, KEY, pretrained=pretrained, num_classes=0)
        else:
            self.trunk = libraries.build_torchvision(name, "DEFAULT" if pretrained else "", KEY)
            _drop_last_linear(self.trunk, network)
        try:
            with torch.no_grad():
                pooled = self.trunk.eval()(torch.zeros(1, 3, image_size, image_size))
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{KEY}: {network} can't take pictures of DATA.IMAGE_SIZE {image_size} "
                f"({reason:.200})"
            ) from None
        self.train()
        self.num_features = pooled.shape[1]
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(self.num_features, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> logits (B, C)."""
        logits: torch.Tensor = self.classifier(self.dropout(self.trunk(image)))
        return logits


def _drop_last_linear(model: nn.Module, network: str) -> None:
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ConfigError(f"{KEY}: wanted a network whose last layer is linear, got {network}")
    parent, _, name = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())


def check_network(cfg: CfgNode) -> None:
    """See that there is a network of the name in ``MODEL.NETWORK``, and that its keys fit.

    Raises:
        ConfigError: there is none, or a key has no effect on it.
        MissingPackageError: timm is not installed.
    """
    network = cfg.MODEL.NETWORK
    if not network:
        if cfg.MODEL.PRETRAINED:
            raise ConfigError(
                f"MODEL.PRETRAINED: wanted False without {KEY}; MODEL.WEIGHTS starts a NASNet"
            )
        return
    library, _, name = network.partition(":")
    if library not in ("timm", "torchvision") or not name:
        raise ConfigError(f"{KEY}: wanted timm:NAME or torchvision:NAME, got {network!r}")
    if cfg.AUX.WEIGHT:
        raise ConfigError(
            f"AUX.WEIGHT: wanted 0, since {network} has no auxiliary head, got {cfg.AUX.WEIGHT}"
        )
    if library == "timm":
        libraries.check_timm_name(name, KEY)
        wanted = libraries.get_timm_preprocessing(name)
    else:
        libraries.check_torchvision_name(name, "", KEY)
        wanted = libraries.get_torchvision_preprocessing(name, "DEFAULT")
    if cfg.MODEL.PRETRAINED and wanted is not None:
        for key, values in (("PIXEL_MEAN", wanted.mean), ("PIXEL_STD", wanted.std)):
            if any(abs(a - b) > 1e-3 for a, b in zip(cfg.DATA[key], values, strict=True)):
                raise ConfigError(
                    f"DATA.{key}: wanted {list(values)}, with which {network} was trained, got "
                    f"{list(cfg.DATA[key])}"
                )


def export_library_backbone(
    state: Mapping[str, Any], output: str | os.PathLike[str], *, half: bool = False
) -> LibraryCard:
    """Write the trunk of a checkpoint for a detector's ``MODEL.WEIGHTS``.

    Args:
        state: of the checkpoint.
        output: a name that ends with ``.safetensors``.
        half: convolutions in float16.

    Returns:
        what the file says about itself.
    """
    library, _, name = state["network"].partition(":")
    config = state["config"]
    card = LibraryCard(
        library=library,
        name=name,
        pixel_mean=tuple(config["DATA.PIXEL_MEAN"]),
        pixel_std=tuple(config["DATA.PIXEL_STD"]),
        format="RGB",
        score=state["score"],
        classes=tuple(state["classes"]),
        config=dict(config),
        version=state["version"],
    )
    weights = {
        key.removeprefix(TRUNK): value.half() if half and value.ndim > 1 else value
        for key, value in get_evaluated_weights(state).items()
        if key.startswith(TRUNK)
    }
    save_library_backbone(output, weights, card)
    return card
