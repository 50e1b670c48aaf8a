"""Running a classifier on images of bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.network import NASNetOutput

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Predictor:
    """Runs a model on images of bytes: whitening, precision and order in memory.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        device: of the model.

    Raises:
        ConfigError: the device can't compute like this.
    """

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        self.device = device
        self.dtype = DTYPES[cfg.SOLVER.PRECISION]
        if self.dtype == torch.float16 and device.type == "cpu":
            raise ConfigError("SOLVER.PRECISION: float16 needs a GPU; a CPU can take bfloat16")
        self.memory_format = (
            torch.channels_last if cfg.MODEL.NASNET.CHANNELS_LAST else torch.contiguous_format
        )
        mean, std = cfg.DATA.PIXEL_MEAN, cfg.DATA.PIXEL_STD
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for values in (mean, std)
        )

    def place(self, model: nn.Module) -> Any:
        """Move a model to the device, in its order in memory."""
        return model.to(self.device).to(memory_format=self.memory_format)

    def __call__(self, model: nn.Module, images: torch.Tensor) -> Any:
        """(B, 3, H, W) in the scale of bytes -> the model's output, whose logits are float32."""
        images = images.to(self.device, non_blocking=True)
        images = ((images.float() - self.mean) / self.std).contiguous(
            memory_format=self.memory_format
        )
        with autocast(self.device, self.dtype):
            output = model(images)
        return _to_float32(output)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which convolutions and products have this type; float32: nothing changes."""
    is_half = dtype != torch.float32
    return torch.autocast(device.type, dtype if is_half else torch.bfloat16, enabled=is_half)


def _to_float32(output: Any) -> Any:
    """Every tensor of an output in float32."""
    if isinstance(output, NASNetOutput):
        return NASNetOutput(*map(_to_float32, output))
    if isinstance(output, tuple):
        return tuple(map(_to_float32, output))
    if isinstance(output, dict):
        return {name: _to_float32(value) for name, value in output.items()}
    return output.float()
