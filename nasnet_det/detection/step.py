"""One iteration of a training, in any precision, on a GPU or a CPU.

A loss that is not a finite number stops all processes before it reaches the weights.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer
from detectron2.utils import comm
from torch import nn

from nasnet_det.config import ConfigError
from nasnet_det.errors import InputError

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class NonFiniteLossError(InputError):
    """A loss became infinite or NaN; the message says when, which, on what, and from where."""


def get_precision(cfg: CfgNode) -> torch.dtype | None:
    """The type to compute in; None without mixed precision.

    Raises:
        ConfigError: ``SOLVER.AMP.PRECISION`` is neither float16 nor bfloat16.
    """
    name = cfg.SOLVER.AMP.PRECISION
    if name not in PRECISIONS:
        raise ConfigError(f"SOLVER.AMP.PRECISION: wanted one of {list(PRECISIONS)}, got {name!r}")
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    return torch.bfloat16 if device_type(cfg) == "cpu" else PRECISIONS[name]


def device_type(cfg: CfgNode) -> str:
    """``cpu`` or ``cuda``."""
    return torch.device(cfg.MODEL.DEVICE).type


class CheckedStep(AMPTrainer):
    """One iteration of a training, with any or no mixed precision.

    Args:
        model, data_loader, optimizer: as in Detectron2.
        precision: None for float32; float16 scales the loss, bfloat16 needs no scaling.
        device_type: ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None,
        device_type: str,
    ) -> None:
        scaler = torch.amp.GradScaler(device_type, enabled=precision is torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler, precision=precision)
        self.device_type = device_type

    def run_step(self) -> None:
        """Compute the losses, look at them, and only then change the weights."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        try:
            with autocast(self.precision, self.device_type):
                loss_dict = self.model(data)
                total = sum(loss_dict.values())
        except FloatingPointError as error:  # Detectron2's proposals are not finite
            loss_dict = {f"proposals ({error})": torch.tensor(math.nan)}
            total = torch.tensor(math.nan)
        self._check_finite(loss_dict, total, data)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.unscale_(self.optimizer)  # or gradients would be clipped while scaled
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _check_finite(
        self, loss_dict: dict[str, torch.Tensor], total: torch.Tensor, data: Sequence[dict]
    ) -> None:
        """Raise on all processes if a loss of any is not finite."""
        bad = (~torch.isfinite(total.detach())).float().to(self._device())
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        if not bad.item():
            return
        values = {name: float(loss.detach()) for name, loss in loss_dict.items()}
        files = [str(image.get("file_name", "?")) for image in data]
        reports = comm.all_gather((values, files))
        wrong = [report for report in reports if not math.isfinite(sum(report[0].values()))]
        values, files = (wrong or reports)[0]
        losses = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        raise NonFiniteLossError(
            f"the loss is not a finite number at iteration {self.iter}, learning rate "
            f"{self.optimizer.param_groups[0]['lr']:.4g}: {losses}; images: {', '.join(files)}"
        )

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Detectron2's, also where mixed precision was switched on or off in between."""
        state_dict = {"grad_scaler": {}, **state_dict}
        if not state_dict["grad_scaler"]:
            state_dict["grad_scaler"] = self.grad_scaler.state_dict()
        super().load_state_dict(state_dict)


def autocast(precision: torch.dtype | None, device_type: str) -> contextlib.AbstractContextManager:
    """Mixed precision, or nothing."""
    if precision is None:
        return contextlib.nullcontext()
    return torch.autocast(device_type, dtype=precision)
