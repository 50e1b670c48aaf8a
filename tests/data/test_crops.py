"""Objects as pictures in class folders, on which search and classifier work as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nasnet_det.data.crops import crop_objects, place_square
from nasnet_det.data.error import DataError

COLOURS = {"red/cell": (255, 0, 0), "..": (0, 0, 255)}


def write_set(folder: Path, name: str = "train", num_images: int = 4) -> str:
    """Pictures of 80x60 with a red and a blue square of 20 pixels each."""
    images, annotations = [], []
    for i in range(num_images):
        pixels = np.full((60, 80, 3), 128, np.uint8)
        for c, colour in enumerate(COLOURS.values(), start=1):
            x, y = 10 + 35 * (c - 1) + i, 5 + 2 * i
            pixels[y : y + 20, x : x + 20] = colour
            annotation: dict[str, Any] = {
                "area": 400,
                "iscrowd": 0,
                "image_id": i,
                "category_id": c,
            }
            annotations.append({"id": len(annotations) + 1, "bbox": [x, y, 20, 20], **annotation})
        path = folder / "pictures" / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        images.append({"id": i, "file_name": f"{name}/{i}.png", "width": 80, "height": 60})
    categories = [{"id": c, "name": n} for c, n in enumerate(COLOURS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"instances_{name}.json").write_text(json.dumps(content))
    return str(folder / f"instances_{name}.json")


def test_crops_are_the_objects(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    content = json.loads(Path(path).read_text())
    content["annotations"] += [
        {**content["annotations"][0], "id": 90, "iscrowd": 1},
        {**content["annotations"][0], "id": 91, "bbox": [3, 3, 5, 9]},
    ]
    Path(path).write_text(json.dumps(content))
    made = crop_objects([path], tmp_path / "out", images=str(tmp_path / "pictures"), margin=0)
    assert made["train"].counts == {"red/cell": 4, "..": 4}
    assert made["train"].losses.counts == {"crowds": 1, "objects below 16 pixels": 1}
    folders = {p.name: p for p in (tmp_path / "out/train").iterdir()}
    assert set(folders) == {"red_cell", "class"}  # no class leaves the folder
    for folder, colour in zip(("red_cell", "class"), COLOURS.values(), strict=True):
        crops = [np.asarray(Image.open(p)) for p in sorted(folders[folder].iterdir())]
        assert len(crops) == 4
        assert all(crop.shape == (20, 20, 3) and (crop == colour).all() for crop in crops)


def test_broken_picture_is_counted_or_stops(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    (tmp_path / "pictures/train/2.png").write_bytes(b"")
    images = str(tmp_path / "pictures")
    made = crop_objects([path], tmp_path / "out", images=images)
    assert made["train"].losses.counts == {"objects of pictures that can't be read": 2}
    with pytest.raises(DataError, match="train/2.png .* can't be read; mend or remove it"):
        crop_objects([path], tmp_path / "new", images=images, broken_images="stop")
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match="no object of .* is as large as 50 pixels"):
        crop_objects([path], tmp_path / "new", images=images, min_size=50)
    with pytest.raises(DataError, match="no folder of its pictures; name it by --images"):
        crop_objects([path], tmp_path / "new")


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.floats(0, 2),
)
def test_square_lies_in_the_picture_around_the_box(
    size: tuple[int, int], shares: tuple[float, ...], margin: float
) -> None:
    x, y = shares[0] * size[0], shares[1] * size[1]
    box = (x, y, shares[2] * (size[0] - x), shares[3] * (size[1] - y))
    found = place_square(box, size, margin=margin)
    if found is None:
        assert box[2] == 0 or box[3] == 0 or x >= size[0] or y >= size[1]
        return
    left, top, right, bottom = found
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    if max(right - left, bottom - top) < min(size):
        assert right - left == bottom - top
    # What is cut off a box is no more than half a pixel by rounding.
    assert left <= x + 1
    assert right >= min(x + box[2], size[0]) - 1
    assert top <= y + 1
    assert bottom >= min(y + box[3], size[1]) - 1


def test_search_and_classifier_train_on_crops(tmp_path: Path) -> None:
    from nasnet_det.classification.config import get_classification_config
    from nasnet_det.classification.data import load_data
    from nasnet_det.data.image_sets import load_images

    sources = [write_set(tmp_path / "a", "train"), write_set(tmp_path / "b", "val2017", 2)]
    folders = [str(tmp_path / name / "pictures") for name in "ab"]
    with pytest.raises(DataError, match="--images: wanted one folder, or one for each of 2"):
        crop_objects(sources, tmp_path / "out", images=[*folders, "c"])
    crop_objects(sources, tmp_path / "out", images=folders)
    images = load_images(str(tmp_path / "out"), 16)
    assert images.images.shape == (8, 3, 16, 16)
    means = images.images.float().mean(dim=(2, 3))
    order = {"class": 2, "red_cell": 0}  # sorted names; which colour is the strongest
    assert means.argmax(dim=1).tolist() == [list(order.values())[n] for n in images.labels.tolist()]
    cfg = get_classification_config(
        opts=["DATA.PATH", str(tmp_path / "out"), "SOLVER.BATCH_SIZE", "2"]
    )
    data = load_data(cfg)
    assert data.classes == ("class", "red_cell")
    assert (len(data.train), len(data.test)) == (8, 4)


def test_background_is_where_no_object_is(tmp_path: Path) -> None:
    source = write_set(tmp_path)
    made = crop_objects(
        [source], tmp_path / "crops", images=str(tmp_path / "pictures"), with_background=True
    )
    paths = sorted((tmp_path / "crops" / "train" / "background").iterdir())
    assert made["train"].counts["background"] == len(paths) == 4
    for path in paths:
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (20, 20, 3)
        assert (pixels == 128).all(axis=2).mean() >= 0.8  # at most a tenth of each of two objects
