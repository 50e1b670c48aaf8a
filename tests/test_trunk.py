"""Running parts of a network from an explicit state, and recomputing activations."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from trunk_steps import list_steps

from nasnet_det.cell import Cell
from nasnet_det.drop_path import DropPath
from nasnet_det.network import create_model
from nasnet_det.plan import NORMS, NetworkSpec, plan_cells
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.trunk import NASNetTrunk

IMAGENET = NetworkSpec(num_cells_per_stage=2, channels=8, stem_multiplier=1)
NETWORKS = {
    "nasnet": (IMAGENET, "nasnet_a"),
    "nasnet, input of a reduction skipped": (
        NetworkSpec(2, 8, stem_multiplier=1, skip_reduction_input=True),
        "nasnet_a",
    ),
    "cifar": (NetworkSpec(1, 8, stem="cifar"), "nasnet_a"),
    "cifar, input of a reduction skipped": (
        NetworkSpec(1, 8, stem="cifar", skip_reduction_input=True),
        "nasnet_a",
    ),
    "pnasnet": (NetworkSpec(2, 9, stem_multiplier=1, extra_reduction_cells=False), "pnasnet_5"),
}


def _state_part(part: nn.Module, whole: nn.Module) -> dict[str, torch.Tensor]:
    state = whole.state_dict()
    return {name: state[name] for name in part.state_dict()}


@pytest.mark.parametrize("name", NETWORKS)
def test_two_halves_equal_the_whole_at_every_split(name: str) -> None:
    spec, genotype_name = NETWORKS[name]
    genotype = GENOTYPES[genotype_name]
    whole = NASNetTrunk(spec, genotype).eval()
    image = torch.randn(2, 3, 45, 38)
    with torch.no_grad():
        wanted = {row.name: out for row, _, out in list_steps(whole, None, image)}
    names = list(wanted)
    for stop, start in itertools.pairwise(names):
        first = NASNetTrunk(spec, genotype, stop=stop).eval()
        second = NASNetTrunk(spec, genotype, start=start).eval()
        assert {*first.state_dict()} | {*second.state_dict()} == {*whole.state_dict()}
        assert {*first.state_dict()}.isdisjoint(second.state_dict())
        first.load_state_dict(_state_part(first, whole))
        second.load_state_dict(_state_part(second, whole))
        assert first.plan + second.plan == whole.plan, "each row as in the whole network"
        with torch.no_grad():
            states = {}
            for row, h, out in list_steps(first, None, image):
                states.setdefault("stem", h)
                states[row.name] = out
            # The plan says which two outputs the next cell reads.
            h_prev, h = (states.get(key) for key in (second.plan[0].h_prev, second.plan[0].h))
            outs = states | {row.name: out for row, _, out in list_steps(second, h_prev, h)}
        for key in names:
            torch.testing.assert_close(outs[key], wanted[key], rtol=0, atol=0, msg=f"{stop}|{key}")


def test_run_yields_the_input_beside_the_output() -> None:
    """The pair (h, output) is what the C4 detector crops."""
    trunk = NASNetTrunk(IMAGENET, GENOTYPES["nasnet_a"], stop="cell_3").eval()
    steps = list_steps(trunk, None, torch.randn(1, 3, 40, 40))
    for (_, _, out), (row, h, _) in itertools.pairwise(steps):
        assert h is out
        assert row.h_channels == h.shape[1]
    row, h, out = steps[-1]
    assert (row.name, row.h) == ("cell_3", "cell_2")
    assert row.pair_channels == h.shape[1] + out.shape[1]


def test_single_cell_can_be_run() -> None:
    genotype = GENOTYPES["nasnet_a"]
    trunk = NASNetTrunk(IMAGENET, genotype, start="cell_1", stop="cell_1")
    assert [row.name for row in trunk.plan] == ["cell_1"]
    assert trunk.stem is None


@pytest.mark.parametrize("key", ["start", "stop"])
def test_unknown_cell_names_the_nearest(key: str) -> None:
    with pytest.raises(ValueError, match=r"unknown cell 'reduction_cell_2', did you mean 'reducti"):
        NASNetTrunk(IMAGENET, GENOTYPES["nasnet_a"], **{key: "reduction_cell_2"})


def test_stop_before_start_is_refused() -> None:
    with pytest.raises(ValueError, match="would stop at 'cell_1', before it starts at 'cell_3'"):
        NASNetTrunk(IMAGENET, GENOTYPES["nasnet_a"], start="cell_3", stop="cell_1")


def _train_step(checkpointing: bool, drop_path_prob: float, norm: str) -> dict[str, torch.Tensor]:
    """Two steps without an optimizer: losses, gradients and buffers."""
    torch.manual_seed(3)
    model = create_model(
        "nasnet_a_mobile", 5, channels=8, num_cells_per_stage=1, drop_path_prob=drop_path_prob,
        norm=norm, aux_head=True, input_size=88, activation_checkpointing=checkpointing,
    )  # fmt: skip
    num_runs = 0

    def count(*_: object) -> None:
        nonlocal num_runs
        num_runs += 1

    cells = [m for m in model.modules() if isinstance(m, Cell)]
    for cell in cells:
        cell.register_forward_pre_hook(count)
    results = {}
    for step in range(2):
        logits, aux = model(torch.randn(3, 3, 88, 80))
        loss = logits.square().sum() + aux.square().sum()
        loss.backward()
        results[f"loss {step}"] = loss.detach()
        results[f"random numbers {step}"] = torch.rand(3)
    assert num_runs == 2 * len(cells) * (2 if checkpointing else 1), "cells are run again"
    assert all(getattr(m, "momentum", 0.1) == 0.1 for m in model.modules()), "restored"
    results |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return results | dict(model.named_buffers())


@pytest.mark.parametrize(
    ("drop_path_prob", "norm"),
    [(0.0, "BN"), (0.5, "BN"), (0.5, "SyncBN"), (0.0, "GN"), (0.5, "FrozenBN")],
)
def test_checkpointing_changes_nothing(drop_path_prob: float, norm: str) -> None:
    """Same losses, gradients, running statistics and batch counts, and the same random stream."""
    plain = _train_step(False, drop_path_prob, norm)
    recomputed = _train_step(True, drop_path_prob, norm)
    assert recomputed.keys() == plain.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(recomputed[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    counts = {t.item() for name, t in recomputed.items() if name.endswith("num_batches_tracked")}
    assert counts == ({2} if norm in ("BN", "SyncBN") else set())


def test_drop_path_under_checkpointing_does_something() -> None:
    dropped, kept = _train_step(True, 0.5, "BN"), _train_step(True, 0.0, "BN")
    assert dropped["loss 0"] != kept["loss 0"]


def test_checkpointing_is_off_in_evaluation_and_without_gradients() -> None:
    trunk = NASNetTrunk(IMAGENET, GENOTYPES["nasnet_a"], activation_checkpointing=True)
    before = {name: t.clone() for name, t in trunk.eval().state_dict().items()}
    image = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        wanted = trunk(image)["c5"]
    torch.testing.assert_close(trunk(image)["c5"], wanted, rtol=0, atol=0)
    assert all(torch.equal(t, before[name]) for name, t in trunk.state_dict().items())
    with torch.no_grad():
        assert trunk.train()(image)["c5"].shape == wanted.shape


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_head_runs_on_no_regions(norm: str, training: bool) -> None:
    """An image without proposals gives the box head an empty batch."""
    head = NASNetTrunk(
        replace(IMAGENET, norm=norm), GENOTYPES["nasnet_a"], start="reduction_cell_1"
    )
    row = head.train(training).plan[0]
    pair = [torch.zeros(0, n, 17, 17) for n in (row.h_prev_channels, row.h_channels)]
    _, out, features = head.run(*pair)
    assert out.shape == features["c5"].shape == (0, head.plan[-1].out_channels, 9, 9)
    out.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
    assert all(b.isfinite().all() for b in head.buffers())


def test_copy_has_a_progress_of_its_own() -> None:
    """An average of the weights is a deep copy of the network."""
    trunk = NASNetTrunk(IMAGENET, GENOTYPES["nasnet_a"])
    other = copy.deepcopy(trunk)
    other.drop_path_progress.value = 0.5
    assert {m.progress.value for m in other.modules() if isinstance(m, DropPath)} == {0.5}
    assert {m.progress.value for m in trunk.modules() if isinstance(m, DropPath)} == {1.0}


def test_rows_are_named_in_running_order() -> None:
    spec, genotype_name = NETWORKS["nasnet"]
    assert [row.name for row in plan_cells(spec, GENOTYPES[genotype_name])] == [
        "cell_stem_0", "cell_stem_1", "cell_0", "cell_1", "reduction_cell_0",
        "cell_2", "cell_3", "reduction_cell_1", "cell_4", "cell_5",
    ]  # fmt: skip
