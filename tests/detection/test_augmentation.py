"""Augmentations of a config: which they are, what they do to objects, and what is refused."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from command import run_command
from detectron2.structures import BoxMode
from PIL import Image
from tiny_detection import write_tiny_config, write_tiny_dataset
from tiny_training import make_config, start
from torch.nn.functional import max_pool2d

from nasnet_det.config import ConfigError
from nasnet_det.detection import draw_training, get_config
from nasnet_det.detection.augmentation import build_augmentations
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.loader import build_train_loader, start_from
from nasnet_det.detection.mapper import PictureMapper
from nasnet_det.detection.validation_loss import measure_validation_loss
from nasnet_det.errors import MissingPackageError
from nasnet_det.runs.files import FileError
from nasnet_det.runs.seeds import seeded

TURN = "RandomRotation([-30, 30])" if find_spec("cv2") else "RandomFlip(0.5)"
ALL = f"""["RandomApply({TURN}, 0.5)", "RandomExtent((0.8, 1.2), (0.1, 0.1))",
"RandomBrightness(0.5, 1.5)", "RandomContrast(0.5, 1.5)", "RandomSaturation(0.5, 1.5)",
"RandomLighting(20)", "RandomCrop('relative_range', [0.6, 0.6])",
"ResizeScale(0.3, 2.0, 64, 80)", "FixedSizeCrop((64, 80))", "RandomFlip(0.5, horizontal=False, vertical=True)"]"""
MIXED = ["INPUT.MOSAIC.PROB", "0.7", "INPUT.COPY_PASTE.PROB", "0.7"]


def write_pipeline(path: Path, *transforms: dict[str, Any], **rules: Any) -> str:
    content = {"__class_fullname__": "Compose", "p": 1.0, "transforms": list(transforms)}
    boxes = {"format": "coco", "label_fields": ["labels"], **rules} if rules else None
    path.write_text(json.dumps({"transform": {**content, "bbox_params": boxes}}))
    return str(path)


def transform(name: str, **arguments: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": 1.0, **arguments}


def make_record(
    folder: Path, box: tuple[int, int, int, int] = (20, 10, 50, 30), *, scale: int = 1
) -> dict[str, Any]:
    """A grey picture of 60x40, or so many times as large, with a red rectangle (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    width, height = 60 * scale, 40 * scale
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[y0:y1, x0:x1] = (255, 0, 0)
    Image.fromarray(pixels).save(folder / "a.png")
    found = {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0}
    found["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    record = {"file_name": str(folder / "a.png"), "image_id": 0, "width": width, "height": height}
    return {**record, "annotations": [found]}


def test_rotation_without_opencv_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    cfg = get_config(opts=["INPUT.AUGMENTATIONS", "['RandomApply(RandomRotation([-9, 9]), 0.1)']"])
    with pytest.raises(MissingPackageError, match="opencv-python-headless"):
        check_values(cfg)


def test_augmentations_of_the_config_cut_boxes_and_masks_where_the_picture_is_cut(
    tmp_path: Path,
) -> None:
    words = ["INPUT.AUGMENTATIONS", ALL, "INPUT.MIN_SIZE_TRAIN", "[0]", "INPUT.FORMAT", "RGB"]
    cfg = get_config(opts=[*words, "MODEL.MASK_ON", "True", "INPUT.MASK_FORMAT", "bitmask"])
    check_values(cfg)
    mapper = PictureMapper(cfg, is_train=True)
    names = [type(part).__name__ for part in mapper.augmentations.augs]
    wanted = ["RandomApply", "RandomExtent", "RandomBrightness", "RandomContrast"]
    wanted += ["RandomSaturation", "RandomLighting", "RandomCrop", "ResizeScale", "FixedSizeCrop"]
    assert names == [*wanted, "RandomFlip", "ResizeShortestEdge", "RandomFlip"]
    numbers = []
    for seed in range(60):
        with seeded(seed):
            found = mapper(make_record(tmp_path, (20, 20, 220, 160), scale=10))
        assert found is not None
        assert found["image"].shape == (3, 64, 80)
        instances = found["instances"]
        numbers.append(len(instances))
        if not len(instances):
            continue
        (mask,) = instances.gt_masks.tensor
        red, green, blue = found["image"].float()
        is_red = (red > 1.5 * green) & (red > 1.5 * blue) & (red > 40)
        area = mask[None].float()
        inner, outer = -max_pool2d(-area, 3, 1, 1)[0], max_pool2d(area, 3, 1, 1)[0]
        assert not ((inner > 0) & ~is_red).any(), "masks lie where the object does"
        assert not (is_red & (outer == 0)).any(), "up to a pixel of its border"
        x0, y0, x1, y1 = instances.gt_boxes.tensor[0].round().int().tolist()
        assert mask[y0:y1, x0:x1].sum() == mask.sum(), "boxes hold their masks"
    assert set(numbers) == {0, 1}, "what is cut off is gone"


def test_polygons_and_boxes_end_where_a_crop_did_beside_padding(tmp_path: Path) -> None:
    cut = "RandomCrop('absolute', [40, 30])"
    words = [
        "INPUT.AUGMENTATIONS",
        str([cut, "FixedSizeCrop((60, 90))"]),
        "INPUT.MIN_SIZE_TRAIN",
        "[0]",
    ]
    words += ["INPUT.RANDOM_FLIP", "none", "MODEL.MASK_ON"]
    for has_masks in ("False", "True"):
        mapper = PictureMapper(get_config(opts=[*words, has_masks]), is_train=True)
        for seed in range(10):
            with seeded(seed):
                found = mapper(make_record(tmp_path))
            assert found is not None
            box = found["instances"].gt_boxes.tensor[0]
            assert box[2] <= 30, "nothing reaches into the padding"
            if has_masks == "True":
                polygons = found["instances"].gt_masks
                assert torch.equal(polygons.get_bounding_boxes().tensor[0], box)


def test_crop_with_polygons_needs_no_other_package(tmp_path: Path) -> None:
    cfg = get_config(opts=["INPUT.CROP.ENABLED", "True", "MODEL.MASK_ON", "True"])
    found = PictureMapper(cfg, is_train=True)(make_record(tmp_path))
    assert found is not None
    assert len(found["instances"]) <= 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "RandomBrightnes(1, 2)",
            "unknown name 'RandomBrightnes', did you mean 'RandomBrightness'",
        ),
        ("RandomBrightness(1)", "'RandomBrightness(1)' can't be built: "),
        ("RandomBrightness", "can't be built: wanted a call such as RandomBrightness(0.8, 1.2)"),
        ("RandomCrop('relative', [2, 2])", "\"RandomCrop('relative', [2, 2])\" can't be built: "),
        ("RandomFlip(prob=open('a'))", "unknown name 'open'"),
        ("RandomFlip(prob=1 if 1 else 0)", "can't be built: "),
        ("RandomFlip(**{'prob': 1})", "can't be built: wanted arguments one by one, got **"),
        ("RandomFlip(", "can't be built: "),
        (3, "wanted calls such as 'RandomBrightness(0.8, 1.2)', got 3"),
    ],
)
def test_wrong_augmentation_is_one_sentence(line: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as info:
        build_augmentations([line])
    assert str(info.value).startswith("INPUT.AUGMENTATIONS: ")
    assert sentence in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["INPUT.AUGMENTATIONS", "['Resize((9, 9))']"], "INPUT.MIN_SIZE_TRAIN: wanted [0], since INPUT.AUGMENTATIONS has Resize, got"),
        (["INPUT.AUGMENTATIONS", "['RandomLighting(1)']", "INPUT.FORMAT", "BGR"], "INPUT.FORMAT: wanted RGB, since INPUT.AUGMENTATIONS has RandomLighting, got 'BGR'"),
        (["INPUT.MOSAIC.PROB", "1.5"], "INPUT.MOSAIC.PROB: wanted a number in [0, 1], got 1.5"),
        (["INPUT.COPY_PASTE.SCALE", "(1, 0.5)"], "INPUT.COPY_PASTE.SCALE: wanted two rising numbers in (0, 4], got (1, 0.5)"),
        (["INPUT.MOSAIC.PROB", "1.0", "MODEL.META_ARCHITECTURE", "PanopticFPN"], "INPUT.MOSAIC.PROB: wanted 0, since PanopticFPN learns segments, which aren't mixed, got 1.0"),
        (["INPUT.COPY_PASTE.PROB", "1.0", "MODEL.MASK_ON", "True"], "INPUT.MASK_FORMAT: wanted bitmask, since INPUT.COPY_PASTE.PROB changes masks, got 'polygon'"),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit_are_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as info:
        check_values(get_config(opts=words))
    assert str(info.value).startswith(sentence)


def load(cfg: Any, *, start: int = 0, number: int = 3, workers: int = 0) -> list[Any]:
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_train_loader(cfg)
    start_from(loader, start)
    batches = iter(loader)
    return [picture for _ in range(number) for picture in next(batches)]


def check_same(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one["image"], other["image"])
        boxes = [picture["instances"].gt_boxes.tensor for picture in (one, other)]
        assert torch.equal(*boxes)


def test_mixed_pictures_are_the_same_from_any_batch_and_with_any_workers(tmp_path: Path) -> None:
    plain = load(make_config(tmp_path))
    cfg = make_config(
        tmp_path, **{k.replace(".", "__"): v for k, v in zip(MIXED[::2], MIXED[1::2], strict=True)}
    )
    straight = load(cfg)
    check_same(straight[2:], load(cfg, start=1, number=2))
    check_same(straight, load(cfg, workers=2))
    pairs = [
        (a, b)
        for a, b in zip(plain, straight, strict=True)
        if not torch.equal(a["image"], b["image"])
    ]
    assert len(pairs) > 1
    assert {len(picture["instances"]) for picture in straight} - {0, 1}, "objects of others"
    larger = load(make_config(tmp_path, INPUT__MOSAIC__PROB=1.0, INPUT__MOSAIC__SCALE=(2.0, 2.0)))
    smaller = load(make_config(tmp_path, INPUT__MOSAIC__PROB=1.0, INPUT__MOSAIC__SCALE=(0.1, 0.1)))
    pasted = load(
        make_config(tmp_path, INPUT__COPY_PASTE__PROB=1.0, INPUT__COPY_PASTE__SCALE=(0.2, 0.2))
    )

    def find_largest(pictures: list[Any]) -> float:
        return max(
            float(p["instances"].gt_boxes.area().max()) for p in pictures if len(p["instances"])
        )

    assert find_largest(smaller) < 30 < 400 < find_largest(larger)
    assert max(len(picture["instances"]) for picture in pasted) == 2
    areas = torch.cat([picture["instances"].gt_boxes.area() for picture in pasted])
    assert 30 < areas.min() < 70, "0.04 of 1,200, in whole pixels or covered in part"


def test_sheet_shows_the_training_s_pictures_and_overwrites_nothing(tmp_path: Path) -> None:
    words = ["draw-training", "--config-file", write_tiny_config(tmp_path), "--pictures", "7"]
    words += ["--out", str(tmp_path / "sheet.png"), *write_tiny_dataset(tmp_path / "data"), *MIXED]
    done = run_command(*words, "OUTPUT_DIR", str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/sheet.png: 7 pictures with ")
    assert not (tmp_path / "none").exists()
    cfg = make_config(tmp_path, INPUT__MOSAIC__PROB=0.7, INPUT__COPY_PASTE__PROB=0.7)
    number = sum(len(picture["instances"]) for picture in load(cfg, number=4)[:7])
    assert done.stdout.strip().endswith(f" {number} objects")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    with pytest.raises(FileError, match="is there already"):
        draw_training(cfg, str(tmp_path / "sheet.png"))


# ---- Albumentations


@pytest.fixture
def albumentations(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return pytest.importorskip("albumentations")


def make_pipeline_config(path: str, *words: str) -> Any:
    return get_config(opts=["INPUT.ALBUMENTATIONS", path, "INPUT.RANDOM_FLIP", "none", *words])


@pytest.mark.usefixtures("albumentations")
@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_pipeline_of_a_file_moves_boxes_and_masks_and_knows_the_colours(
    image_format: str, tmp_path: Path
) -> None:
    path = write_pipeline(
        tmp_path / "a.json", transform("HorizontalFlip"), transform("ToGray"), min_area=1
    )
    words = ["INPUT.MIN_SIZE_TRAIN", "[0]", "INPUT.FORMAT", image_format, "MODEL.MASK_ON", "True"]
    cfg = make_pipeline_config(path, *words, "INPUT.MASK_FORMAT", "bitmask")
    check_values(cfg)
    found = PictureMapper(cfg, is_train=True)(make_record(tmp_path))
    assert found is not None
    assert found["instances"].gt_boxes.tensor.tolist() == [[10, 10, 40, 30]]
    assert found["instances"].gt_masks.tensor.sum() == 30 * 20
    assert set(found["image"][:, 20, 20].tolist()) == {76}, "the grey of red, not of blue"
    assert PictureMapper(cfg, is_train=False).pipeline is None


@pytest.mark.usefixtures("albumentations")
def test_pictures_of_validation_losses_are_not_augmented(tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    model = start(cfg).model
    plain = measure_validation_loss(model, cfg, 0)
    cfg.INPUT.ALBUMENTATIONS = write_pipeline(tmp_path / "a.json", transform("InvertImg"))
    cfg.INPUT.MOSAIC.PROB = cfg.INPUT.COPY_PASTE.PROB = 1.0
    cfg.INPUT.AUGMENTATIONS = ["RandomFlip(1.0)"]
    assert measure_validation_loss(model, cfg, 0) == plain


@pytest.mark.usefixtures("albumentations")
def test_pipeline_s_random_numbers_are_the_picture_s(tmp_path: Path) -> None:
    crop = transform("RandomSizedBBoxSafeCrop", height=48, width=64, p=0.5)
    path = write_pipeline(tmp_path / "a.json", crop, transform("RandomBrightnessContrast"))
    cfg = make_config(tmp_path, INPUT__ALBUMENTATIONS=path)
    straight = load(cfg)
    check_same(straight[2:], load(cfg, start=1, number=2))
    check_same(straight, load(cfg, workers=2))
    means = [float(picture["image"].float().mean()) for picture in straight]
    assert len(set(means)) == len(means)
    flips = [transform("HorizontalFlip", p=0.5), transform("VerticalFlip", p=0.5)]
    path = write_pipeline(tmp_path / "b.json", *flips)
    mapper = PictureMapper(make_pipeline_config(path, "INPUT.MIN_SIZE_TRAIN", "[0]"), is_train=True)
    seen = set()
    for seed in range(40):
        with seeded(seed):
            (box,) = mapper(make_record(tmp_path, (5, 2, 15, 12)))["instances"].gt_boxes
        seen.add(tuple(box.tolist()))
    assert len(seen) == 4, "transforms of one picture draw numbers of their own"


BAD_FILES = {
    "code": ([transform("os.system")], "which is no transform of Albumentations"),
    "lambda": (
        [{**transform("Lambda"), "__type__": "Lambda", "__name__": "x"}],
        "a Lambda holds code",
    ),
    "argument": ([transform("HorizontalFlip", strength=2)], "can't be built: "),
    "floats": (
        [transform("Normalize")],
        "wanted a pipeline that gives pictures of uint8, got float32",
    ),
}


@pytest.mark.usefixtures("albumentations")
@pytest.mark.parametrize("name", BAD_FILES)
def test_file_that_is_no_pipeline_for_pictures_is_one_sentence(name: str, tmp_path: Path) -> None:
    transforms, sentence = BAD_FILES[name]
    path = write_pipeline(tmp_path / "a.json", *transforms)
    with pytest.raises(ConfigError) as info:
        PictureMapper(make_pipeline_config(path), is_train=True)(make_record(tmp_path))
    assert str(info.value).startswith("INPUT.ALBUMENTATIONS: ")
    assert sentence in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.usefixtures("albumentations")
@pytest.mark.parametrize(
    "text", ["[]", "transform: 1", "{", "!!python/object/apply:os.system [ls]"]
)
def test_file_of_something_else_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    for path in (tmp_path / "a.yaml", tmp_path / "none.yaml"):
        with pytest.raises(
            ConfigError, match=r"^INPUT.ALBUMENTATIONS: .*(wanted a file|can't be read)"
        ):
            check_values(make_pipeline_config(str(path)))


@pytest.mark.usefixtures("albumentations")
def test_pipeline_that_drops_all_boxes_is_one_sentence_before_the_training(tmp_path: Path) -> None:
    crop = transform("CenterCrop", height=20, width=20)
    path = write_pipeline(tmp_path / "a.json", crop, min_visibility=0.9)
    words = ["train", "--config-file", write_tiny_config(tmp_path), "INPUT.ALBUMENTATIONS", path]
    words += [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / "run")]
    done = run_command(*words)
    assert done.returncode == 1
    (sentence,) = [
        line for line in done.stderr.splitlines() if line.startswith("nasnet-det train:")
    ]
    assert (
        "INPUT.ALBUMENTATIONS: wanted a pipeline that leaves some boxes, got none of the 5"
        in sentence
    )
    assert not list((tmp_path / "run").glob("*.pth"))
