"""ScheduledDropPath: dropping whole paths of a cell, more often late in training and deep down."""

from __future__ import annotations

import torch
from torch import nn


def scheduled_drop_path_prob(
    final_prob: float, depth_ratio: float, progress: float, *, schedule: str = "time_and_depth"
) -> float:
    """Probability with which one path is dropped.

    Args:
        final_prob: probability at the end of training in the last cell, in [0, 1).
        depth_ratio: (cell index + 1) / number of cells, in (0, 1], stem cells counted.
        progress: fraction of the training that is done, clipped to [0, 1].
        schedule: of :data:`~nasnet_det.plan.DROP_PATH_SCHEDULES`: ``time_and_depth`` (TF-slim's
            default, "v3"), ``time`` (the paper's text, "v1") or ``depth`` ("v2").
    """
    prob = final_prob
    if schedule != "time":
        prob *= depth_ratio
    if schedule != "depth":
        prob *= min(1.0, max(0.0, progress))
    return prob


class DropPathProgress:
    """The training progress in [0, 1] that all DropPath modules of one network look at.

    It starts at 1, so that a network trained without a schedule drops at the full rate.

    Attributes:
        tensor: it on the CPU, clipped to [0, 1], for compiled networks, which would be compiled
            again for each value of a Python number.
    """

    def __init__(self) -> None:
        self.tensor = torch.ones((), device="cpu")
        self.value = 1.0

    @property
    def value(self) -> float:
        """The progress."""
        return self._value

    @value.setter
    def value(self, value: float) -> None:
        self._value = value
        self.tensor.fill_(min(1.0, max(0.0, value)))


class DropPath(nn.Module):
    """Zero the path for a whole example and scale the others up; identity in evaluation.

    Args:
        final_prob: see :func:`scheduled_drop_path_prob`.
        depth_ratio: likewise.
        progress: shared by all paths of a network; the training loop advances it.
        schedule: see :func:`scheduled_drop_path_prob`.
    """

    def __init__(
        self,
        final_prob: float,
        depth_ratio: float,
        *,
        progress: DropPathProgress,
        schedule: str = "time_and_depth",
    ) -> None:
        super().__init__()
        self.final_prob = final_prob
        self.depth_ratio = depth_ratio
        self.progress = progress
        self.schedule = schedule

    def current_prob(self) -> float:
        """The drop probability at the present progress."""
        return scheduled_drop_path_prob(
            self.final_prob, self.depth_ratio, self.progress.value, schedule=self.schedule
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape, with one mask value for each example."""
        if self.training and self.final_prob > 0.0:
            if torch.jit.is_scripting():
                raise RuntimeError("a scripted network can't drop paths: call eval() first")
            else:  # TorchScript leaves this branch out
                return self._drop(x)
        return x

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return self._drop_compiled(x)
        prob = self.current_prob()
        if prob <= 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - prob)
        return x * (keep / (1.0 - prob))

    def _drop_compiled(self, x: torch.Tensor) -> torch.Tensor:
        """The same without a Python number that changes, with other random numbers."""
        prob = scheduled_drop_path_prob(
            self.final_prob, self.depth_ratio, 1.0, schedule=self.schedule
        )
        keep_prob = 1.0 - prob * (1.0 if self.schedule == "depth" else self.progress.tensor)
        keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep_prob
        return x * (keep / keep_prob).to(x.dtype)

    def extra_repr(self) -> str:
        return f"final_prob={self.final_prob}, depth_ratio={self.depth_ratio:.3f}"
