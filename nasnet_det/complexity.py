"""Parameters and multiply-adds, counted by fvcore."""

from __future__ import annotations

import logging
import warnings
from typing import Any, NamedTuple

import torch
from torch import nn


class ParameterCount(NamedTuple):
    """Trainable parameters, and these together with the running statistics of normalizations.

    The paper's 88.9 M for NASNet-A large is the second number.
    """

    trainable: int
    with_statistics: int


def count_parameters(module: nn.Module) -> ParameterCount:
    """Count the parameters of a module."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    total += sum(b.numel() for b in module.buffers() if b.is_floating_point())
    return ParameterCount(trainable, total)


def count_multiply_adds(module: nn.Module, *inputs: Any) -> int:
    """Multiply-adds of convolutions and linear layers in one evaluation-mode forward pass.

    This is what papers count as MACs. Normalizations, activations and pools are left out.

    Args:
        module: any module; its mode is restored afterwards.
        *inputs: what its ``forward`` takes, for example a (1, 3, 224, 224) tensor.
    """
    with warnings.catch_warnings():  # fvcore's import compiles losses with torch.jit
        warnings.simplefilter("ignore", FutureWarning)
        from fvcore.nn import FlopCountAnalysis

    was_training = module.training
    module.eval()
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        analysis = FlopCountAnalysis(module, inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        with torch.no_grad():
            operators = analysis.by_operator()
    finally:
        logger.setLevel(level)
        module.train(was_training)
    return int(sum(operators[op] for op in ("conv", "linear", "addmm", "matmul")))
