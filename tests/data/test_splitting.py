"""Splits by image: rare classes in both parts, copies in one; the same seed, the same parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nasnet_det.data.alike import group_alike
from nasnet_det.data.error import DataError
from nasnet_det.data.splitting import choose_val, split_data


def draw(path: Path, seed: int, **options: Any) -> None:
    """A soft picture of noise, another one for each seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((96, 64), Image.Resampling.BICUBIC).save(path, **options)


def write_set(folder: Path, num_images: int = 20) -> Path:
    """Pictures of a usual class, and two of a rare one; picture 1 is 0 saved anew."""
    for i in range(num_images):
        draw(folder / "images" / f"{i}.jpg", max(i, 1), quality=40 if i == 0 else 95)
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 64, "license": 3}
        for i in range(num_images)
    ]
    annotations = [
        {
            **{"id": i + 1, "image_id": i, "bbox": [1, 2, 9, 9], "area": 81, "iscrowd": 0},
            "category_id": 2 if i in (4, 9) else 1,
        }
        for i in range(num_images - 2)
    ]
    categories = [{"id": 1, "name": "usual"}, {"id": 2, "name": "rare"}, {"id": 5, "name": "no"}]
    content = {"info": {"year": 2026}, "images": images, "annotations": annotations}
    path = folder / "all.json"
    path.write_text(json.dumps({**content, "categories": categories}))
    return path


def read_parts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{part}.json").read_text()) for part in ("train", "val")]


def test_parts_are_the_whole_and_nothing_twice(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    split = split_data(str(path), tmp_path / "out", images=str(tmp_path / "images"))
    whole, parts = json.loads(path.read_text()), read_parts(tmp_path / "out")
    for key in ("images", "annotations"):
        both = sorted((record for part in parts for record in part[key]), key=lambda r: r["id"])
        assert both == whole[key]
    for part in parts:
        assert (part["categories"], part["info"]) == (whole["categories"], whole["info"])
        names = {image["id"] for image in part["images"]}
        assert {record["image_id"] for record in part["annotations"]} <= names
        assert any(record["category_id"] == 2 for record in part["annotations"])
        assert {0, 1} <= names or not {0, 1} & names  # one picture, saved twice
    assert split.num_images == (16, 4)
    assert (split.num_kept, split.in_one) == (1, ())
    assert sum(split.num_objects) == 18


def test_seed_decides(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split_data(str(path), tmp_path / name, seed=seed)
    first, second, third = (read_parts(tmp_path / name) for name in "abc")
    assert first == second
    assert first != third


def test_class_of_one_part_is_told(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][4]["category_id"] = content["annotations"][0]["category_id"]
    for number in (0, 1):  # both are one picture
        content["annotations"][number]["category_id"] = 5
    path.write_text(json.dumps(content))
    images = str(tmp_path / "images")
    assert split_data(str(path), tmp_path / "out", images=images).in_one == ("no",)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 60), st.integers(1, 6), st.floats(0.1, 0.5), st.integers(0, 2**31), st.data())
def test_groups_stay_whole_and_shares_are_near(
    num_images: int, num_classes: int, share: float, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    counts = rng.poisson(0.5, (num_images, num_classes))
    groups = rng.integers(0, max(2, num_images - 2), num_images)
    is_val = choose_val(counts, groups, share=share, seed=seed)
    for group in set(groups.tolist()):
        assert len(set(is_val[groups == group].tolist())) == 1
    # Each class asks for at least one group in val, and groups have up to five pictures or so.
    largest = np.bincount(groups).max()
    assert abs(is_val.sum() - share * num_images) <= num_classes + largest + 1


def test_one_class_is_dealt_by_its_share() -> None:
    counts = np.ones((1000, 1), dtype=int)
    assert choose_val(counts, np.arange(1000), share=0.25, seed=3).sum() == 250


def test_alike_are_copies_smaller_ones_and_none_else(tmp_path: Path) -> None:
    for i in range(4):
        draw(tmp_path / f"{i}.png", i)
    Image.open(tmp_path / "1.png").resize((48, 32)).save(tmp_path / "4.jpg", quality=60)
    (tmp_path / "5.jpg").write_bytes(b"broken")
    Image.new("RGB", (9, 9)).save(tmp_path / "6.png")  # flat ones are all alike, and not told so
    Image.new("RGB", (9, 9)).save(tmp_path / "7.png")
    names = ["0.png", "1.png", "2.png", "3.png", "4.jpg", "5.jpg", "6.png", "7.png"]
    groups = group_alike([str(tmp_path / name) for name in names])
    assert groups.tolist() == [0, 1, 2, 3, 1, 5, 6, 7]


def test_what_can_not_be_split_is_one_sentence(tmp_path: Path) -> None:
    path = write_set(tmp_path, num_images=3)
    with pytest.raises(DataError, match="--val: wanted a share between 0 and 1, got 1.5"):
        split_data(str(path), tmp_path / "out", share=1.5)
    with pytest.raises(DataError, match="--images: there is no folder"):
        split_data(str(path), tmp_path / "out", images=str(tmp_path / "none"))
    content = json.loads(path.read_text())
    content["images"] = content["images"][:1]
    content["annotations"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="wanted pictures for both parts, got 1"):
        split_data(str(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
