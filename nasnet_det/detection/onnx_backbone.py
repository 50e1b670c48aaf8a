"""A detector's backbone (trunk and neck) as an ONNX file, and in the runtime that computes it."""

from __future__ import annotations

import math

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from nasnet_det.runtime.engines import Engine, EngineError
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.onnx_trace import trace_to_onnx

TRACED_SIZE, COMPARED_SIZE = (64, 96), (97, 157)  # the other rounded up where it has to be
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.2, "int8": 0.5}
"""Mean absolute difference of a feature, as a part of its mean absolute value, that is still one of
rounding: how much it costs is the AP's to say."""


class RuntimeBackbone(Backbone):
    """A backbone whose features another runtime computes.

    Args:
        backbone: whose shapes it has.
        engine: computes it.
    """

    def __init__(self, backbone: Backbone, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self._shapes = backbone.output_shape()
        self._divisibility = backbone.size_divisibility
        self._constraints = backbone.padding_constraints

    @property
    def size_divisibility(self) -> int:
        """Of the images' sides."""
        return self._divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Detectron2's."""
        return self._constraints

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides of the features."""
        return self._shapes

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) -> the features by name."""
        arrays = self.engine.run([np.ascontiguousarray(image.numpy(), np.float32)])
        return dict(zip(self.engine.outputs, map(torch.from_numpy, arrays), strict=True))


class TracedBackbone(nn.Module):
    """A backbone that returns a tuple."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, 3, H, W) -> the features."""
        return tuple(self.backbone(image).values())


def export_backbone(backbone: Backbone) -> bytes:
    """The fused backbone as an ONNX file, for images (B, 3, H, W) of any number and size.

    Raises:
        EngineError: ONNX can't hold it.
    """
    fused = prepare_trace(fuse(backbone))
    image = torch.zeros(1, 3, *TRACED_SIZE)
    with torch.no_grad():
        names = list(fused(image))
    return trace_to_onnx(
        TracedBackbone(fused).eval(),
        image,
        sizes={0: "batch", 2: "height", 3: "width"},
        outputs=names,
        about={"part": "backbone"},
    )


def prepare_trace(module: nn.Module) -> nn.Module:
    """The module without an order in memory, which is the runtime's own business."""
    for part in module.modules():
        if getattr(part, "channels_last", False):
            setattr(part, "channels_last", False)  # noqa: B010 - a module to mypy
    return module


@torch.no_grad()
def compare_backbones(
    backbone: nn.Module,
    other: RuntimeBackbone,
    runtime: str,
    *,
    precision: str,
    image: torch.Tensor | None = None,
) -> None:
    """See that a runtime computes what PyTorch computes.

    Args:
        backbone, other: in PyTorch, and in the runtime.
        runtime, precision: of the other, for its tolerance and the message.
        image: a whitened batch (B, 3, H, W); None for one of noise.

    Raises:
        EngineError: a feature differs by more than :data:`TOLERANCES` of its mean.
    """
    if image is None:
        multiple = max(1, other.size_divisibility)
        size = (math.ceil(side / multiple) * multiple for side in COMPARED_SIZE)
        image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    wanted, got = fuse(backbone)(image), other(image)
    for name, feature in wanted.items():
        error = float((got[name] - feature).abs().mean() / feature.abs().mean().clamp(min=1e-6))
        if not error <= TOLERANCES[precision]:
            raise EngineError(
                f"{runtime} in {precision} computes something else than PyTorch: the backbone's "
                f"{name} differs by {error:.2g} of its mean, more than {TOLERANCES[precision]:g}"
            )
