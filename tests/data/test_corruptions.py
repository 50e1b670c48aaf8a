"""Corrupted pictures are those of the package, each with random numbers of its own."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nasnet_det.data.corruptions import (
    COMMON,
    MORE,
    SEVERITIES,
    check_corruptions,
    corrupt_picture,
    name_package,
)
from nasnet_det.errors import InputError, MissingPackageError


def _make_picture(height: int = 48, width: int = 65) -> np.ndarray:
    ramp = np.linspace(20, 220, height * width).reshape(height, width, 1)
    noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
    return (ramp + noise).clip(0, 255).astype(np.uint8)


def test_names_are_those_of_the_package() -> None:
    package = pytest.importorskip("imagecorruptions")
    assert list(COMMON) == package.get_corruption_names("common")
    assert list(MORE) == package.get_corruption_names("validation")
    assert name_package().startswith("imagecorruptions")


@pytest.mark.parametrize("corruption", [*COMMON, *MORE])
def test_picture_and_key_decide_what_is_drawn(corruption: str) -> None:
    pytest.importorskip("imagecorruptions")
    picture = _make_picture()
    before = picture.copy()
    state = np.random.get_state()[1].tolist()
    first = corrupt_picture(picture, corruption, 3, key=7)
    assert np.random.get_state()[1].tolist() == state
    assert np.array_equal(picture, before)
    assert (first.shape, first.dtype) == (picture.shape, np.uint8)
    assert (first != picture).mean() > 0.02
    np.random.random(5)
    assert np.array_equal(corrupt_picture(picture, corruption, 3, key=7), first)
    assert not np.array_equal(corrupt_picture(picture, corruption, 5, key=7), first)
    drawn = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"}
    drawn |= {"jpeg_compression", "gaussian_blur", "saturate"}
    other = corrupt_picture(picture, corruption, 3, key=8)
    assert np.array_equal(other, first) == (corruption in drawn)


def test_what_is_not_drawn_is_what_the_package_makes() -> None:
    package = pytest.importorskip("imagecorruptions")
    picture = _make_picture()
    for severity in SEVERITIES:
        wanted = package.corrupt(picture, severity=severity, corruption_name="jpeg_compression")
        got = corrupt_picture(picture, "jpeg_compression", severity, key=0)
        assert np.array_equal(got, wanted)


def test_small_picture_keeps_its_size() -> None:
    pytest.importorskip("imagecorruptions")
    for size in ((5, 90), (40, 31), (1, 1)):
        assert corrupt_picture(_make_picture(*size), "motion_blur", 2, key=0).shape[:2] == size


@pytest.mark.parametrize(
    ("names", "severities", "sentence"),
    [
        (["fogg"], [1], r"corruption: unknown name 'fogg', did you mean 'fog'"),
        (["fog"], [6], "severity: wanted 1 to 5, got 6"),
        (["fog", "fog"], [1], "corruption: wanted one or more, each once, got fog fog"),
        (["fog"], [2, 2], "severity: wanted one or more, each once, got 2 2"),
        ([], [1], "corruption: wanted one or more, each once, got none"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(
    names: list[str], severities: list[int], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check_corruptions(names, severities)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'nasnet-det\[corruptions\]'"):
        check_corruptions(["fog"], [1])
