"""ScheduledDropPath: the formula, the mask, the shared progress."""

from __future__ import annotations

import pytest
import torch

from nasnet_det.drop_path import DropPath, DropPathProgress, scheduled_drop_path_prob
from nasnet_det.network import create_model
from nasnet_det.plan import DROP_PATH_SCHEDULES, override_spec, plan_cells
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import VARIANTS


def _slim_keep_prob(base_keep: float, cell: int, num_cells: int, step: float, steps: float,
                    version: str) -> float:  # fmt: skip
    """TF-slim's ``_apply_drop_path`` in its own words: keep probabilities and steps."""
    keep = base_keep
    if version in ("v2", "v3"):
        layer_ratio = (cell + 1) / num_cells
        keep = 1 - layer_ratio * (1 - keep)
    if version in ("v1", "v3"):
        current_ratio = min(1.0, step / steps)
        keep = 1 - current_ratio * (1 - keep)
    return keep


@pytest.mark.parametrize(
    ("version", "schedule"), [("v1", "time"), ("v2", "depth"), ("v3", "time_and_depth")]
)
def test_probability_equals_tf_slims(version: str, schedule: str) -> None:
    for cell in range(22):
        for step in (0, 1, 125_000, 250_000, 400_000):
            keep = _slim_keep_prob(0.7, cell, 22, step, 250_000, version)
            prob = scheduled_drop_path_prob(0.3, (cell + 1) / 22, step / 250_000, schedule=schedule)
            assert prob == pytest.approx(1 - keep, abs=1e-12)


def test_probability_at_its_corners() -> None:
    assert scheduled_drop_path_prob(0.4, 1.0, 1.0) == pytest.approx(0.4)
    assert scheduled_drop_path_prob(0.4, 0.5, 0.5) == pytest.approx(0.1)
    assert scheduled_drop_path_prob(0.4, 0.5, 0.0) == 0.0
    assert scheduled_drop_path_prob(0.4, 0.5, 7.0) == pytest.approx(0.2), "clipped at 1"
    assert scheduled_drop_path_prob(0.4, 0.5, -1.0) == 0.0, "clipped at 0"
    assert scheduled_drop_path_prob(0.4, 0.1, 0.5, schedule="time") == pytest.approx(0.2)
    assert scheduled_drop_path_prob(0.4, 0.5, 0.0, schedule="depth") == pytest.approx(0.2)


def test_mask_is_per_example_and_keeps_the_mean() -> None:
    drop = DropPath(0.3, 1.0, progress=DropPathProgress())
    x = torch.ones(20_000, 2, 2, 3)
    out = drop(x)
    per_example = out.flatten(1)
    assert torch.equal(per_example, per_example[:, :1].expand_as(per_example))
    values = per_example[:, 0].unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.7]))
    dropped = (per_example[:, 0] == 0).float().mean()
    assert dropped == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 20_000) ** 0.5)
    assert out.mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("schedule", DROP_PATH_SCHEDULES)
def test_compiled_paths_drop_as_often_and_are_compiled_once(schedule: str) -> None:
    """Though the progress changes: it is no constant of the compiled code."""
    torch._dynamo.reset()
    graphs = []

    def keep_graph(module: torch.fx.GraphModule, _: object) -> object:
        graphs.append(module)
        return module

    progress = DropPathProgress()
    drop = DropPath(0.5, 0.8, progress=progress, schedule=schedule)
    compiled = torch.compile(drop, backend=keep_graph)
    x = torch.ones(5000, 2, 1, 1)
    for value in (0.3, 0.7, 1.0):
        progress.value = value
        out = compiled(x)[:, 0, 0, 0]
        prob = drop.current_prob()
        torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / (1 - prob)]))
        assert (out == 0).float().mean() == pytest.approx(prob, abs=0.03)
    assert len(graphs) == 1
    assert torch.equal(compiled.eval()(x), x)


def test_gradient_passes_only_where_the_path_was_kept() -> None:
    x = torch.randn(64, 2, 1, 1, requires_grad=True)
    out = DropPath(0.5, 1.0, progress=DropPathProgress())(x)
    out.sum().backward()
    kept = out.detach()[:, 0, 0, 0] != 0
    assert 0 < kept.sum() < 64
    torch.testing.assert_close(x.grad[:, 0, 0, 0], torch.where(kept, 2.0, 0.0))


def test_nothing_is_dropped_in_evaluation_or_at_the_start() -> None:
    progress = DropPathProgress()
    drop = DropPath(0.9, 1.0, progress=progress)
    x = torch.randn(50, 3, 2, 2)
    assert not torch.equal(drop(x), x)
    assert drop.eval()(x) is x
    progress.value = 0.0
    assert drop.train()(x) is x


def test_progress_is_shared_by_all_cells_and_starts_at_one() -> None:
    model = create_model("nasnet_a_cifar_6_768", 10, channels=4, num_cells_per_stage=1)
    paths = [m for m in model.modules() if isinstance(m, DropPath)]
    assert len(paths) == len(model.trunk.plan) == 5
    assert model.trunk.drop_path_progress.value == 1.0
    assert {id(p.progress) for p in paths} == {id(model.trunk.drop_path_progress)}
    assert [p.current_prob() for p in paths] == pytest.approx([0.4 * k / 5 for k in range(1, 6)])
    model.trunk.drop_path_progress.value = 0.25
    assert [p.current_prob() for p in paths] == pytest.approx([0.1 * k / 5 for k in range(1, 6)])


def test_networks_do_not_share_their_progress() -> None:
    small = {"channels": 4, "num_cells_per_stage": 1}
    first, second = (create_model("nasnet_a_cifar_6_768", 10, **small) for _ in range(2))
    first.trunk.drop_path_progress.value = 0.0
    assert second.trunk.drop_path_progress.value == 1.0


@pytest.mark.parametrize(
    ("variant", "num_cells"),
    [("nasnet_a_large", 22), ("nasnet_a_mobile", 16), ("nasnet_a_cifar_6_768", 20)],
)
def test_depth_counts_stem_and_reduction_cells(variant: str, num_cells: int) -> None:
    spec, genotype = VARIANTS[variant]
    ratios = [row.depth_ratio for row in plan_cells(spec, GENOTYPES[genotype])]
    assert ratios == pytest.approx([(i + 1) / num_cells for i in range(num_cells)])


def test_a_part_of_a_network_keeps_its_place_in_the_depth() -> None:
    """The head of a detector goes on counting where the trunk stopped (true_cell_num 15 of 22)."""
    spec, genotype = VARIANTS["nasnet_a_large"]
    with torch.device("meta"):
        head = NASNetTrunk(
            override_spec(spec, channels=8), GENOTYPES[genotype], start="reduction_cell_1"
        )
    assert head.cells["reduction_cell_1"].drop_path.depth_ratio == pytest.approx(16 / 22)
    assert head.cells["cell_17"].drop_path.depth_ratio == 1.0


@pytest.mark.parametrize("schedule", DROP_PATH_SCHEDULES)
def test_schedule_reaches_every_cell(schedule: str) -> None:
    with torch.device("meta"):
        model = create_model("nasnet_a_large", channels=8, drop_path_schedule=schedule)
    assert {m.schedule for m in model.modules() if isinstance(m, DropPath)} == {schedule}


def test_unknown_schedule_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown drop path schedule 'times', did you mean 'time'"):
        create_model(drop_path_schedule="times")
