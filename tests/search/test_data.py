"""Children's data: every form of data set, the split, the augmentation, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pictures import write_class
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import load_images
from nasnet_det.search.data import ChildData, DataSource, crop_and_flip, load_child_data, resize

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(60) % 10
SOURCE = DataSource("", num_held_out=12)


def save_npz(folder: Path, **changed: Any) -> str:
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:5], "y_test": LABELS[:5]}
    path = folder / "data.npz"
    np.savez(path, **{k: v for k, v in {**arrays, **changed}.items() if v is not None})
    return str(path)


def load(folder: Path, **fields: Any) -> ChildData:
    return load_child_data(replace(SOURCE, path=save_npz(folder), **fields))


# ---- Forms


@pytest.mark.parametrize("shape", [(60,), (60, 1)])
def test_npz_is_read_in_keras_convention(shape: tuple[int, ...], tmp_path: Path) -> None:
    images, labels = load_images(save_npz(tmp_path, y_train=LABELS.reshape(shape)), 32)
    assert torch.equal(images, torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    assert labels.tolist() == LABELS.tolist()


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's folder with few images; the checksums that it compares are changed to fit."""
    inside = folder / CIFAR10.base_folder
    inside.mkdir()
    parts = np.split(IMAGES, 5)
    lists = []
    for i, (images, labels) in enumerate(zip(parts, np.split(LABELS, 5), strict=True), start=1):
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        content = pickle.dumps({"data": rows, "labels": labels.tolist()})
        (inside / f"data_batch_{i}").write_bytes(content)
        lists.append([f"data_batch_{i}", hashlib.md5(content).hexdigest()])
    content = pickle.dumps({"label_names": list("abcdefghij")})
    (inside / "batches.meta").write_bytes(content)
    meta = {**CIFAR10.meta, "md5": hashlib.md5(content).hexdigest()}
    monkeypatch.setattr(CIFAR10, "train_list", lists)
    monkeypatch.setattr(CIFAR10, "test_list", [])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return inside


def test_torchvision_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    images, labels = load_images(str(tmp_path), 32)
    assert torch.equal(images, torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    assert labels.tolist() == LABELS.tolist()


def test_damaged_torchvision_folder_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = write_cifar10(tmp_path, monkeypatch)
    (inside / "data_batch_3").write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # a pickle that runs code
    with pytest.raises(DataError, match="cifar-10-batches-py is damaged or not complete") as info:
        load_images(str(tmp_path), 32)
    assert "\n" not in str(info.value)


def test_folder_of_classes_is_read_and_resized(tmp_path: Path) -> None:
    for name, color in (("cat", 10), ("dog", 200)):
        write_class(tmp_path / name, [(color, i, 0) for i in range(3)], (50, 20))
    images, labels = load_images(str(tmp_path), 8)
    assert images.shape == (6, 3, 8, 8)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images[:, 0, 0, 0].tolist() == [10] * 3 + [200] * 3
    assert images[:, 1, 5, 5].tolist() == [0, 1, 2] * 2


def test_real_cifar10_gives_the_paper_split(reference_data: Path) -> None:
    path = str(reference_data / "cifar10" / "cifar10_small_decoded.npz")
    data = load_child_data(DataSource(path, num_held_out=100))
    assert data.train.images.shape == (900, 3, 40, 40)
    assert data.held_out.images.shape == (100, 3, 32, 32)
    assert data.num_classes == 10
    # Known of CIFAR-10: means 125.3, 123.0, 113.9, deviations 63.0, 62.1, 66.7.
    assert data.mean.flatten().tolist() == pytest.approx([125.3, 123.0, 113.9], abs=3)
    assert data.std.flatten().tolist() == pytest.approx([63.0, 62.1, 66.7], abs=3)


# ---- Split


def test_split_is_whole_without_overlap_and_by_seed(tmp_path: Path) -> None:
    def pixels(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    data = load(tmp_path, upsampled_size=32)
    held_out, train = pixels(data.held_out.images), pixels(data.train.images)
    assert (len(held_out), len(train)) == (12, 48)
    assert len(held_out | train) == 60
    assert pixels(load(tmp_path).held_out.images) == held_out
    assert pixels(load(tmp_path, seed=1).held_out.images) != held_out


def test_fewer_training_images_leave_the_held_out_ones(tmp_path: Path) -> None:
    few, all_ = load(tmp_path, num_train=7), load(tmp_path)
    assert len(few.train.labels) == 7
    assert torch.equal(few.held_out.images, all_.held_out.images)
    assert torch.equal(few.train.images, all_.train.images[:7])


# ---- Augmentation


def test_crops_are_windows_of_the_image_or_of_its_mirror_image() -> None:
    image = torch.arange(3 * 6 * 6, dtype=torch.uint8).view(1, 3, 6, 6)
    windows = {
        view[0, :, top : top + 4, left : left + 4].numpy().tobytes()
        for view in (image, image.flip(3))
        for top in range(3)
        for left in range(3)
    }
    generator = torch.Generator().manual_seed(0)
    crops = crop_and_flip(image, torch.zeros(500, dtype=torch.int64), 4, generator)
    assert {crop.contiguous().numpy().tobytes() for crop in crops} == windows
    assert len(windows) == 18


def test_without_mirroring_crops_are_windows_of_the_image_alone() -> None:
    image = torch.arange(3 * 6 * 6, dtype=torch.uint8).view(1, 3, 6, 6)
    windows = {
        image[0, :, top : top + 4, left : left + 4].numpy().tobytes()
        for top in range(3)
        for left in range(3)
    }
    batch = torch.zeros(200, dtype=torch.int64)
    crops = crop_and_flip(image, batch, 4, torch.Generator().manual_seed(0), flip=False)
    assert {crop.contiguous().numpy().tobytes() for crop in crops} == windows


def test_batches_are_whitened_over_the_training_images(tmp_path: Path) -> None:
    data = load(tmp_path, upsampled_size=32)
    ((images, _),) = data.train_batches(100, torch.Generator())
    assert images.shape == (48, 3, 32, 32)
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3


def test_an_epoch_shows_each_image_once_and_depends_on_the_generator_alone(tmp_path: Path) -> None:
    data = load(tmp_path)

    def epoch(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [images for images, _ in data.train_batches(16, generator)]

    batches = epoch(0)
    assert [len(batch) for batch in batches] == [16] * 3
    assert all(torch.equal(a, b) for a, b in zip(batches, epoch(0), strict=True))
    assert not torch.equal(batches[0], epoch(1)[0])
    labels = [y for _, part in data.train_batches(16, torch.Generator()) for y in part.tolist()]
    assert sorted(labels) == sorted(data.train.labels.tolist())
    assert [len(y) for _, y in data.train_batches(20, torch.Generator())] == [20, 20], "no rest"


def test_held_out_images_come_whole_and_in_order(tmp_path: Path) -> None:
    data = load(tmp_path)
    batches = list(data.held_out_batches(5))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    images = torch.cat([images for images, _ in batches]) * data.std + data.mean
    assert torch.allclose(images, data.held_out.images.float(), atol=1e-3)


def test_upsampling_keeps_the_picture() -> None:
    ramp = torch.linspace(0, 255, 32).expand(1, 3, 32, 32).round().byte()
    large = resize(ramp, 40)
    assert large.shape == (1, 3, 40, 40)
    assert (resize(large, 32).int() - ramp.int()).abs().max() <= 3
    assert large[0, 0].float().diff(dim=1).min() >= 0


def test_bicubic_is_the_classifiers_resize(tmp_path: Path) -> None:
    """All of it: for training, for what is held out, up and down."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x_train=pixels, y_train=np.arange(12) % 3)
    source = DataSource(str(tmp_path / "images.npz"), 4, image_size=16, upsampled_size=24)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for mode in ("bilinear", "bicubic"):
        data = load_child_data(replace(source, resize=mode))
        wanted = v2.functional.resize(images, [16, 16], v2.InterpolationMode(mode), antialias=True)
        distances = (data.held_out.images[:, None].int() - wanted[None].int()).abs().amax((2, 3, 4))
        assert (distances.min(dim=1).values <= (mode == "bilinear")).all()
        assert data.train.images.shape[2:] == (24, 24)
    with pytest.raises(DataError, match="unknown way 'bicubik', did you mean 'bicubic'"):
        load_child_data(replace(source, resize="bicubik"))


# ---- What is refused


def _make_wrong(folder: Path, what: str) -> str:
    changed: dict[str, dict[str, Any]] = {
        "gray": {"x_train": IMAGES[..., 0]},
        "channels first": {"x_train": IMAGES.transpose(0, 3, 1, 2)},
        "float": {"x_train": IMAGES / 255.0},
        "labels": {"y_train": LABELS[:50]},
        "float labels": {"y_train": LABELS / 1.0},
        "one class": {"y_train": LABELS * 0},
        "no labels": {"y_train": None},
    }
    if what in changed:
        return save_npz(folder, **changed[what])
    path = folder / "other"
    if what == "text":
        path.write_text("no archive")
    elif what == "pickle":
        np.savez(path, x_train=np.array([{}], dtype=object), y_train=LABELS)
        return f"{path}.npz"
    elif what == "no classes":
        path.mkdir()
    elif what == "empty":
        return ""
    return str(path)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("gray", r"wanted images of shape \(N, height, width, 3\) .* got \(60, 32, 32\) and uint8"),
        ("channels first", r"got \(60, 3, 32, 32\)"),
        ("float", "type uint8, got .* float64"),
        ("labels", r"one whole number as label for each of 60 images, got shape \(50,\)"),
        ("float labels", "whole number .* float64"),
        ("one class", "wanted labels of at least 2 classes from 0 on, got 1 from 0 on"),
        ("no labels", "wanted arrays x_train and y_train, got x_train, x_test, y_test"),
        ("text", "other is not a readable .npz file"),
        ("pickle", "other.npz is not a readable .npz file: Object arrays cannot be loaded"),
        ("no classes", "other is not a folder of one sub-folder a class"),
        ("missing", "SEARCH.DATA.PATH: wanted a folder .*other', which is not there"),
        ("empty", "SEARCH.DATA.PATH: wanted a folder .* got '', which is empty"),
    ],
)
def test_wrong_data_are_one_sentence(what: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence) as info:
        load_images(_make_wrong(tmp_path, what), 32)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_held_out": 60}, "wanted at least 61 training images, 60 of them held out, got 60"),
        ({"num_train": 49}, "wanted at least 61 training images, 12 of them held out, got 60"),
        ({"num_held_out": 0}, "num_held_out: wanted at least 1, got 0"),
        ({"upsampled_size": 31}, "upsampled_size: wanted at least image_size, 32, got 31"),
    ],
)
def test_impossible_split_is_one_sentence(
    fields: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=sentence):
        load(tmp_path, **fields)
