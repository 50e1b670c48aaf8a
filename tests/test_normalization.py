"""Normalization layers: their kinds, groups, and batch normalization that is frozen."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
import torchvision
from torch import nn

from nasnet_det.errors import InputError
from nasnet_det.network import create_model
from nasnet_det.normalization import (
    FrozenBatchNorm2d,
    GroupNorm2d,
    HalfBatchNorms,
    count_groups,
    freeze_norms,
    get_norm_layer,
)
from nasnet_det.plan import NORMS

NAMES = ["weight", "bias", "running_mean", "running_var"]


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("FrozenBN", FrozenBatchNorm2d),
        ("GN", GroupNorm2d),
    ],
)
def test_norm_is_of_its_kind_with_the_given_epsilon(norm: str, kind: type[nn.Module]) -> None:
    layer = get_norm_layer(norm, eps=0.25, momentum=0.3)(8)
    assert type(layer) is kind
    assert layer.eps == 0.25
    assert getattr(layer, "momentum", 0.3) == 0.3
    assert norm in NORMS


def test_unknown_norm_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown norm 'SyncBn', did you mean 'SyncBN'\?"):
        get_norm_layer("SyncBn")


@pytest.mark.parametrize(
    ("channels", "groups"), [(11, 1), (22, 2), (44, 11), (168, 28), (37, 1), (3, 1), (256, 32)]
)
def test_groups_of_nasnet_s_widths(channels: int, groups: int) -> None:
    assert count_groups(channels) == groups
    assert get_norm_layer("GN")(channels).num_groups == groups


@pytest.mark.parametrize("channels", range(1, 200))
def test_every_width_has_several_channels_in_a_group(channels: int) -> None:
    groups = count_groups(channels)
    assert channels % groups == 0
    assert channels // groups >= min(channels, 4)
    assert groups <= 32
    more = [g for g in range(groups + 1, 33) if channels % g == 0 and channels // g >= 4]
    assert not more


def test_group_norm_leaves_something_of_a_map_of_one_pixel() -> None:
    assert get_norm_layer("GN")(11)(torch.randn(2, 11, 1, 1)).abs().max() > 0.1


def _make_batch_norm(channels: int = 6) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=0.01)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    return norm.eval()


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_frozen_norm_computes_what_the_evaluated_one_does(needs_gradient: bool) -> None:
    norm = _make_batch_norm()
    frozen = freeze_norms(copy.deepcopy(norm)).train()
    assert [*frozen.state_dict()] == NAMES
    assert not [*frozen.parameters()]
    x, y = (torch.randn(2, 6, 5, 4).requires_grad_(needs_gradient) for _ in range(2))
    y.data.copy_(x.data)
    out, wanted = frozen(x), norm(y)
    torch.testing.assert_close(out, wanted)
    if needs_gradient:
        out.square().sum().backward()
        wanted.square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_frozen_norm_keeps_the_precision(dtype: torch.dtype, needs_gradient: bool) -> None:
    frozen = freeze_norms(_make_batch_norm())
    if dtype is torch.float64:
        frozen.double()
    out = frozen(torch.randn(2, 6, 3, 3, dtype=dtype).requires_grad_(needs_gradient))
    assert out.dtype is dtype


def test_weights_fit_torchvision_s_both_ways_and_those_of_a_norm_that_trains() -> None:
    norm = _make_batch_norm()
    ours, theirs = FrozenBatchNorm2d(6, 0.01), torchvision.ops.FrozenBatchNorm2d(6, 0.01)
    ours.load_state_dict(norm.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs.running_var, norm.running_var)
    x = torch.randn(1, 6, 2, 2).requires_grad_()
    assert torch.equal(ours(x), theirs(x))


def test_all_norms_of_a_module_are_frozen_and_nothing_else() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 6, 1), _make_batch_norm(), nn.ReLU())
    module = nn.ModuleDict({"a": inner, "b": nn.SyncBatchNorm(4), "c": nn.GroupNorm(2, 4)})
    before = module.state_dict()
    assert freeze_norms(module) is module
    kinds = [type(m) for m in module.modules() if "Norm" in type(m).__name__]
    assert kinds == [FrozenBatchNorm2d, FrozenBatchNorm2d, nn.GroupNorm]
    after = module.state_dict()
    assert after.keys() == {n for n in before if not n.endswith("num_batches_tracked")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert inner[1].eps == 0.01
    assert not module.training or inner[1].training is False


def _state_before_groups(channels: int) -> dict[str, torch.Tensor]:
    """Of a network whose file does not say in how many groups it was trained."""
    layer = get_norm_layer("GN")(channels)
    return {f"norm.{k}": v for k, v in layer.state_dict().items() if k in ("weight", "bias")}


@pytest.mark.parametrize(("channels", "before"), [(11, 11), (22, 22), (44, 22), (8, 8)])
def test_weights_of_other_groups_are_refused(channels: int, before: int) -> None:
    """They have the same names and shapes, and compute something else."""
    model = nn.ModuleDict({"norm": get_norm_layer("GN")(channels)})
    for strict in (True, False):
        with pytest.raises(InputError, match=f"in {before} groups, and NORM GN has") as caught:
            model.load_state_dict(_state_before_groups(channels), strict=strict)
        assert (caught.value.got, caught.value.wanted) == (before, model["norm"].num_groups)
    other = {**model.state_dict(), "norm.groups": torch.tensor(3)}
    with pytest.raises(InputError, match="in 3 groups"):
        model.load_state_dict(other)


@pytest.mark.parametrize("channels", [88, 168])
def test_weights_from_before_load_where_the_groups_are_the_same(channels: int) -> None:
    model = nn.ModuleDict({"norm": get_norm_layer("GN")(channels)})
    state = _state_before_groups(channels)
    state["norm.weight"] = torch.rand(channels)
    model.load_state_dict(state)
    assert torch.equal(model["norm"].weight, state["norm.weight"])
    again = nn.ModuleDict({"norm": get_norm_layer("GN")(channels)})
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, channels, 3, 3)
    assert torch.equal(model["norm"](x), again["norm"](x))


@pytest.mark.parametrize("channels", [11, 32])
def test_training_in_bfloat16_is_pytorch_s_but_for_rounding(channels: int) -> None:
    ours, theirs = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
    outs, inputs = [], []
    for norm, context in ((ours, HalfBatchNorms()), (theirs, nullcontext())):
        torch.manual_seed(0)
        nn.init.normal_(norm.weight)
        x = torch.randn(2, channels, 5, 7).bfloat16().requires_grad_()
        with context:
            out = norm(x)
        out.backward(torch.randn_like(out))
        outs.append(out)
        inputs.append(x)
    assert type(outs[0].grad_fn).__name__ == "_BatchNormOfHalfBackward"
    assert torch.equal(*outs)
    assert inputs[0].grad is not None
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=0.02, atol=0.02)
    for (name, mine), value in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None, name
        torch.testing.assert_close(mine.grad, value.grad, rtol=0.02, atol=0.05)
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


@pytest.mark.parametrize("checkpoints", [False, True])
def test_networks_that_train_in_bfloat16_have_it(checkpoints: bool) -> None:
    model = create_model(
        "nasnet_a_cifar_6_768",
        3,
        channels=4,
        num_cells_per_stage=1,
        activation_checkpointing=checkpoints,
    )
    image = torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(image).sum().backward()
    assert all(p.grad is not None for p in model.trunk.parameters())
    names = set()
    cell = model.trunk.cells["cell_0"]
    cell.project_h.norm.register_forward_hook(
        lambda module, inputs, out: names.add(type(out.grad_fn).__name__)
    )
    with torch.autocast("cpu", torch.bfloat16):
        model(image)
    assert names == {"_BatchNormOfHalfBackward"}
