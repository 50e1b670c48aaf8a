"""The first rung of a search for detectors: what one of its children is said to take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasnet_det.search import crop_child
from nasnet_det.search.child import ChildRecipe
from nasnet_det.search.crop_child import STEP_COST, CropTrainer
from nasnet_det.search.data import ChildData, DataSource
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.space import Decision, SearchSpace

SPACE = SearchSpace(
    1,
    ("identity", "sep_conv_3x3"),
    ("add",),
    (
        Decision("num_cells_per_stage", (1,)),
        Decision("channels", (4, 8)),
        Decision("min_size", (64,)),
    ),
)


@pytest.mark.parametrize("epochs", [1, 5])
def test_estimate_is_what_a_child_takes(
    epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where an evaluation of a crop takes a second, times the channels.

    It is asked of different cells, as one child's may cost a multiple of another's.
    """
    probed = set()

    def seconds(recipe: ChildRecipe, data: ChildData) -> float:
        work = STEP_COST * recipe.epochs * len(data.train.labels) + len(data.held_out.labels)
        return float(recipe.channels * work)

    def pretend(
        job: ChildJob, recipe: ChildRecipe, space: SearchSpace, data: ChildData, *, device: str
    ) -> ChildResult:
        probed.add((recipe.channels, job.choices))
        return ChildResult(job.number, 0.5, "", seconds(recipe, data))

    monkeypatch.setattr(crop_child, "train_child", pretend)
    path = tmp_path / "crops.npz"
    np.savez(path, x_train=np.zeros((300, 8, 8, 3), np.uint8), y_train=np.arange(300) % 2)
    source = DataSource(str(path), num_held_out=20, image_size=8, upsampled_size=10)
    recipe = ChildRecipe(channels=6, epochs=epochs, batch_size=16)  # channels: the ends' mean
    trainer = CropTrainer(recipe, SPACE, source)
    wanted = seconds(recipe, trainer.load("cpu"))
    assert trainer.estimate_seconds("cpu") == pytest.approx(wanted)
    assert len(probed) >= 4
    assert {channels for channels, _ in probed} == {4, 8}
