"""Mosaic and copy-paste: objects end where their pictures do, and vanish with all of them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("detectron2")

from detectron2.structures import BoxMode

from nasnet_det.detection.cut_objects import cut_polygons, decode_mask, encode_mask, get_box
from nasnet_det.detection.mixing import Mixing, Picture, draw_object, make_mosaic, paste_objects

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def make_object(box: tuple[int, int, int, int], shape: str, label: int = 0) -> dict[str, Any]:
    """An object that fills its box (x0, y0, x1, y1) in a picture of 60x40."""
    x0, y0, x1, y1 = box
    found = {"bbox": [x0, y0, x1 - x0, y1 - y0], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
    if shape == "polygon":
        found["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    if shape == "rle":
        mask = np.zeros((40, 60), bool)
        mask[y0:y1, x0:x1] = True
        found["segmentation"] = encode_mask(mask)
    return {**found, "category_id": label}


def make_picture(label: int, box: tuple[int, int, int, int], shape: str) -> Picture:
    """A grey picture with one object in the colour of its label."""
    image = np.full((40, 60, 3), 10 * label, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = COLOURS[label]
    return Picture(image, [make_object(box, shape, label)])


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, 50)), draw(st.integers(0, 30))
    return x0, y0, draw(st.integers(x0 + 4, 60)), draw(st.integers(y0 + 4, 40))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(boxes(), min_size=4, max_size=4),
    st.sampled_from(["", "polygon", "rle"]),
    st.integers(0, 999),
)
def test_objects_of_a_mosaic_are_where_their_colours_are(
    where: list[tuple[int, int, int, int]], shape: str, seed: int
) -> None:
    random.seed(seed)
    pictures = [make_picture(label, box, shape) for label, box in enumerate(where)]
    image, objects = make_mosaic(pictures, (0.5, 2.0))
    assert image.shape == (40, 60, 3)
    for label, colour in enumerate(COLOURS):
        pixels = (np.abs(image.astype(int) - colour) < 60).all(axis=2)
        mine = [found for found in objects if found["category_id"] == label]
        assert len(mine) <= 1
        if not mine:
            assert pixels.sum() <= 2 * (40 + 60), "what is not listed is a line of pixels at most"
            continue
        x0, y0, x1, y1 = box = get_box(mine[0])
        assert (box >= 0).all()
        assert x1 <= 60
        assert y1 <= 40
        drawn = draw_object(mine[0], (40, 60))
        border = 2 * (x1 - x0 + y1 - y0 + 4) * 1.5  # pixels that are mixed there
        assert (pixels & ~drawn).sum() <= border
        assert (drawn & ~pixels).sum() <= border
        if shape == "polygon":
            (polygon,) = (np.reshape(part, (-1, 2)) for part in mine[0]["segmentation"])
            assert polygon.min(axis=0) == pytest.approx([x0, y0], abs=1e-6)
            assert polygon.max(axis=0) == pytest.approx([x1, y1], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(boxes(), boxes(), st.sampled_from(["", "polygon", "rle"]), st.integers(0, 999))
def test_pasted_object_covers_what_lies_below(
    below: tuple[int, int, int, int], above: tuple[int, int, int, int], shape: str, seed: int
) -> None:
    random.seed(seed)
    first, second = make_picture(0, below, shape), make_picture(1, above, shape)
    image, objects = paste_objects(first, second, (0.5, 2.0))
    by_label = {found["category_id"]: found for found in objects}
    if 1 not in by_label:
        assert np.array_equal(image, first.image)
        assert objects == first.annotations
        return
    cover = draw_object(by_label[1], (40, 60))
    assert np.array_equal(image[~cover], first.image[~cover])
    whole = draw_object(first.annotations[0], (40, 60))
    assert (0 in by_label) == bool((whole & ~cover).any()), "all covered: gone with all of it"
    if 0 in by_label:
        x0, y0, x1, y1 = get_box(by_label[0])
        rows, columns = np.nonzero(whole & ~cover)
        assert (x0, x1) == (columns.min(), columns.max() + 1)
        assert (y0, y1) == (rows.min(), rows.max() + 1)
        if shape:
            assert np.array_equal(draw_object(by_label[0], (40, 60)), whole & ~cover)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-20, 80), st.floats(-20, 60)), min_size=3, max_size=3),
    st.floats(1, 30),
)
def test_cut_polygon_has_the_area_that_lies_inside(points: list[Any], margin: float) -> None:
    rectangle = (margin, margin / 2, 60 - margin / 2, 40 - margin / 4)
    parts = cut_polygons([np.array(points)], rectangle)
    xs, ys = (
        np.linspace(a, b, 200, endpoint=False)
        for a, b in ((rectangle[0], rectangle[2]), (rectangle[1], rectangle[3]))
    )
    xs, ys = xs + (xs[1] - xs[0]) / 2, ys + (ys[1] - ys[0]) / 2
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)
    (ax, ay), (bx, by), (cx, cy) = points
    sides = [
        (x1 - x0) * (grid[..., 1] - y0) - (y1 - y0) * (grid[..., 0] - x0)
        for x0, y0, x1, y1 in ((ax, ay, bx, by), (bx, by, cx, cy), (cx, cy, ax, ay))
    ]
    inside = np.all([side >= 0 for side in sides], axis=0) | np.all(
        [side <= 0 for side in sides], axis=0
    )
    if not (bx - ax) * (cy - ay) - (by - ay) * (cx - ax):
        return  # a line
    pixel = (xs[1] - xs[0]) * (ys[1] - ys[0])
    area = sum(
        abs(float(part[:, 0] @ np.roll(part[:, 1], 1) - part[:, 1] @ np.roll(part[:, 0], 1))) / 2
        for part in parts
    )
    assert area == pytest.approx(inside.sum() * pixel, abs=8 * 200 * pixel)
    for part in parts:
        assert (part >= np.array(rectangle[:2]) - 1e-9).all()
        assert (part <= np.array(rectangle[2:]) + 1e-9).all()


def test_concave_polygon_that_falls_apart_keeps_its_pixels() -> None:
    letter = np.array(
        [[5, 5], [55, 5], [55, 35], [45, 35], [45, 15], [15, 15], [15, 35], [5, 35]], float
    )
    (part,) = cut_polygons([letter], (0, 20, 60, 40))  # the two legs of a U
    mask = decode_mask([part.reshape(-1).tolist()], (40, 60))
    wanted = np.zeros((40, 60), bool)
    wanted[20:35, 5:15] = wanted[20:35, 45:55] = True
    assert np.array_equal(mask, wanted)


def test_crowds_are_never_pasted_and_probabilities_are_obeyed() -> None:
    first, second = make_picture(0, (0, 0, 9, 9), ""), make_picture(1, (20, 20, 40, 30), "")
    second.annotations[0]["iscrowd"] = 1
    drawn: list[int] = []

    def draw() -> Picture:
        drawn.append(1)
        return second

    random.seed(0)
    assert Mixing(paste_prob=1.0)(first, draw).annotations == first.annotations
    assert len(drawn) == 1
    Mixing(mosaic_prob=1.0)(first, draw)
    assert len(drawn) == 4
    for _ in range(200):
        Mixing(mosaic_prob=0.5)(first, draw)
    assert 200 < len(drawn) < 400
    assert np.array_equal(Mixing()(first, draw).image, first.image)


def test_keypoints_end_with_their_picture_and_are_hidden_below() -> None:
    first = make_picture(0, (0, 0, 30, 20), "rle")
    first.annotations[0]["keypoints"] = [5.5, 5.5, 2, 25.5, 15.5, 2, 0, 0, 0]
    cover = make_picture(1, (0, 0, 12, 12), "rle")
    for seed in range(20):
        random.seed(seed)
        _, objects = paste_objects(first, cover, (1.0, 1.0))
        if len(objects) == 2:
            break
    assert np.reshape(objects[0]["keypoints"], (3, 3))[:, 2].tolist() == [1, 2, 0]
    random.seed(0)
    _, objects = make_mosaic([first, cover, cover, cover], (2.0, 2.0))
    for found in objects:
        points = np.reshape(found.get("keypoints", []), (-1, 3))
        x0, y0, x1, y1 = get_box(found)
        for x, y, seen in points.tolist():
            assert not seen or (x0 <= x <= x1 and y0 <= y <= y1)
