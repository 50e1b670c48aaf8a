"""Measures of a network that is not trained, from one batch of noise.

Images instead of noise change little in what they tell (benchmarks/zero_cost.py). What each of them
says of a trained network's accuracy, and with which sign, differs from space to space and from size
to size: so they are for a model that learns it from children that were trained
(:mod:`nasnet_det.search.predictor_sampler`), never a ranking by themselves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from nasnet_det.errors import InputError
from nasnet_det.runs.threads import one_thread
from nasnet_det.search.child import ChildRecipe, build_child
from nasnet_det.space import Choices, SearchSpace

MEASURES = ("gradient_norm", "snip", "synflow", "naswot", "jacobian", "relus", "parameters")
_EPS = 1e-5


NUM_IMAGES = 16  # of the batch (ours)


class ZeroCostMeasures:
    """The measures of a child, the same at each call.

    Args:
        recipe, space: of the children.
        image_size, num_classes: of their images.
        seed: of the weights and the noise.
    """

    def __init__(
        self,
        recipe: ChildRecipe,
        space: SearchSpace,
        *,
        image_size: int,
        num_classes: int = 10,
        seed: int = 0,
    ) -> None:
        self._recipe, self._space, self._seed = recipe, space, seed
        self._image_size, self._num_classes = image_size, num_classes

    def __call__(self, choices: Choices) -> np.ndarray:
        """(len(MEASURES),) float64; zeros for a network that can't be built."""
        with one_thread(), torch.random.fork_rng([]):
            torch.manual_seed(self._seed)
            images = torch.randn(NUM_IMAGES, 3, self._image_size, self._image_size)
            labels = torch.randint(self._num_classes, (NUM_IMAGES,))
            try:
                model = build_child(
                    self._recipe,
                    self._space,
                    choices,
                    num_classes=self._num_classes,
                    image_size=self._image_size,
                )
            except InputError:
                return np.zeros(len(MEASURES))
            return compute_measures(model, images, labels)


def compute_measures(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """All measures of a network with fresh weights, which are used up.

    - ``gradient_norm`` and ``snip``: logarithms of the Euclidean norm of the loss's gradient, and
      of the sum of \\|weight x gradient\\| (arXiv 1810.02340);
    - ``synflow``: logarithm of the sum of \\|weight x gradient\\| of a network of absolute weights
      that sees ones (arXiv 2006.05467);
    - ``naswot``: log-determinant of how alike the ReLUs' patterns are for pairs of images, and
      ``relus``, the logarithm of their number (arXiv 2006.04647);
    - ``jacobian``: how differently the logits react to each image, from the eigenvalues of the
      correlation of their gradients (the same paper's first version);
    - ``parameters``: logarithm of their number.

    Args:
        model: (B, 3, H, W) -> logits (B, C); it is left without a use.
        images: (B, 3, H, W), at least 2 of them.
        labels: (B,).

    Returns:
        one number for each of :data:`MEASURES`; what is not finite is 0.
    """
    model.train()
    images = images.detach().requires_grad_()
    patterns = _ReluPatterns(len(images))
    with patterns:
        logits = model(images)
    (jacobian,) = torch.autograd.grad(logits.sum(), images, retain_graph=True)
    model.zero_grad()
    F.cross_entropy(logits, labels).backward()
    pairs = [(p.detach(), p.grad) for p in model.parameters() if p.grad is not None]
    values = [
        _log(math.sqrt(sum(float(grad.double().square().sum()) for _, grad in pairs))),
        _log(_sum_products(pairs)),
        _log(_measure_flow(model, images.detach())),
        float(torch.linalg.slogdet(patterns.kernel + _EPS * torch.eye(len(images)))[1]),
        _spread(jacobian.flatten(1)),
        _log(patterns.num_units),
        _log(sum(p.numel() for p in model.parameters())),
    ]
    return np.nan_to_num(np.array(values), nan=0.0, posinf=0.0, neginf=0.0)


class _ReluPatterns(TorchFunctionMode):
    """Counts, for each pair of images, the units of all ReLUs that are on or off for both."""

    def __init__(self, num_images: int) -> None:
        super().__init__()
        self.kernel = torch.zeros(num_images, num_images, dtype=torch.float64)
        self.num_units = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("relu", "relu_"):
            on = (out.detach().flatten(1) > 0).float()
            self.kernel += (on @ on.T + (1 - on) @ (1 - on).T).double()
            self.num_units += on.shape[1]
        return out


@torch.enable_grad()
def _measure_flow(model: nn.Module, images: torch.Tensor) -> float:
    """Synflow; normalizations have their first statistics, and so are the identity."""
    model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for tensor in model.parameters():
        tensor.data.abs_()
    model.zero_grad()
    model(torch.ones_like(images[:1], dtype=torch.float64)).sum().backward()
    return _sum_products([(p, p.grad) for p in model.parameters() if p.grad is not None])


def _sum_products(pairs: list[tuple[torch.Tensor, Any]]) -> float:
    return sum(float((weight.detach() * grad).abs().double().sum()) for weight, grad in pairs)


def _spread(rows: torch.Tensor) -> float:
    """Minus the sum of log(v) + 1 / v over the eigenvalues v of the rows' correlation."""
    values = torch.linalg.eigvalsh(torch.corrcoef(rows.double())).clamp(min=0) + _EPS
    return -float((values.log() + 1 / values).sum())


def _log(value: float) -> float:
    return math.log(value) if value > 0 else 0.0
