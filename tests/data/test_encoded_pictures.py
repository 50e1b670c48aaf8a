"""Encoded pictures in one ``.npz``: what is read, by classifiers and by the search, and what is not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.data import load_data
from nasnet_det.classification.loader import build_test_loader, build_train_loader
from nasnet_det.data.encoded_pictures import load_encoded
from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import load_images

RNG = np.random.default_rng(0)
SIZES = [(32, 32), (48, 40), (20, 64), (32, 32)]
PIXELS = [RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in SIZES]


def encode(pictures: list[np.ndarray], format: str) -> list[bytes]:
    files = []
    for pixels in pictures:
        file = io.BytesIO()
        Image.fromarray(pixels).save(
            file, format, **({"lossless": True} if format == "WEBP" else {})
        )
        files.append(file.getvalue())
    return files


def write(folder: Path, **changed: Any) -> Path:
    """Four training pictures in WebP and two of a validation set in PNG; ``None`` leaves one out."""
    arrays: dict[str, Any] = {"classes": np.array(["cat", "dog"])}
    for split, number, format in (("train", 4, "WEBP"), ("val", 2, "PNG")):
        files = encode(PIXELS[:number], format)
        arrays[f"{split}_bytes"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{split}_labels"] = (np.arange(number) % 2).astype(np.int16)
    arrays |= changed
    path = folder / "pictures.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_pictures_are_those_that_were_encoded(tmp_path: Path) -> None:
    train, test, classes = load_encoded(write(tmp_path))
    assert classes == ("cat", "dog")
    assert (len(train), len(test)) == (4, 2)
    for split, number in ((train, 4), (test, 2)):
        for i in range(number):
            picture, label = split.read(i)
            assert np.array_equal(np.asarray(picture), PIXELS[i])
            assert label == i % 2
    some = train.take(np.array([2, 1]))
    assert np.array_equal(np.asarray(some.read(0)[0]), PIXELS[2])
    assert [some.read(i)[1] for i in (0, 1)] == [0, 1]


def test_a_classifier_reads_them_and_names_a_broken_one(tmp_path: Path) -> None:
    path = write(tmp_path)
    content = np.load(path)["train_bytes"].copy()
    content[:20] = 0
    write(tmp_path, train_bytes=content)
    opts = ["DATA.PATH", str(path), "DATA.NUM_WORKERS", "0", "SOLVER.BATCH_SIZE", "4"]
    cfg = get_classification_config(opts=opts)
    data = load_data(cfg)
    (batch,) = build_train_loader(cfg, data, start=0, stop=1)
    assert batch.images.shape == (4, 3, 32, 32)
    assert sorted(batch.labels.tolist()) == [0, 1, 1, 1], "the next stands for the broken one"
    assert batch.broken[0].startswith(f"{path}, train, image 0")
    (batch,) = build_test_loader(cfg, data.test)
    assert torch.equal(batch.images[0], torch.from_numpy(PIXELS[0]).permute(2, 0, 1))


def test_a_search_reads_them_at_its_size(tmp_path: Path) -> None:
    images, labels = load_images(str(write(tmp_path)), 32)
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [0, 1, 0, 1]
    assert torch.equal(images[0], torch.from_numpy(PIXELS[0]).permute(2, 0, 1))


def test_names_may_be_wordnet_ids_or_missing(tmp_path: Path) -> None:
    wnids = np.array(["n01443537", "n01629819", "n01641577"])
    assert load_encoded(write(tmp_path, classes=None, wnids=wnids))[2] == tuple(wnids)
    assert load_encoded(write(tmp_path, classes=None))[2] == ("0", "1")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"train_offsets": None}, "but train_offsets is missing; there are"),
        ({"val_bytes": None}, "but val_bytes is missing"),
        ({"train_bytes": np.zeros(9)}, "train_bytes: wanted bytes in one row, got float64"),
        ({"train_labels": np.array([0, 1, 0, -1])}, "train_labels: wanted whole numbers from 0"),
        ({"train_labels": np.zeros(0, int)}, "train_labels: wanted whole numbers from 0"),
        ({"train_offsets": np.array([0, 5])}, "train_offsets: wanted 5 whole numbers"),
        ({"train_offsets": np.array([0, 9, 5, 9, 9])}, "train_offsets: wanted them to rise from 0"),
        ({"train_offsets": np.array([0, 1, 2, 3, 10**9])}, "to at most"),
        ({"classes": np.array(["cat"])}, "wanted classes for 2 labels, got 1"),
        ({"classes": np.array(["cat", "cat"])}, "wanted each of classes once"),
        (
            {"classes": None, "train_labels": np.zeros(4, int), "val_labels": np.zeros(2, int)},
            "wanted at least 2 classes, got one",
        ),
        ({"classes": np.array(["a", None])}, "is not a readable .npz file: Object arrays"),
    ],
)
def test_what_is_wrong_is_one_sentence(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changed)
    with pytest.raises(DataError, match=told) as info:
        load_encoded(path)
    assert str(info.value).startswith(str(path))
    assert "\n" not in str(info.value)


def test_real_pictures(reference_data: Path) -> None:
    train, test, classes = load_encoded(reference_data / "tiny_imagenet/tiny_imagenet_webp.npz")
    assert (len(train), len(test), len(classes)) == (52_000, 5_000, 200)
    picture, label = test.read(4_999)
    assert (picture.mode, picture.size) == ("RGB", (64, 64))
    assert 0 <= label < 200
