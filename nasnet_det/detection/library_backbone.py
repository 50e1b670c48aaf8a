"""Networks of other libraries as Detectron2 backbones, with features named as NASNet's.

The libraries are in ``timm_backbone.py`` and ``torchvision_backbone.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from nasnet_det import libraries
from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.config_values import LIBRARY_NORMS
from nasnet_det.detection.feature_pyramid import build_bottom_up
from nasnet_det.errors import InputError
from nasnet_det.network_config import config_errors
from nasnet_det.normalization import freeze_norms
from nasnet_det.runtime.fuse import find_norm_pairs

FEATURES = ("c2", "c3", "c4", "c5")
PROBE_SIZE = (128, 192)  # neither a square nor one that a network was trained with

logger = logging.getLogger(__name__)


class LibraryBackbone(Backbone):
    """A network of another library that returns features of several strides.

    Args:
        name: of the network, for messages.
        trunk: the network.
        levels: names of what :meth:`compute` returns, ``c<k>`` with stride ``2**k``.
        features: of these, what leaves the backbone, the last among them.
        stem: names of the parameters that ``freeze_at`` 1 freezes.
        freeze_at: 0 freezes nothing, 1 the stem, k >= 2 all that the feature ``c<k>`` depends on.
            Frozen batch normalizations keep their statistics.
        norm: "" for the network's own; FrozenBN or SyncBN in the place of batch normalizations.

    Raises:
        InputError: a value is impossible, or the network can't take pictures of any size.

    Attributes:
        node: of the config, whose keys a subclass has.
        weights_key: and its value, that give a subclass the library's weights.
    """

    node: str
    weights_key: tuple[str, Any]

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        levels: Sequence[str],
        features: Sequence[str],
        *,
        stem: Collection[str],
        freeze_at: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.name, self.trunk = name, trunk
        self.levels, self.features = tuple(levels), tuple(features)
        self.stride = 2 ** int(self.features[-1][1:])
        self._set_norm(norm)
        probe = torch.zeros(1, 3, *PROBE_SIZE)
        maps = self._probe(probe)
        self.shapes = {
            feature: ShapeSpec(channels=maps[feature].shape[1], stride=2 ** int(feature[1:]))
            for feature in self.features
        }
        self._freeze(freeze_at, stem, maps)
        # What fuse() folds: conv and norm by name.
        self.norm_pairs = find_norm_pairs(self, probe)

    def compute(self, image: torch.Tensor) -> Sequence[torch.Tensor]:
        """The maps of the levels, from (B, 3, H, W)."""
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W), H and W multiples of the largest stride -> the features by name."""
        maps = zip(self.levels, self.compute(image), strict=True)
        return {level: found for level, found in maps if level in self.features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides of :meth:`forward`'s maps."""
        return dict(self.shapes)

    @property
    def size_divisibility(self) -> int:
        """The largest stride: Detectron2 pads pictures to multiples of it."""
        return self.stride

    def _probe(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The levels of a picture, with their graph; the network as it is in evaluation."""
        was_training = self.training
        try:
            maps = dict(zip(self.levels, self.eval().compute(image), strict=True))
        except Exception as error:  # its own sentence about sizes, or an assertion
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.name} can't take pictures of any size, which a detector needs "
                f"({reason:.200}); take another network"
            ) from None
        self.train(was_training)
        for feature in self.features:
            found = maps[feature]
            wanted = [side // 2 ** int(feature[1:]) for side in image.shape[2:]]
            if list(found.shape[2:]) != wanted:
                raise InputError(
                    f"{self.name}: its feature {feature} of a picture of {PROBE_SIZE[0]} x "
                    f"{PROBE_SIZE[1]} pixels has {list(found.shape[2:])} positions, not {wanted}; "
                    "take another network"
                )
        return maps

    def _set_norm(self, norm: str) -> None:
        if norm not in LIBRARY_NORMS:
            raise InputError(
                f"norm: wanted one of {', '.join(LIBRARY_NORMS[1:])} or '', got {norm!r}"
            )
        found = _find_batch_norms(self.trunk)
        if norm and not found:
            raise InputError(f"norm: wanted '', since {self.name} has no batch norm, got {norm!r}")
        for place in found if norm else ():
            old = self.trunk.get_submodule(place)
            new = _freeze_norm(old) if norm == "FrozenBN" else _synchronize(old)
            _replace(self.trunk, place, new)

    def _freeze(self, freeze_at: int, stem: Collection[str], maps: dict[str, torch.Tensor]) -> None:
        last = int(self.features[-1][1:])
        if not 0 <= freeze_at <= last:
            raise InputError(
                f"freeze_at (MODEL.BACKBONE.FREEZE_AT): wanted 0 for nothing, 1 for the stem or up "
                f"to {last} for all up to c{last}, got {freeze_at}"
            )
        named = {n: p for n, p in self.trunk.named_parameters() if p.requires_grad}
        frozen = set(stem) if freeze_at else set()
        for feature, found in maps.items():
            if int(feature[1:]) <= freeze_at:
                gradients = torch.autograd.grad(
                    found.sum(), list(named.values()), retain_graph=True, allow_unused=True
                )
                frozen |= {n for n, g in zip(named, gradients, strict=True) if g is not None}
        for name in frozen & named.keys():
            named[name].requires_grad_(False)
        for place in _find_batch_norms(self.trunk):
            if f"{place}.weight" in frozen:
                _replace(self.trunk, place, _freeze_norm(self.trunk.get_submodule(place)))


def build_library_backbone(
    kind: type[Any], cfg: CfgNode, input_shape: ShapeSpec, last_feature: str | None = None
) -> LibraryBackbone:
    """The plain backbone of a kind from a config.

    Raises:
        ConfigError: it can't be built.
    """
    check_backbone(cfg)
    if input_shape is not None and input_shape.channels != 3:
        raise ConfigError(f"MODEL.PIXEL_MEAN: wanted 3 values, got {cfg.MODEL.PIXEL_MEAN}")
    with config_errors(kind.node):
        backbone: LibraryBackbone = kind(cfg, input_shape, last_feature=last_feature)
    key, value = kind.weights_key
    has_weights = cfg.MODEL.WEIGHTS or cfg.MODEL[kind.node.removeprefix("MODEL.")][key]
    if cfg.MODEL.BACKBONE.FREEZE_AT and not has_weights:
        logger.warning(
            "the frozen part of the backbone is noise: give it weights (%s.%s %s or "
            "MODEL.WEIGHTS), or freeze nothing (MODEL.BACKBONE.FREEZE_AT 0)",
            *(kind.node, key, value),
        )
    return backbone


def build_library_bottom_up(kind: type[Any], cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The backbone for an FPN, which ends with the last level."""

    def build(last: str | None) -> LibraryBackbone:
        return build_library_backbone(kind, cfg, input_shape, last)

    return build_bottom_up(cfg, f"{kind.node}.OUT_FEATURES", build)


def choose_features(
    name: str, known: Sequence[str], wanted: Sequence[str], last: str | None
) -> tuple[list[str], list[str]]:
    """The levels up to the last feature, and the features, from high to low resolution.

    Args:
        name: of the network.
        known: levels that it has.
        wanted: of these, the features.
        last: the last of them that counts; None: all do.

    Raises:
        InputError: the network has no such level.
    """
    if not wanted or not set(wanted) <= set(known):
        raise InputError(
            f"out_features: wanted some of {sorted(known)}, which {name} has, got {list(wanted)}"
        )
    names = sorted(wanted)
    if last is not None and last not in names:
        raise InputError(f"last_feature: wanted one of {names}, got {last!r}")
    features = names[: names.index(last) + 1] if last else names
    return [level for level in sorted(known) if level <= features[-1]], features


def _find_batch_norms(module: nn.Module) -> list[str]:
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    return [name for name, m in module.named_modules() if isinstance(m, kinds)]


def _freeze_norm(norm: nn.Module) -> nn.Module:
    if type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return freeze_norms(norm)
    # timm's, with an activation inside.
    frozen: nn.Module = libraries.import_timm().layers.freeze_batch_norm_2d(norm)
    return frozen


def _synchronize(norm: nn.Module) -> nn.Module:
    if type(norm) is nn.BatchNorm2d:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    synchronized: nn.Module = libraries.import_timm().layers.convert_sync_batchnorm(norm)
    return synchronized


def _replace(module: nn.Module, place: str, new: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(module.get_submodule(parent), name, new)
