"""Parts of detectors, registered with Detectron2, that a file for other runtimes can't hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    ROI_HEADS_REGISTRY,
    Backbone,
    StandardROIHeads,
)
from torch import nn


class OneMap(Backbone):
    """A convolution, and what a subclass does to its map."""

    def __init__(self, cfg: Any, shape: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=16, padding=1)
        self._out_features = ["c4"]
        self._out_feature_channels, self._out_feature_strides = {"c4": 16}, {"c4": 16}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"c4": self.work(self.conv(x))}

    def work(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@BACKBONE_REGISTRY.register()
class NumpyMap(OneMap):
    def work(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))  # in numpy


@BACKBONE_REGISTRY.register()
class BranchMap(OneMap):
    """Goes the same way for all pictures of a test."""

    def work(self, x: torch.Tensor) -> torch.Tensor:
        if x.abs().max() > 1e-9:  # the branch
            return 2 * x
        return x - 1


@BACKBONE_REGISTRY.register()
class WeightMap(OneMap):
    """Reads sizes and weights, which are the same for all pictures."""

    def work(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 16
        return x / float(self.conv.weight.abs().max())


@BACKBONE_REGISTRY.register()
class FourierMap(OneMap):
    def work(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x).real


@BACKBONE_REGISTRY.register()
class SizedMap(OneMap):
    """Keeps the size of the traced picture."""

    def work(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_numpy(np.ones((int(x.shape[2]), int(x.shape[3])), np.float32))


@BACKBONE_REGISTRY.register()
class RandomMap(OneMap):
    def work(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


@ROI_HEADS_REGISTRY.register()
class DepthHeads(StandardROIHeads):
    """Finds a depth besides."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found, losses = super().forward(*args, **kwargs)
        for one in found:
            one.pred_depth = one.scores
        return found, losses
