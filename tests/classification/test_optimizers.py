"""Optimizers, learning rates and the moving average, against the formulas written out again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.optimizers import RMSpropTF, build_ema, build_optimizer, get_lr


@pytest.mark.parametrize(("epsilon", "weight_decay"), [(1.0, 0.0), (1.0, 4e-5), (1e-3, 0.1)])
def test_rmsprop_is_tensorflows_over_100_steps(epsilon: float, weight_decay: float) -> None:
    """TensorFlow's ApplyRMSProp: ms starts at one, epsilon is inside the root."""
    random = np.random.default_rng(0)
    value = random.normal(size=(4, 3))
    param = nn.Parameter(torch.tensor(value))
    optimizer = RMSpropTF(
        [param], lr=0.1, decay=0.9, epsilon=epsilon, momentum=0.8, weight_decay=weight_decay
    )
    mean_square, step = np.ones_like(value), np.zeros_like(value)
    for i in range(100):
        lr = 0.1 * 0.97**i  # it changes under the momentum
        grad = random.normal(size=value.shape)
        param.grad = torch.tensor(grad)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        grad = grad + weight_decay * value
        mean_square = 0.9 * mean_square + 0.1 * grad**2
        step = 0.8 * step + lr * grad / np.sqrt(mean_square + epsilon)
        value = value - step
        np.testing.assert_allclose(param.detach().numpy(), value, rtol=1e-10, atol=1e-12)


def test_rmsprop_is_not_torchs() -> None:
    results = []
    for make in (
        lambda p: RMSpropTF([p], lr=0.1, decay=0.9, epsilon=1.0, momentum=0.9),
        lambda p: torch.optim.RMSprop([p], lr=0.1, alpha=0.9, eps=1.0, momentum=0.9),
    ):
        param = nn.Parameter(torch.ones(1))
        optimizer = make(param)
        param.grad = torch.ones(1)
        optimizer.step()
        results.append(param.item())
    assert results[0] == pytest.approx(1 - 0.1 / math.sqrt(2))
    assert abs(results[0] - results[1]) > 1e-3


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSpropTF"])
def test_only_weights_of_layers_decay(name: str) -> None:
    cfg = get_classification_config(opts=["SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", "0.5"])
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_optimizer(cfg, model)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert changed == [True, False, False, False]


def test_cosine_rises_and_then_falls_to_nearly_nothing() -> None:
    opts = ["SOLVER.EPOCHS", "10", "SOLVER.LR", "0.5", "SOLVER.WARMUP_EPOCHS", "2"]
    solver = get_classification_config(opts=opts).SOLVER
    rates = [get_lr(solver, i, 5) for i in range(50)]
    for i in range(10):
        expected = 0.5 * (0.5 + 0.5 * math.cos(math.pi * i / 50)) * (i + 1) / 11
        assert rates[i] == pytest.approx(expected)
    assert rates[25] == pytest.approx(0.25)
    assert rates[49] == pytest.approx(0.25 * (1 + math.cos(math.pi * 49 / 50)))
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_exponential_decays_in_stairs_and_scales_with_the_batch() -> None:
    text = (
        "SOLVER.SCHEDULE exponential SOLVER.LR 2 SOLVER.REFERENCE_BATCH_SIZE 1600 "
        "SOLVER.BATCH_SIZE 400 SOLVER.EPOCHS 12"
    )
    solver = get_classification_config(opts=text.split()).SOLVER
    rates = [get_lr(solver, i, 10) for i in range(120)]
    assert rates[:24] == [0.5] * 24  # 2.4 epochs
    assert rates[24:48] == [0.5 * 0.97] * 24
    assert rates[-1] == pytest.approx(0.5 * 0.97**4)


def test_moving_average_is_tensorflows_and_covers_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = build_ema(model, 0.9)
    expected: dict[str, torch.Tensor] = {}
    for n in range(150):
        for value in model.state_dict().values():
            value.copy_(torch.randn_like(value) if value.is_floating_point() else value + 1)
        ema.update_parameters(model)
        decay = 0.0 if n == 0 else min(0.9, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                past = expected.get(name, torch.zeros_like(value))
                expected[name] = decay * past + (1 - decay) * value
    state = ema.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value)
    assert state["1.num_batches_tracked"] == 150
    assert {"1.running_mean", "1.running_var"} <= expected.keys()
