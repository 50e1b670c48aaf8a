"""One iteration of a training, in any precision, on a GPU or a CPU.

Proposals or a loss that are not finite numbers stop all processes before they reach the weights.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer
from detectron2.utils import comm
from torch import nn

from nasnet_det.config import ConfigError
from nasnet_det.detection.processes import find_largest
from nasnet_det.errors import InputError

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class NonFiniteLossError(InputError):
    """A loss became infinite or NaN; the message says when, which, on what, and from where.

    Attributes:
        ranks: of the processes where it did.
        batch: of this process, or the part of it.
        part: its number, from 0.
    """

    ranks: tuple[int, ...] = ()
    batch: Sequence[dict[str, Any]] = ()
    part: int = 0


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
        num_parts: in which a process computes its batch, one after another, in the memory of one:
            the gradients are those of the mean of their losses, weighted by their pictures.
        seed_part: is called with the iteration and the number of a part before it is computed.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None,
        device_type: str,
        num_parts: int = 1,
        seed_part: Callable[[int, int], None] | None = None,
    ) -> None:
        scaler = torch.amp.GradScaler(device_type, enabled=precision is torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler, precision=precision)
        self.device_type = device_type
        self.num_parts, self.seed_part = num_parts, seed_part

    def run_step(self) -> None:
        """Compute the losses, look at them, and only then change the weights."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        mean: dict[str, torch.Tensor] = {}
        for number, part in enumerate(_divide(data, self.num_parts)):
            share = len(part) / len(data)
            with self._exchange_gradients(number == self.num_parts - 1):
                for name, loss in self._learn(part, number, share).items():
                    loss = loss.detach() * share
                    mean[name] = mean[name] + loss if name in mean else loss
        self.after_backward()
        self._write_metrics(mean, data_time)
        self.grad_scaler.unscale_(self.optimizer)  # or gradients would be clipped while scaled
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _learn(
        self, part: Sequence[dict[str, Any]], number: int, share: float
    ) -> dict[str, torch.Tensor]:
        """Add the gradients of a part of the batch, and return its losses."""
        if self.seed_part is not None:
            self.seed_part(self.iter, number)
        try:
            with (
                autocast(self.precision, self.device_type),
                agree_on_proposals(self.model, self._device()),
                # RetinaNet's loss is a TorchScript, which would compute otherwise in the first two
                # calls of a process than later: a resumed training would have other bits.
                torch.jit.optimized_execution(False),
            ):
                loss_dict = self.model(part)
                total = sum(loss_dict.values())
        except _OtherProcessError:
            loss_dict, total = {}, torch.tensor(0.0)
        except FloatingPointError as error:  # Detectron2's proposals are not finite
            total = torch.tensor(math.nan)
            loss_dict = {f"proposals ({error})": total}
        self._check_finite(loss_dict, total, part, number)
        self.grad_scaler.scale(total * share).backward()
        return loss_dict

    def _exchange_gradients(self, now: bool) -> contextlib.AbstractContextManager:
        """Whether the processes tell each other their gradients in the next backward pass."""
        is_parallel = isinstance(self.model, nn.parallel.DistributedDataParallel)
        return self.model.no_sync() if is_parallel and not now else contextlib.nullcontext()

    def _check_finite(
        self,
        loss_dict: dict[str, torch.Tensor],
        total: torch.Tensor,
        data: Sequence[dict[str, Any]],
        part: int,
    ) -> None:
        """Raise on all processes if a loss of any is not finite."""
        is_bad = not math.isfinite(total.item())
        if not find_largest(is_bad, self._device()):
            return
        values = {name: float(loss.detach()) for name, loss in loss_dict.items()}
        files = [str(image.get("file_name", "?")) for image in data]
        reports = comm.all_gather((is_bad, values, files))
        ranks = tuple(rank for rank, (bad, _, _) in enumerate(reports) if bad)
        _, values, files = reports[ranks[0]]
        losses = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        error = NonFiniteLossError(
            f"the loss is not a finite number at iteration {self.iter}, learning rate "
            f"{self.optimizer.param_groups[0]['lr']:.4g}: {losses}; images: {', '.join(files)}"
        )
        error.ranks, error.batch, error.part = ranks, data, part
        raise error

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Detectron2's, also where mixed precision was switched on or off in between."""
        state_dict = {"grad_scaler": {}, **state_dict}
        if not state_dict["grad_scaler"]:
            state_dict["grad_scaler"] = self.grad_scaler.state_dict()
        super().load_state_dict(state_dict)


def _divide(batch: Sequence[Any], num_parts: int) -> list[Sequence[Any]]:
    """Parts in order whose lengths differ by one at most."""
    ends = [len(batch) * number // num_parts for number in range(num_parts + 1)]
    return [batch[start:end] for start, end in pairwise(ends)]


class _OtherProcessError(Exception):
    """Another process has proposals that are not finite numbers."""


@contextmanager
def agree_on_proposals(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let proposals that are not finite on one process raise on all of them, at the same place.

    Detectron2's RPN raises on the process that has them. The others would go on to what is
    exchanged after it, such as the statistics of a SyncBN in the head, and wait there for ever.

    Args:
        model: in training, with the RPN as ``proposal_generator`` or without one.
        device: where the processes can send from.
    """
    detector = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    generator: Any = getattr(detector, "proposal_generator", None)
    if comm.get_world_size() == 1 or not hasattr(generator, "predict_proposals"):
        yield
        return
    predict = generator.predict_proposals

    def predict_together(*args: Any, **kwargs: Any) -> Any:
        proposals, error = None, None
        try:
            proposals = predict(*args, **kwargs)
        except FloatingPointError as caught:
            error = caught
        if find_largest(error is not None, device):
            raise error or _OtherProcessError
        return proposals

    generator.predict_proposals = predict_together
    try:
        yield
    finally:
        del generator.predict_proposals


def autocast(precision: torch.dtype | None, device_type: str) -> contextlib.AbstractContextManager:
    """Mixed precision, or nothing."""
    if precision is None:
        return contextlib.nullcontext()
    return torch.autocast(device_type, dtype=precision)
