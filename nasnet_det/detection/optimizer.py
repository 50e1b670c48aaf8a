"""The optimizer of a config."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from nasnet_det.config import ConfigError


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as in Detectron2, or AdamW with the same groups of parameters.

    Raises:
        ConfigError: ``SOLVER.OPTIMIZER`` is neither.
    """
    if cfg.SOLVER.OPTIMIZER == "SGD":
        return build_sgd(cfg, model)
    if cfg.SOLVER.OPTIMIZER != "AdamW":
        raise ConfigError(f"SOLVER.OPTIMIZER: wanted SGD or AdamW, got {cfg.SOLVER.OPTIMIZER!r}")
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    adamw = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    return adamw(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
