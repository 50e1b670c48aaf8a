"""NASNet as a Detectron2 backbone: plain, under an FPN, and cut at stride 16 for the C4 detector.

Registered builders, for ``MODEL.BACKBONE.NAME``:

- ``build_nasnet_backbone``: features ``c2`` to ``c5``, after ReLU.
- ``build_nasnet_fpn_backbone``: P2 to P6 for Faster, Mask and Cascade R-CNN.
- ``build_retinanet_nasnet_fpn_backbone``: P3 to P7 for RetinaNet.
- ``build_nasnet_c4_backbone``: the paper's detector; its other half is in ``roi_heads.py``.

Each compares its config with the card of ``MODEL.WEIGHTS`` first (``backbone_card.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.utils.events import get_event_storage, has_event_storage

from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.config import network_arguments
from nasnet_det.detection.feature_pyramid import (
    build_bottom_up,
    build_fpn,
    build_retinanet_fpn,
)
from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.network_config import config_errors, resolve_network
from nasnet_det.normalization import freeze_norms
from nasnet_det.plan import CellRow, NetworkSpec, plan_cells
from nasnet_det.trunk import NASNetTrunk

logger = logging.getLogger(__name__)


class NASNetBackbone(Backbone):
    """The convolutional part of a NASNet, returning features of several strides.

    Where a position of a feature map looks depends on the sizes of all maps before it: a stride-2
    operation with TensorFlow's SAME padding is centred on pixel 2i of an odd map and on 2i + 1 of
    an even one. On images of a multiple of 32 pixels, ``c5[i]`` would look at pixel 32i + 29,
    almost a stride from its anchor. With ``align_features`` the image is padded at the bottom and
    right to 32m + 3 pixels, which makes all maps odd, so that ``c<k>[i]`` looks at pixel
    2**k * i + 1, as in Detectron2's ResNets; the one row and column too many is cut off again.

    Args:
        variant: a name from :func:`nasnet_det.list_models`, or ``<genotype>_<N>@<P>``.
        genotype: replaces the variant's cells: a genotype, a published name or a JSON file.
        out_features: names of the features, ``c<k>`` with stride ``2**k``.
        last_feature: of these, where the trunk ends; by default the last of them.
        freeze_at: 0 freezes nothing, 1 the stem, k >= 2 everything up to the feature ``c<k>``, at
            most the trunk's last. Frozen batch normalizations become FrozenBatchNorm2d, as in
            Detectron2's ResNet; frozen cells drop no paths.
        align_features: see above. False gives TensorFlow's positions.
        channels_last: keep weights and maps in channels-last order in memory, which is faster in
            half precision on GPUs. On CPUs maps always are.
        activation_checkpointing: see :class:`~nasnet_det.NASNetTrunk`.
        drop_path_prob: see :class:`~nasnet_det.NetworkSpec`; the variant's own is for ImageNet.
        drop_path_iters: iterations over which ScheduledDropPath ramps up; 0: full rate from the
            start. The iteration is that of Detectron2's event storage.
        **spec_overrides: further fields of :class:`~nasnet_det.NetworkSpec`, such as ``norm``.

    Raises:
        InputError: an unknown name or an impossible value.
    """

    @configurable
    def __init__(
        self,
        variant: str = "nasnet_a_mobile",
        *,
        genotype: Genotype | str | None = None,
        out_features: Sequence[str] = ("c2", "c3", "c4", "c5"),
        last_feature: str | None = None,
        freeze_at: int = 0,
        align_features: bool = True,
        channels_last: bool = False,
        activation_checkpointing: bool = False,
        drop_path_prob: float = 0.0,
        drop_path_iters: int = 0,
        **spec_overrides: Any,
    ) -> None:
        super().__init__()
        spec, cells = resolve_network(
            variant, genotype, drop_path_prob=drop_path_prob, **spec_overrides
        )
        features = feature_rows(spec, cells)
        if not out_features or not set(out_features) <= set(features):
            raise InputError(
                f"out_features: wanted some of {list(features)}, got {list(out_features)}"
            )
        names = [name for name in features if name in out_features]
        if last_feature is not None and last_feature not in names:
            raise InputError(f"last_feature: wanted one of {names}, got {last_feature!r}")
        names = names[: names.index(last_feature) + 1] if last_feature else names
        self.rows = [features[name] for name in names]
        self.strides = {name: features[name].out_stride for name in names}
        self.align_features = align_features
        # All strides, not only those of the features, so that the trunk's end changes nothing.
        self.multiple, self.beyond = (32, 3) if spec.stem == "imagenet" else (4, 1)
        self.channels_last = channels_last
        self.drop_path_iters = drop_path_iters
        self.trunk = NASNetTrunk(
            spec,
            cells,
            stop=self.rows[-1].name,
            out_features=self._kept_features(),
            activation_checkpointing=activation_checkpointing,
        )
        if channels_last:
            self.trunk.to(memory_format=torch.channels_last)
        self.freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        """Arguments from ``MODEL.NASNET`` and ``MODEL.BACKBONE.FREEZE_AT``."""
        if input_shape is not None and input_shape.channels != 3:
            raise ConfigError(f"MODEL.PIXEL_MEAN: wanted 3 values, got {cfg.MODEL.PIXEL_MEAN}")
        node = cfg.MODEL.NASNET
        return {
            **network_arguments(cfg),
            "out_features": node.OUT_FEATURES,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "align_features": node.ALIGN_FEATURES,
            "channels_last": node.CHANNELS_LAST,
        }

    def freeze(self, freeze_at: int) -> None:
        """Stop training the first stages; see the class.

        Raises:
            InputError: there are not so many.
        """
        last = self.trunk.plan[-1].out_stride.bit_length() - 1
        if not 0 <= freeze_at <= last:
            raise InputError(
                f"freeze_at (MODEL.BACKBONE.FREEZE_AT): wanted 0 for nothing, 1 for the stem or up "
                f"to {last} for all up to c{last}, where the trunk ends, got {freeze_at}"
            )
        frozen: list[Any] = [self.trunk.stem] if freeze_at >= 1 else []
        for row in self.trunk.plan if freeze_at >= 2 else ():
            if row.out_stride <= 2**freeze_at:
                cell: Any = self.trunk.cells[row.name]
                cell.drop_path.final_prob = 0.0
                frozen.append(cell)
        for module in frozen:
            freeze_norms(module.requires_grad_(False))
        self.may_be_noise = bool(frozen)

    def _kept_features(self) -> list[str]:
        return list(self.strides)

    def _follow_training(self) -> None:
        """Do what belongs to a training's step, before it."""
        advance_drop_path(self.trunk, self.drop_path_iters)
        if not (self.training and self.may_be_noise):
            return
        self.may_be_noise = False
        norm: Any = self.trunk.stem.norm if self.trunk.stem is not None else None
        if bool((norm.weight == 1).all() and (norm.bias == 0).all()):
            logger.warning(
                "the frozen part of the backbone is noise: its stem has the weights that it was "
                "made with; load weights (MODEL.WEIGHTS), or freeze nothing "
                "(MODEL.BACKBONE.FREEZE_AT 0)"
            )

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides of :meth:`forward`'s maps."""
        return {
            name: ShapeSpec(channels=row.out_channels, stride=row.out_stride)
            for name, row in zip(self.strides, self.rows, strict=True)
        }

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the features.

        Args:
            image: (B, 3, H, W) of any size from 3 pixels on.

        Returns:
            ``c<k>`` -> (B, channels, ceil(H / 2**k), ceil(W / 2**k)).
        """
        if not torch.jit.is_scripting():
            self._follow_training()
        features = self.trunk(self._prepare(image))
        return {
            name: self._crop(feature, image, self.strides[name])
            for name, feature in features.items()
        }

    def _prepare(self, image: torch.Tensor) -> torch.Tensor:
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        if not self.align_features:
            return image
        height, width = image.shape[-2], image.shape[-1]
        # Rounded up without negative numbers, whose quotients ONNX rounds towards zero.
        below = (height + self.multiple - 1) // self.multiple * self.multiple + self.beyond - height
        beside = (width + self.multiple - 1) // self.multiple * self.multiple + self.beyond - width
        return F.pad(image, (0, beside, 0, below))

    def _crop(self, feature: torch.Tensor, image: torch.Tensor, stride: int) -> torch.Tensor:
        if not self.align_features:
            return feature
        height = (image.shape[-2] + stride - 1) // stride
        width = (image.shape[-1] + stride - 1) // stride
        return feature[:, :, :height, :width]


class NASNetC4Backbone(NASNetBackbone):
    """The trunk up to stride 16, for the paper's detector.

    The only feature, ``c4``, is the concatenation of the last two cells' outputs as they are,
    without a ReLU: the state from which ``NASNetROIHeads`` (roi_heads.py) runs the remaining cells
    on each region. Source: TensorFlow's faster_rcnn_nas_feature_extractor.py.

    The arguments are those of :class:`NASNetBackbone`, without ``out_features``.
    """

    @configurable
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, out_features=("c4",), **kwargs)
        if self.rows[-1].stride != 1:  # its h is larger than its output
            raise InputError("num_cells_per_stage: wanted at least 2 for C4, got 1")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        """As :class:`NASNetBackbone`; ``MODEL.NASNET.OUT_FEATURES`` has no say."""
        arguments = super().from_config(cfg, input_shape)
        del arguments["out_features"]
        return arguments

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of the pair."""
        row = self.rows[-1]
        return {"c4": ShapeSpec(channels=row.pair_channels, stride=row.out_stride)}

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) -> ``c4``: (B, pair channels, ceil(H / 16), ceil(W / 16))."""
        if not torch.jit.is_scripting():
            self._follow_training()
        h_prev, h, _ = self.trunk.run(None, self._prepare(image))
        return {"c4": self._crop(torch.cat([h_prev, h], dim=1), image, self.strides["c4"])}

    def _kept_features(self) -> list[str]:
        return []  # the pair is no feature


def feature_rows(spec: NetworkSpec, genotype: Genotype) -> dict[str, CellRow]:
    """The last cell of each stride, by the name of its feature."""
    return {row.feature: row for row in plan_cells(spec, genotype) if row.feature}


def advance_drop_path(trunk: NASNetTrunk, num_iters: int) -> None:
    """Tell a trunk in training how far Detectron2's event storage says that the training is."""
    if trunk.training and num_iters and has_event_storage():
        trunk.drop_path_progress.value = min(1.0, get_event_storage().iter / num_iters)


@BACKBONE_REGISTRY.register()
def build_nasnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> NASNetBackbone:
    """The plain backbone from a config."""
    check_backbone(cfg)
    with config_errors():
        return NASNetBackbone(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_nasnet_c4_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> NASNetC4Backbone:
    """The backbone of the C4 detector from a config."""
    check_backbone(cfg)
    with config_errors():
        return NASNetC4Backbone(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_nasnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """P2 to P5 and a P6 by subsampling, from ``MODEL.FPN``'s options."""
    return build_fpn(cfg, _build_bottom_up(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_retinanet_nasnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """P3 to P5, and P6 and P7 by strided convolutions on C5, from ``MODEL.FPN``'s options."""
    return build_retinanet_fpn(cfg, _build_bottom_up(cfg, input_shape))


def _build_bottom_up(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    check_backbone(cfg)

    def build(last: str | None) -> NASNetBackbone:
        with config_errors():
            return NASNetBackbone(cfg, input_shape, last_feature=last)

    return build_bottom_up(cfg, "MODEL.NASNET.OUT_FEATURES", build)
