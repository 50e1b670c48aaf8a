"""A batch in parts: the step of the whole batch, in the memory of a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from tiny_training import make_config, start

from nasnet_det.config import ConfigError
from nasnet_det.detection.step import CheckedStep, NonFiniteLossError
from nasnet_det.detection.trainer import Trainer


class _Regression(nn.Module):
    """Losses are means over pictures, of whole numbers, so that no sum rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.num_seen: list[int] = []

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.num_seen.append(len(batch))
        values = torch.tensor([picture["x"] for picture in batch])
        return {"one": (self.weight[0] * values).mean(), "two": (self.weight[1] * values).mean()}


def _take_step(num_parts: int, values: list[float], **options: Any) -> tuple[_Regression, Any]:
    model = _Regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    runner: Any = nn.parallel.DistributedDataParallel(model) if comm.get_world_size() > 1 else model
    data = [[{"x": value, "file_name": f"{i}.png"} for i, value in enumerate(values)]]
    given = {"precision": None, "device_type": "cpu", **options}
    step = CheckedStep(runner, data, optimizer, num_parts=num_parts, **given)
    with EventStorage() as storage:
        step.run_step()
    return model, storage


@pytest.mark.parametrize("precision", [None, torch.float16])  # whose losses are scaled
def test_parts_give_the_bits_of_the_whole(precision: torch.dtype | None) -> None:
    values = [1.0, 3.0, 5.0, 15.0]
    whole, storage = _take_step(1, values, precision=precision)
    for num_parts, lengths in ((2, [2, 2]), (3, [1, 1, 2]), (4, [1] * 4)):
        parts, other = _take_step(num_parts, values, precision=precision)
        assert parts.num_seen == lengths
        assert torch.equal(whole.weight, parts.weight)
        for name in ("one", "two", "total_loss"):
            assert other.latest()[name] == storage.latest()[name]


def _step_on_two_processes(folder: str) -> None:
    values = [2.0, 4.0] if comm.get_rank() else [8.0, 16.0]
    weights = [_take_step(num_parts, values)[0].weight.data for num_parts in (1, 2)]
    torch.save(weights, Path(folder, str(comm.get_rank())))
    comm.synchronize()
    torch.distributed.destroy_process_group()


def test_parts_of_two_processes_exchange_gradients_once_and_all(tmp_path: Path) -> None:
    launch(_step_on_two_processes, 2, dist_url="auto", args=(str(tmp_path),))
    alone, _ = _take_step(1, [2.0, 4.0, 8.0, 16.0])
    for rank in "01":
        whole, parts = torch.load(tmp_path / rank, weights_only=True)
        assert torch.equal(whole, parts)
        assert torch.equal(whole, alone.weight.data)


def test_part_with_a_loss_of_nan_is_named_and_no_weight_changes() -> None:
    model = _Regression()
    data = [[{"x": value, "file_name": f"{i}.png"} for i, value in enumerate([1.0, 2.0, 3.0])]]
    data[0][2]["x"] = float("nan")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = CheckedStep(model, data, optimizer, precision=None, device_type="cpu", num_parts=3)
    with EventStorage(), pytest.raises(NonFiniteLossError, match=r"images: 2\.png$") as info:
        step.run_step()
    assert (info.value.part, len(info.value.batch)) == (2, 1)
    assert model.weight.tolist() == [1.0, 2.0]


def test_detector_s_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """Of the RPN, with every anchor in its loss: nothing is drawn, and each picture counts alike."""
    gradients = []
    for num_parts in (1, 2):
        cfg = make_config(
            tmp_path,
            MODEL__META_ARCHITECTURE="ProposalNetwork",
            MODEL__NASNET__NORM="GN",
            MODEL__RPN__BATCH_SIZE_PER_IMAGE=10000,
            SOLVER__IMS_PER_BATCH=4,
            SOLVER__NUM_PARTS=num_parts,
            DATASETS__TEST_JSON="",
            DATASETS__TEST_IMAGES="",
        )
        trainer = start(cfg)
        with EventStorage():
            trainer.run_step()
        gradients.append({n: p.grad for n, p in trainer.model.named_parameters()})
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert any(bool(g.abs().max() > 1e-3) for g in gradients[0].values() if g is not None)


def test_each_part_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, SOLVER__IMS_PER_BATCH=4, SOLVER__NUM_PARTS=2)
    trainer = start(cfg)
    drawn: list[float] = []
    trainer.model.register_forward_pre_hook(lambda *_: drawn.append(float(torch.rand(()))))
    with EventStorage():
        for _ in range(2):
            trainer.run_step()
    assert drawn[:2] == drawn[2:], "functions of the iteration"
    assert drawn[0] != drawn[1]


def test_more_parts_than_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.NUM_PARTS: wanted at most 2, the pictures"):
        Trainer(make_config(tmp_path, SOLVER__NUM_PARTS=3))
