"""The image classifier: a trunk, its last layers, and the auxiliary head of its training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.normalization import NormLayer
from nasnet_det.plan import NetworkSpec, feature_sizes, override_spec
from nasnet_det.trunk import NASNetTrunk, build_norm_layer, initialize
from nasnet_det.variants import resolve_variant


class AuxiliaryHead(nn.Module):
    """The training-only classifier two thirds down the network.

    Average pooling 5x5 stride 3 without padding, 1x1 convolution to 128, a convolution over the
    whole remaining map to 768, linear. Source: TF-slim nasnet.py ``_build_aux_head``.

    Args:
        in_channels: channels of the feature.
        map_size: height and width of the feature at the network's input size.
        num_classes: number of classes.
        norm_layer: see :func:`~nasnet_det.normalization.get_norm_layer`.
    """

    def __init__(
        self, in_channels: int, map_size: int, num_classes: int, norm_layer: NormLayer
    ) -> None:
        super().__init__()
        self._check_size(map_size, map_size)
        self.kernel_size = (map_size - 5) // 3 + 1
        self.project = nn.Conv2d(in_channels, 128, 1, bias=False)
        self.norm_1 = norm_layer(128)
        self.conv = nn.Conv2d(128, 768, self.kernel_size, bias=False)
        self.norm_2 = norm_layer(768)
        self.linear = nn.Linear(768, num_classes)
        initialize(self)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) after ReLU -> logits (B, num_classes)."""
        self._check_size(*feature.shape[2:])
        x = F.avg_pool2d(feature, 5, stride=3)
        if x.shape[2:] != (self.kernel_size, self.kernel_size):  # another input size
            x = F.adaptive_avg_pool2d(x, self.kernel_size)
        x = F.relu(self.norm_1(self.project(x)))
        x = F.relu(self.norm_2(self.conv(x)))
        return self.linear(x.flatten(1))

    @staticmethod
    def _check_size(height: int, width: int) -> None:
        if min(height, width) < 5:
            raise InputError(
                "the auxiliary head needs a feature map of at least 5x5, "
                f"got {height}x{width}: use a larger input_size or no auxiliary head"
            )


class NASNetOutput(NamedTuple):
    """What a classifier with an auxiliary head returns in training."""

    logits: torch.Tensor
    aux_logits: torch.Tensor


class NASNet(nn.Module):
    """The image classifier.

    Args:
        spec, genotype: see :func:`~nasnet_det.plan.plan_cells`.
        num_classes: length of the logits; 0 for the pooled features in place of logits.
        aux_head: build the auxiliary head; it runs in training only.
        in_chans, activation_checkpointing: see :class:`NASNetTrunk`.

    Attributes:
        num_features: length of the pooled features.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        genotype: Genotype,
        *,
        num_classes: int = 1000,
        aux_head: bool = False,
        in_chans: int = 3,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_classes(num_classes, aux_head)
        self.trunk = NASNetTrunk(
            spec,
            genotype,
            in_chans=in_chans,
            activation_checkpointing=activation_checkpointing,
        )
        stages = [row for row in self.trunk.plan if row.feature]
        self.aux_feature = stages[-2].feature
        self.aux_head: AuxiliaryHead | None = None
        if aux_head:
            map_size = feature_sizes(spec, genotype, spec.input_size)[stages[-2].name]
            self.aux_head = AuxiliaryHead(
                stages[-2].out_channels, map_size, num_classes, build_norm_layer(spec)
            )
        self.final_feature = stages[-1].feature
        self.dropout = nn.Dropout(spec.dropout)
        self.num_features = stages[-1].out_channels
        self.classifier = _build_classifier(self.num_features, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Make the last layers anew, for other classes; 0 for none.

        Raises:
            InputError: fewer than 0, or none for an auxiliary head.
        """
        _check_classes(num_classes, self.aux_head is not None)
        like = next(self.trunk.parameters())
        place: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.classifier = _build_classifier(self.num_features, num_classes).to(**place)
        if self.aux_head is not None:
            inner = self.aux_head.linear.in_features
            self.aux_head.linear = nn.Linear(inner, num_classes, **place)

    def forward(self, image: torch.Tensor) -> torch.Tensor | NASNetOutput:
        """(B, in_chans, H, W) -> logits (B, num_classes), with an auxiliary head's beside them."""
        features = self.trunk(image)
        pooled = features[self.final_feature].mean(dim=(2, 3))
        logits = self.classifier(self.dropout(pooled))
        if self.training and self.aux_head is not None:
            return NASNetOutput(logits, self.aux_head(features[self.aux_feature]))
        return logits


def _check_classes(num_classes: int, aux_head: bool) -> None:
    if aux_head and num_classes < 1:
        raise InputError(
            f"wanted at least 1 class, since there is an auxiliary head, got {num_classes=}"
        )
    if num_classes < 0:
        raise InputError(f"wanted a number of classes, or 0 for none, got {num_classes=}")


def _build_classifier(num_features: int, num_classes: int) -> nn.Module:
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


_OF_OTHERS = {
    "pretrained": "nasnet_det.create_model has it",
    "features_only": "create_model(...).trunk gives the features",
    "in_channels": "did you mean in_chans?",
}
"""What arguments of other libraries' functions are here."""


def create_model(
    name_or_genotype: str | Genotype = "nasnet_a_mobile",
    num_classes: int = 1000,
    *,
    aux_head: bool = False,
    in_chans: int = 3,
    activation_checkpointing: bool = False,
    **spec_overrides: Any,
) -> NASNet:
    """Build an image classifier.

    Args:
        name_or_genotype: a name from :func:`~nasnet_det.variants.list_models`,
            ``<genotype>_<N>@<P>``, or a genotype (which takes the mobile network's size unless
            overridden).
        num_classes: length of the logits; 0 for the pooled features in place of logits.
        aux_head, in_chans, activation_checkpointing: see :class:`NASNet`.
        **spec_overrides: fields of :class:`~nasnet_det.plan.NetworkSpec`, such as ``channels=32``.

    Raises:
        InputError: an unknown name or field, or an impossible value.
    """
    for key in _OF_OTHERS.keys() & spec_overrides.keys():
        raise InputError(f"create_model has no argument {key!r}: {_OF_OTHERS[key]}")
    if isinstance(name_or_genotype, Genotype):
        spec, genotype = resolve_variant("nasnet_a_mobile", name_or_genotype)
    else:
        spec, genotype = resolve_variant(name_or_genotype)
    return NASNet(
        override_spec(spec, **spec_overrides),
        genotype,
        num_classes=num_classes,
        aux_head=aux_head,
        in_chans=in_chans,
        activation_checkpointing=activation_checkpointing,
    )
