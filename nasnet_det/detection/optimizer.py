"""The optimizer of a config."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from nasnet_det.config import ConfigError


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as in Detectron2, or AdamW with the same groups of parameters.

    With a ``SOLVER.BACKBONE_LR_FACTOR`` each group is one of the backbone and one of the rest.

    Raises:
        ConfigError: ``SOLVER.OPTIMIZER`` is neither.
    """
    solver = cfg.SOLVER
    if solver.OPTIMIZER not in ("SGD", "AdamW"):
        raise ConfigError(f"SOLVER.OPTIMIZER: wanted SGD or AdamW, got {solver.OPTIMIZER!r}")
    if solver.OPTIMIZER == "SGD":
        optimizer = build_sgd(cfg, model)
    else:
        groups = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        )
        adamw = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
        optimizer = adamw(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
    if solver.BACKBONE_LR_FACTOR != 1:
        _split_groups(optimizer, list_backbone(model), solver.BACKBONE_LR_FACTOR)
    return optimizer


def list_backbone(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a classifier's weights fill: without a pyramid, with C4's last cells."""
    backbone: Any = model.backbone
    parts = [getattr(backbone, "bottom_up", backbone)]
    if last := getattr(getattr(model, "roi_heads", None), "res5", None):
        parts.append(last)
    return [parameter for part in parts for parameter in part.parameters()]


def _split_groups(
    optimizer: torch.optim.Optimizer, backbone: list[nn.Parameter], factor: float
) -> None:
    """Make of each group that of the backbone, with its rate times a factor, and the rest."""
    inside = {id(parameter) for parameter in backbone}
    groups = []
    for group in optimizer.param_groups:
        for is_inside in (False, True):
            params = [p for p in group["params"] if (id(p) in inside) == is_inside]
            if params:
                lr = group["lr"] * (factor if is_inside else 1.0)
                groups.append({**group, "params": params, "lr": lr})
    optimizer.param_groups[:] = groups
