"""Optimizers and learning rates of the recipes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from yacs.config import CfgNode

from nasnet_det.train_step import group_by_decay


class RMSpropTF(torch.optim.Optimizer):
    """RMSProp as TensorFlow computes it, with which the published networks were trained.

    It differs from torch's in three places: epsilon is added inside the root, the accumulator
    starts at one, and the learning rate is multiplied in before the momentum.

    Args:
        params: as for any optimizer.
        lr: learning rate.
        decay: weight of the past in the mean of squares.
        epsilon: added to the mean of squares before the root is taken.
        momentum: weight of the past step.
        weight_decay: L2, added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        decay: float = 0.9,
        epsilon: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        names = {"decay": decay, "epsilon": epsilon, "momentum": momentum}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **names})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["mean_square"] = torch.ones_like(param)
                    state["step"] = torch.zeros_like(param)
                grad = param.grad.add(param, alpha=group["weight_decay"])
                mean_square, step = state["mean_square"], state["step"]
                mean_square.mul_(group["decay"]).addcmul_(grad, grad, value=1 - group["decay"])
                root = mean_square.add(group["epsilon"]).sqrt_()
                step.mul_(group["momentum"]).addcdiv_(grad, root, value=group["lr"])
                param.sub_(step)
        return loss


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of ``SOLVER``; biases and normalizations have no weight decay."""
    solver = cfg.SOLVER
    groups = group_by_decay(model, solver.WEIGHT_DECAY)
    if solver.OPTIMIZER == "SGD":
        return torch.optim.SGD(groups, lr=solver.LR, momentum=solver.MOMENTUM)
    if solver.OPTIMIZER == "AdamW":
        return torch.optim.AdamW(groups, lr=solver.LR)
    node = solver.RMSPROP
    return RMSpropTF(
        groups, lr=solver.LR, decay=node.DECAY, epsilon=node.EPSILON, momentum=solver.MOMENTUM
    )


def get_lr(solver: CfgNode, iteration: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: a function of its number alone.

    Args:
        solver: ``cfg.SOLVER``.
        iteration: steps before this one.
        steps_per_epoch: steps in each epoch.
    """
    epoch = iteration / steps_per_epoch
    scale = solver.BATCH_SIZE / (solver.REFERENCE_BATCH_SIZE or solver.BATCH_SIZE)
    if solver.SCHEDULE == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * epoch / solver.EPOCHS))
    else:  # in stairs, as TF-slim's training
        factor = solver.DECAY_RATE ** math.floor(epoch / solver.DECAY_EPOCHS)
    if epoch < solver.WARMUP_EPOCHS:
        factor *= (iteration + 1) / (solver.WARMUP_EPOCHS * steps_per_epoch + 1)
    return solver.LR * scale * factor


def get_ema_decay(decay: float, num_steps: int) -> float:
    """TensorFlow's ExponentialMovingAverage with ``num_updates``: less at the beginning."""
    return min(decay, (1 + num_steps) / (10 + num_steps))


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """The moving average of weights and running statistics."""

    def update(averaged: Any, current: Any, _: Any) -> None:
        if torch.is_floating_point(averaged[0]):
            weight = 1 - get_ema_decay(decay, int(average.n_averaged))  # on the CPU
            torch._foreach_lerp_(averaged, current, weight)
        else:  # counters of batches
            torch._foreach_copy_(averaged, current)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average
