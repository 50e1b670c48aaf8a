"""Pictures on their way to a detector: Detectron2's arrays, and what can't be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detection needs Detectron2")

from detectron2.data import DatasetMapper, detection_utils
from detectron2.structures import BoxMode
from odd_pictures import write_no_pictures
from PIL import Image
from torch.utils.data import DataLoader

from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import PictureError
from nasnet_det.detection.config import get_config
from nasnet_det.detection.mapper import PictureMapper, ReadableBatches, read_image
from nasnet_det.detection.resize import build_test_resize


def make_record(path: Path, key: int = 0) -> dict[str, Any]:
    box = {"bbox": [5, 6, 20.5, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0}
    record = {"file_name": str(path), "image_id": key, "width": 60, "height": 40}
    return {**record, "annotations": [box]}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L", "YUV-BT.601"])
def test_ordinary_picture_is_detectron2s_array(picture: Path, image_format: str) -> None:
    for suffix in ("png", "jpg"):
        path = picture.with_suffix(f".{suffix}")
        Image.open(picture).save(path)
        wanted = detection_utils.read_image(str(path), image_format)
        ours = read_image(str(path), image_format)
        assert ours.dtype == wanted.dtype
        assert np.array_equal(ours, wanted)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("MIN_SIZE_TRAIN (64,80) INPUT.CROP.ENABLED True", None),
        ("MIN_SIZE_TRAIN (90,) INPUT.MAX_SIZE_TRAIN 60 INPUT.RANDOM_FLIP vertical", (40, 60)),
        ("MIN_SIZE_TRAIN (20,30) INPUT.MIN_SIZE_TRAIN_SAMPLING range", None),
        (
            "MIN_SIZE_TRAIN (0,) INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute "
            "INPUT.CROP.SIZE [20,30]",
            (20, 30),
        ),
    ],
)
@pytest.mark.parametrize("is_train", [True, False])
def test_mapped_record_is_detectron2s(
    picture: Path, is_train: bool, text: str, shape: tuple[int, int] | None
) -> None:
    cfg = get_config(opts=f"INPUT.{text}".split())
    results = []
    for mapper in (DatasetMapper(cfg, is_train), PictureMapper(cfg, is_train)):
        np.random.seed(3)
        record = make_record(picture)
        results.append(mapper(record))
        assert record == make_record(picture), "a mapper leaves its record alone"
    theirs, ours = results
    assert theirs.keys() == ours.keys()
    assert torch.equal(theirs["image"], ours["image"])
    if is_train and shape:
        assert ours["image"].shape[1:] == shape
    if is_train:
        assert torch.equal(theirs["instances"].gt_boxes.tensor, ours["instances"].gt_boxes.tensor)


def test_sizes_of_test_pictures_are_the_config_s(picture: Path) -> None:
    for minimum, maximum, wanted in ((20, 100, (20, 30)), (30, 30, (20, 30)), (60, 100, (60, 90))):
        opts = f"INPUT.MIN_SIZE_TEST {minimum} INPUT.MAX_SIZE_TEST {maximum}".split()
        pixels = read_image(str(picture), "RGB")
        resize = build_test_resize(get_config(opts=opts)).get_transform(pixels)
        assert resize.apply_image(pixels).shape[:2] == wanted


@pytest.mark.parametrize("name", ["cut.jpg", "empty.jpg", "page.jpg", "nowhere.jpg"])
def test_broken_picture_is_skipped_or_stops(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_no_pictures(tmp_path)
    cfg = get_config()
    record = make_record(tmp_path / name)
    assert PictureMapper(cfg, is_train=True)(record) is None
    assert f"{name} (" in caplog.text
    assert "can't be read and is skipped" in caplog.text
    cfg.DATASETS.BROKEN_IMAGES = "stop"
    with pytest.raises(DataError, match=rf"image .*{name} \(.*\) can't be read; mend or remove it"):
        PictureMapper(cfg, is_train=True)(record)
    with pytest.raises(PictureError, match=f"{name} can't be read as a picture"):
        read_image(record["file_name"], "RGB")


def _same(batch: list[Any]) -> list[Any]:
    return batch


class _Mapped(torch.utils.data.Dataset):
    def __init__(self, records: list[Any], mapper: PictureMapper) -> None:
        self.records, self.mapper = records, mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        return self.mapper(self.records[index])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_evaluation_leaves_broken_pictures_out_and_counts_them(
    picture: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_no_pictures(picture.parent)
    paths = [picture, picture.parent / "cut.jpg", picture.parent / "empty.jpg", picture]
    records = [make_record(path, key) for key, path in enumerate(paths)]
    cfg = get_config()

    def load() -> ReadableBatches:
        dataset = _Mapped(records, PictureMapper(cfg, is_train=False))
        loader = DataLoader(dataset, batch_size=1, collate_fn=_same, num_workers=num_workers)
        return ReadableBatches(loader)

    batches = load()
    assert len(batches) == 4
    assert [record["image_id"] for batch in batches for record in batch] == [0, 3]
    assert batches.num_broken == 2
    assert "2 images can't be read; their objects count as not found" in caplog.text
    cfg.DATASETS.BROKEN_IMAGES = "stop"
    with pytest.raises(DataError, match=r"^image .*cut.jpg \(") as error:
        list(load())
    assert "\n" not in str(error.value), "no traceback of a worker"
