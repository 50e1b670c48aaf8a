"""One step of an optimizer, as search children and classifiers take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nasnet_det.network import NASNet


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load what an optimizer remembers; rates, decays and the like stay as it was built.

    Raises:
        KeyError, ValueError: it is of other parameters.
    """
    built = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, values in zip(optimizer.param_groups, built, strict=True):
        group.update(values)


def group_by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """An optimizer's groups of parameters: biases and normalizations have no weight decay."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]


def take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    compute_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    lr: float,
    progress: float,
    clip_norm: float = 0.0,
    scaler: torch.amp.GradScaler | None = None,
    check: Callable[[torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Change the weights of a network once.

    Args:
        model: is put into training mode.
        optimizer: of its weights.
        parts: images and labels of the batch; the activations of one part are held at a time.
        compute_loss: images and labels of a part -> their mean loss.
        lr: learning rate of this step.
        progress: fraction of the training that is done, for a NASNet's ScheduledDropPath.
        clip_norm: largest Euclidean norm of the gradient; 0: no limit.
        scaler: scales the losses of float16; None: they are not scaled.
        check: gets the loss before the weights are changed, and may raise.

    Returns:
        the mean loss of the batch, on the model's device and without its graph.
    """
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    for group in optimizer.param_groups:
        group["lr"] = lr
    if not model.training:  # it walks through all modules
        model.train()
    if isinstance(model, NASNet):
        model.trunk.drop_path_progress.value = progress
    optimizer.zero_grad()
    num_images = sum(len(labels) for _, labels in parts)
    losses = []
    for images, labels in parts:
        loss = compute_loss(images, labels) * (len(labels) / num_images)
        scaler.scale(loss).backward()
        losses.append(loss.detach())
    total = torch.stack(losses).sum()
    if check is not None:
        check(total)
    if clip_norm:
        scaler.unscale_(optimizer)
        params = [param for group in optimizer.param_groups for param in group["params"]]
        nn.utils.clip_grad_norm_(params, clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return total
