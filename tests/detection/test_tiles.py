"""Tiles: where they lie, what becomes of a box at their edges, and that a picture is covered."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

import detectron2.data.transforms as T
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from nasnet_det.config import ConfigError
from nasnet_det.detection import get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.tiles import TiledDetector, View, merge_views, plan_tiles


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(20, 200), st.floats(0, 0.95))
def test_tiles_cover_the_picture_and_overlap_enough(
    height: int, width: int, size: int, overlap: float
) -> None:
    whole, *tiles = plan_tiles(height, width, size=size, overlap=overlap)
    assert whole == (0, 0, width, height)
    if max(height, width) <= size:
        assert not tiles
        return
    covered = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (min(size, width), min(size, height))
        covered[top:bottom, left:right] = True
    assert covered.all()
    assert len(set(tiles)) == len(tiles)
    for starts in ({tile.left for tile in tiles}, {tile.top for tile in tiles}):
        steps = [after - before for before, after in pairwise(sorted(starts))]
        assert all(step <= max(1, size - int(size * overlap)) + 1 for step in steps)


class ColourDetector(torch.nn.Module):
    """Finds the box of all pixels of value 200 or more in what it sees, if it is 8 pixels or more.

    Its mask are these pixels, and a keypoint is the first corner.
    """

    def forward(self, inputs: list[dict]) -> list[dict[str, Instances]]:
        return [{"instances": self._find(item)} for item in inputs]

    def _find(self, item: dict) -> Instances:
        size = item["height"], item["width"]
        scale = torch.tensor([size[1] / item["image"].shape[2], size[0] / item["image"].shape[1]])
        bright = item["image"][0] >= 200
        found = Instances(size)
        rows, columns = torch.nonzero(bright, as_tuple=True)
        is_seen = (
            bool(len(rows))
            and int(torch.tensor([rows.max() - rows.min(), columns.max() - columns.min()]).min())
            >= 7
        )
        boxes = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if is_seen else []
        box = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * scale.repeat(2)
        found.pred_boxes, found.scores = Boxes(box), torch.full((len(boxes),), 0.9)
        found.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
        found.pred_keypoints = torch.cat([box[:, None, :2], torch.ones(len(boxes), 1, 1)], dim=2)
        mask = torch.nn.functional.interpolate(bright[None, None].float(), size)[0] > 0.5
        found.pred_masks = mask[: len(boxes)]
        return found


def _find(image: np.ndarray, *, batch_size: int = 1, size: int = 64) -> Instances:
    detector = TiledDetector(
        ColourDetector(),
        T.ResizeShortestEdge([64, 64], 64),
        size=size,
        overlap=0.25,
        nms_threshold=0.5,
        batch_size=batch_size,
    )
    (found,) = detector([{"image": torch.as_tensor(image.transpose(2, 0, 1).copy())}])
    return found["instances"]


@pytest.mark.parametrize(
    "box",
    [
        (100, 120, 110, 130),  # small: too few pixels are left of it in the whole
        (40, 100, 60, 124),  # on the edge of a tile, and whole in the next
        (10, 10, 200, 180),  # larger than any tile
        (244, 0, 256, 12),  # in a corner of the picture, where nothing is cut
    ],
)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_object_is_found_once_and_whole(box: tuple[int, int, int, int], batch_size: int) -> None:
    left, top, right, bottom = box
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[top:bottom, left:right] = 255
    found = _find(image, batch_size=batch_size)
    tolerance = 4.1 if right - left > 64 else 0.1  # seen at a quarter of its size
    assert found.pred_boxes.tensor.shape == (1, 4)
    assert np.abs(found.pred_boxes.tensor[0].numpy() - box).max() <= tolerance
    assert found.pred_keypoints[0, 0, :2].tolist() == found.pred_boxes.tensor[0, :2].tolist()
    rows, columns = np.nonzero(found.pred_masks[0].numpy())
    assert abs(rows.min() - top) <= tolerance
    assert abs(columns.max() + 1 - right) <= tolerance


def test_small_object_is_missed_in_the_whole_alone() -> None:
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[120:130, 100:110] = 255
    assert len(_find(image, size=256)) == 0
    assert len(_find(image)) == 1


def test_picture_without_objects_has_none() -> None:
    found = _find(np.zeros((200, 100, 3), dtype=np.uint8))
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 200, 100)
    assert found.pred_keypoints.shape == (0, 1, 3)


def _instances(*boxes: list[float], scores: list[float], classes: list[int]) -> Instances:
    found = Instances((100, 100), pred_boxes=Boxes(torch.tensor(boxes)))
    found.scores, found.pred_classes = torch.tensor(scores), torch.tensor(classes)
    return found


def test_cut_box_goes_where_its_object_was_seen_whole_and_stays_elsewhere() -> None:
    views = [View(0, 0, 160, 100), View(0, 0, 100, 100), View(60, 0, 160, 100)]
    whole = _instances([80.0, 10, 140, 40], scores=[0.3], classes=[0])
    left = _instances([80.0, 10, 100, 40], [70.0, 60, 100, 90], scores=[0.9, 0.8], classes=[0, 0])
    other = _instances([0.0, 12, 75, 38], scores=[0.7], classes=[1])
    merged = merge_views(views, [whole, left, other], (100, 160), nms_threshold=0.5)
    kept = {
        (label, *box)
        for label, box in zip(
            merged.pred_classes.tolist(), merged.pred_boxes.tensor.tolist(), strict=True
        )
    }
    assert kept == {
        (0, 80, 10, 140, 40),  # its part in a tile is gone, though that had a better score
        (0, 70, 60, 100, 90),  # nothing else shows this one
        (1, 60, 12, 135, 38),  # of another class
    }
    assert merged.scores.diff().max() <= 0


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("SIZE", -1, "TEST.TILES.SIZE: wanted at least 0, got -1"),
        ("OVERLAP", 1.0, r"TEST.TILES.OVERLAP: wanted a number in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_tiles_are_refused(key: str, value: float, sentence: str) -> None:
    cfg = get_config()
    cfg.TEST.TILES[key] = value
    with pytest.raises(ConfigError, match=sentence):
        check_values(cfg)


def test_tiles_are_those_of_the_config() -> None:
    cfg = get_config(opts=["TEST.TILES.SIZE", "320", "TEST.TILES.OVERLAP", "0.3"])
    detector = TiledDetector.from_config(cfg, ColourDetector())
    assert (detector.size, detector.overlap) == (320, 0.3)
