"""Images for classification: places, the order, the augmentation, and what can't be read."""

from __future__ import annotations

import colorsys
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_classification import save_folders
from yacs.config import CfgNode

from nasnet_det.classification.augment import (
    Cutout,
    build_eval_transform,
    build_mixing,
    build_train_transform,
)
from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.data import load_data
from nasnet_det.classification.loader import (
    Batch,
    StepSampler,
    build_test_loader,
    build_train_loader,
    find_broken,
)
from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError

RNG = np.random.default_rng(0)


def make_config(path: Path, *opts: str) -> CfgNode:
    """A config of small batches."""
    base = ["DATA.PATH", str(path), "DATA.NUM_WORKERS", "0", "SOLVER.BATCH_SIZE", "4"]
    return get_classification_config(opts=[*base, *opts])


def save_npz(folder: Path, num_train: int = 20, num_test: int = 7) -> Path:
    """Random images of three classes."""
    path = folder / "data.npz"
    np.savez(
        path,
        x_train=RNG.integers(0, 256, (num_train, 32, 32, 3), dtype=np.uint8),
        y_train=np.arange(num_train) % 3,
        x_test=RNG.integers(0, 256, (num_test, 32, 32, 3), dtype=np.uint8),
        y_test=np.arange(num_test) % 3,
    )
    return path


def read(cfg: CfgNode, start: int, stop: int) -> list[Batch]:
    """The batches of some steps."""
    return list(build_train_loader(cfg, load_data(cfg), start=start, stop=stop))


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("crop", ["pad", "inception"])
def test_batches_depend_on_the_step_alone(tmp_path: Path, crop: str) -> None:
    opts = ["AUGMENT.CROP", crop, "AUGMENT.CUTOUT", "8", "AUGMENT.RAND_AUGMENT.NUM_OPS", "1"]
    cfg = make_config(save_npz(tmp_path), *opts)
    whole = read(cfg, 0, 12)
    torch.manual_seed(9)
    assert_equal(whole[7:], read(cfg, 7, 12))  # in the middle of the second epoch
    cfg.DATA.NUM_WORKERS = 2
    state = torch.get_rng_state()
    assert_equal(whole, read(cfg, 0, 12))
    assert torch.equal(state, torch.get_rng_state())
    cfg.SEED = 1
    assert not torch.equal(whole[0].images, read(cfg, 0, 1)[0].images)


def test_each_epoch_has_each_image_once_in_another_order() -> None:
    steps = list(StepSampler(20, 4, 0, 10, seed=3))
    for epoch in (0, 1):
        keys = [key for step in steps[5 * epoch : 5 * epoch + 5] for key in step]
        assert sorted(keys) == [(epoch, i) for i in range(20)]
    assert [i for step in steps[:5] for _, i in step] != [i for step in steps[5:] for _, i in step]


def test_processes_share_each_batch() -> None:
    whole = list(StepSampler(20, 6, 2, 8, seed=3))
    parts = [list(StepSampler(20, 6, 2, 8, seed=3, rank=r, num_processes=2)) for r in (0, 1)]
    for step, one, other in zip(whole, *parts, strict=True):
        assert (len(one), len(other)) == (3, 3)
        assert set(one) | set(other) == set(step)


def test_evaluation_of_small_arrays_sees_them_unchanged(tmp_path: Path) -> None:
    path = save_npz(tmp_path)
    cfg = make_config(path, "TEST.BATCH_SIZE", "5")
    batches = list(build_test_loader(cfg, load_data(cfg).test))
    assert [len(batch.labels) for batch in batches] == [5, 2]
    images = torch.cat([batch.images for batch in batches])
    expected = np.load(path)["x_test"].transpose(0, 3, 1, 2)
    assert np.array_equal(images.numpy(), expected)
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_evaluation_takes_the_centre_at_the_published_fraction() -> None:
    opts = ["DATA.IMAGE_SIZE", "224", "TEST.CROP_FRACTION", "0.875"]
    transform = build_eval_transform(get_classification_config(opts=opts))
    array = np.zeros((512, 768, 3), dtype=np.uint8)  # a ramp: column x has the value x / 3
    array[:] = (np.arange(768) // 3)[None, :, None]
    image = transform(Image.fromarray(array))
    assert (image.shape, image.dtype) == ((3, 224, 224), torch.uint8)
    # The short side becomes 256, so half the size; 224 of 384 columns from 80 on.
    assert abs(int(image[0, 100, 0]) - 80 * 2 / 3) <= 1
    assert abs(int(image[0, 100, -1]) - 303 * 2 / 3) <= 1


def test_crop_of_a_padded_image_is_a_shift_of_at_most_four_pixels() -> None:
    transform = build_train_transform(get_classification_config(opts=["AUGMENT.FLIP", "False"]))
    image = torch.from_numpy(RNG.integers(1, 256, (3, 32, 32), dtype=np.uint8))
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
    shifts = set()
    for _ in range(300):
        crop = transform(image)
        found = [
            (y, x)
            for y in range(9)
            for x in range(9)
            if torch.equal(crop, padded[:, y : y + 32, x : x + 32])
        ]
        assert len(found) == 1
        shifts.update(found)
    assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(9))


def test_upsampling_crops_from_a_larger_image() -> None:
    opts = ["AUGMENT.CROP", "upsample", "AUGMENT.FLIP", "False"]
    image = torch.full((3, 32, 32), 7, dtype=torch.uint8)
    crop = build_train_transform(get_classification_config(opts=opts))(image)
    assert torch.equal(crop, image), "no black border"


def test_inception_crop_has_any_size_from_the_smallest_area_on() -> None:
    opts = "AUGMENT.CROP inception AUGMENT.FLIP False DATA.IMAGE_SIZE 16 AUGMENT.MIN_AREA 0.05"
    transform = build_train_transform(get_classification_config(opts=opts.split()))
    array = np.zeros((200, 200, 3), dtype=np.uint8)
    array[..., 0], array[..., 1] = np.arange(200)[None, :], np.arange(200)[:, None]
    image = Image.fromarray(array)
    areas = []
    for _ in range(300):
        crop = transform(image).float()
        width, height = (float(crop[c].max() - crop[c].min()) * 16 / 15 for c in (0, 1))
        areas.append(width * height / 200**2)
        assert 0.6 < width / height < 1.6
    assert 0.03 < min(areas) < 0.15
    assert 0.8 < max(areas) < 1.05


def test_cutout_is_a_square_with_its_centre_anywhere() -> None:
    cutout = Cutout(16, [125.3, 123.0, 113.9])
    sizes = set()
    for _ in range(300):
        image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        cut = cutout(image)
        assert not image.any(), "the image itself is left alone"
        rows, columns = (cut[0] > 0).any(dim=1), (cut[0] > 0).any(dim=0)
        height, width = int(rows.sum()), int(columns.sum())
        assert torch.equal(cut[0] > 0, rows[:, None] & columns[None, :])
        assert cut[:, rows][:, :, columns].unique().tolist() == [114, 123, 125]
        sizes |= {height, width}
    assert sizes == set(range(8, 17)), "it may reach over the border by half"


def test_half_of_the_images_are_mirrored() -> None:
    opts = "AUGMENT.CROP none AUGMENT.FLIP True"
    transform = build_train_transform(get_classification_config(opts=opts.split()))
    image = torch.from_numpy(RNG.integers(0, 256, (3, 32, 32), dtype=np.uint8))
    crops = [transform(image) for _ in range(400)]
    mirrored = [torch.equal(crop, image.flip(2)) for crop in crops]
    assert all(m or torch.equal(crop, image) for m, crop in zip(mirrored, crops, strict=True))
    assert sum(mirrored) == pytest.approx(200, abs=40)  # four standard deviations


def test_colors_change_within_the_strengths_of_tf_slim() -> None:
    """Brightness by a factor of 1 +- 32/255, contrast of 1 +- 0.5, the hue by 0.2 of a turn."""
    opts = "AUGMENT.CROP none AUGMENT.FLIP False AUGMENT.COLOR True"
    transform = build_train_transform(get_classification_config(opts=opts.split()))
    grey = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    steps = grey.clone()
    steps[..., 16:] = 140
    red = torch.zeros(3, 32, 32, dtype=torch.uint8)
    red[0] = 200
    factors, contrasts, hues = [], [], []
    for _ in range(400):
        changed = transform(grey).float()
        assert changed.std() == 0
        factors.append(float(changed[0, 0, 0]) / 100)
        halves = transform(steps).float()
        contrasts.append(float(halves[0, 0, 31] - halves[0, 0, 0]) / 40)
        color = transform(red).float()[:, 0, 0] / 255
        hues.append((colorsys.rgb_to_hsv(*color.tolist())[0] + 0.5) % 1 - 0.5)
    assert [min(factors), max(factors)] == pytest.approx([1 - 32 / 255, 1 + 32 / 255], abs=0.03)
    low, high = 0.5 * (1 - 32 / 255), 1.5 * (1 + 32 / 255)
    assert low - 0.03 < min(contrasts) < 0.6
    assert 1.4 < max(contrasts) < high + 0.03
    assert [min(hues), max(hues)] == pytest.approx([-0.2, 0.2], abs=0.02)


@pytest.mark.parametrize("name", ["MIXUP", "CUTMIX"])
def test_mixing_gives_shares_of_two_images_and_of_their_classes(name: str) -> None:
    cfg = get_classification_config(opts=[f"AUGMENT.{name}", "1.0"])
    mix = build_mixing(cfg, 5)
    assert mix is not None
    values = torch.tensor([10.0, 50.0, 130.0, 250.0])
    images = values.view(4, 1, 1, 1).expand(4, 3, 20, 20).clone()
    shares = []
    for _ in range(100):
        mixed, labels = mix(images.clone(), torch.arange(4))
        share = float(labels[1, 1])
        shares.append(share)
        wanted = torch.zeros(4, 5)
        for i in range(4):
            wanted[i, i], wanted[i, i - 1 if i else 3] = share, 1 - share
        torch.testing.assert_close(labels, wanted)
        means = share * values + (1 - share) * values.roll(1)
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), means, rtol=1e-3, atol=0.1)
        if name == "MIXUP":
            assert mixed[1].unique().numel() <= 2, "one value, but for rounding"
        else:
            assert set(mixed[1].unique().tolist()) <= {10.0, 50.0}
            rows, columns = ((mixed[1, 0] == 10).any(dim=d) for d in (1, 0))
            assert int((mixed[1, 0] == 10).sum()) == int(rows.sum() * columns.sum()), "a rectangle"
    assert min(shares) < 0.3
    assert max(shares) > 0.9
    assert build_mixing(get_classification_config(), 5) is None


def test_both_mixings_take_turns_at_random() -> None:
    cfg = get_classification_config(opts=["AUGMENT.MIXUP", "1.0", "AUGMENT.CUTMIX", "1.0"])
    mix = build_mixing(cfg, 2)
    assert mix is not None
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 20, 20)
    cut = [set(mix(images.clone(), torch.arange(2))[0].unique().tolist()) <= {0.0, 1.0}
           for _ in range(200)]  # fmt: skip
    assert sum(cut) == pytest.approx(100, abs=30)


def test_image_folders(tmp_path: Path) -> None:
    cfg = make_config(save_folders(tmp_path), "AUGMENT.CROP", "inception")
    data = load_data(cfg)
    assert data.classes == ("blue", "red")
    for batch in read(cfg, 0, 4):
        assert batch.images.shape == (4, 3, 32, 32)
        assert torch.equal(batch.images[:, 0].amax(dim=(1, 2)) > 100, batch.labels == 1)


@pytest.mark.parametrize("num_workers", ["0", "1"])
def test_broken_image_is_named_and_replaced_in_training_and_left_out_of_the_test(
    tmp_path: Path, num_workers: str
) -> None:
    save_folders(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "blue" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    cfg = make_config(tmp_path, "DATA.NUM_WORKERS", num_workers)
    data = load_data(cfg)
    batches = read(cfg, 0, 2)
    broken = [text for batch in batches for text in batch.broken]
    assert len(broken) == 1
    assert str(tmp_path / "train" / "blue" / "3.png") in broken[0]
    assert (
        sorted(label for batch in batches for label in batch.labels.tolist()) == [0] * 3 + [1] * 5
    )
    test = list(build_test_loader(cfg, data.test))
    assert sum(len(batch.labels) for batch in test) == 7
    assert len(test[0].broken) == 1
    assert find_broken(cfg, data.train) == broken


def test_all_images_broken_is_an_error(tmp_path: Path) -> None:
    save_folders(tmp_path)
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"")
    cfg = make_config(tmp_path)
    with pytest.raises(DataError, match="100 images one after another can't be read, the last is"):
        read(cfg, 0, 1)


def test_number_of_training_images_is_a_fixed_choice(tmp_path: Path) -> None:
    cfg = make_config(save_npz(tmp_path), "DATA.NUM_TRAIN", "8", "AUGMENT.CROP", "none")
    cfg.AUGMENT.FLIP = False
    seen = [
        {image.numpy().tobytes() for batch in read(cfg, start, start + 2) for image in batch.images}
        for start in (0, 2)
    ]
    assert len(seen[0]) == 8
    assert seen[0] == seen[1]


@pytest.fixture
def wrong(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A place that can't be meant."""
    kind = request.param
    if kind == "missing":
        yield tmp_path / "nothing"
        return
    if kind == "no_test":
        np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=[0, 1, 0, 1])
        yield tmp_path / "a.npz"
        return
    save_folders(tmp_path)
    if kind == "no_val":
        (tmp_path / "val").rename(tmp_path / "more")
    elif kind == "other_classes":
        (tmp_path / "val" / "red").rename(tmp_path / "val" / "green")
    elif kind == "one_class":
        shutil.rmtree(tmp_path / "train" / "blue")
    elif kind == "no_pictures":
        for path in (tmp_path / "train").rglob("*.png"):
            path.rename(path.with_suffix(".txt"))
    yield tmp_path


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("missing", "DATA.PATH: wanted a folder with cifar-10-batches-py .* which is not there"),
        ("no_val", "DATA.PATH: wanted .* a folder with train and one of val, valid, .* got .* which is none of these"),
        ("no_test", "wanted arrays x_test and y_test, got x_train, y_train"),
        ("other_classes", "wanted the same classes in all folders, but only .*val has 'green'; the classes are 'blue', 'red'"),
        ("one_class", "train: wanted folders of at least 2 classes, got one, 'red'"),
        ("no_pictures", "train is not a folder of one sub-folder a class: .* folders without any: 'blue', 'red'"),
    ],
    indirect=["wrong"],
)  # fmt: skip
def test_data_that_can_not_be_used_are_one_sentence(wrong: Path, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        load_data(make_config(wrong))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["SOLVER.BATCH_SIZE", "21"], "SOLVER.BATCH_SIZE: wanted at most 20, the images .* got 21"),
        (["DATA.NUM_TRAIN", "30"], "DATA.NUM_TRAIN: wanted at most 20, .* got 30"),
        (["DATA.NUM_TRAIN", "3"], "SOLVER.BATCH_SIZE: wanted at most 3, .* got 4"),
    ],
)
def test_too_few_images_are_one_sentence(tmp_path: Path, opts: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_data(make_config(save_npz(tmp_path), *opts))


def test_number_of_workers_is_the_config_s(tmp_path: Path) -> None:
    cfg = make_config(save_npz(tmp_path), "DATA.NUM_WORKERS", "3")
    assert build_test_loader(cfg, load_data(cfg).test).num_workers == 3


def test_keys_of_single_steps_reach_them() -> None:
    def steps(text: str) -> dict[str, Any]:
        transform = build_train_transform(get_classification_config(opts=text.split()))
        return {type(step).__name__: step for step in transform.transforms}

    text = "AUGMENT.BORDER 7 AUGMENT.RAND_AUGMENT.NUM_OPS 3 AUGMENT.RAND_AUGMENT.MAGNITUDE 5"
    padded = steps(f"AUGMENT.CROP pad {text} AUGMENT.CUTOUT 6 DATA.PIXEL_MEAN [1,2,3]")
    assert padded["RandomCrop"].padding == [7] * 4
    assert (padded["RandAugment"].num_ops, padded["RandAugment"].magnitude) == (3, 5)
    assert (padded["Cutout"].size, padded["Cutout"].fill.flatten().tolist()) == (6, [1, 2, 3])
    larger = steps(f"AUGMENT.CROP upsample {text} DATA.IMAGE_SIZE 20")
    assert larger["Resize"].size == [34]
    assert "RandomHorizontalFlip" in larger
    assert not {"RandomHorizontalFlip", "Cutout"} & steps("AUGMENT.FLIP False").keys()
