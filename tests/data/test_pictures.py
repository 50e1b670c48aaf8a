"""One reader of pictures: what a person sees is what every stage gets."""

from __future__ import annotations

import io
import logging
import os
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from odd_pictures import draw_original, write_no_pictures, write_odd_pictures
from PIL import Image

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.data import load_data
from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import load_images
from nasnet_det.data.picture_files import find_pictures, list_pictures
from nasnet_det.data.pictures import PictureError, read_pixels, read_size, scale_to_bytes
from nasnet_det.weights import verification

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_picture_is_what_a_person_sees(tmp_path: Path) -> None:
    seen = write_odd_pictures(tmp_path)
    assert len(seen) >= 50
    for name, (wanted, differs) in seen.items():
        pixels = read_pixels(tmp_path / name)
        assert pixels.dtype == np.uint8
        difference = np.abs(pixels.astype(int) - wanted).max()
        assert difference <= differs, name
        assert read_size(tmp_path / name) == (pixels.shape[1], pixels.shape[0]), name


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_of_the_header_is_that_of_the_upright_picture(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (40, 24)).save(path, exif=exif)
    wanted = (40, 24) if orientation < 5 else (24, 40)
    assert read_size(path) == wanted
    assert read_pixels(path).shape == (*wanted[::-1], 3)


def see_in_search(folder: Path) -> dict[str, np.ndarray]:
    images, labels = load_images(str(folder), 32)
    paths = list_pictures(folder / "train" / "odd")
    readable = [os.path.basename(path) for path in paths if _is_readable(path)]
    assert int((labels == 0).sum()) == len(readable)
    arrays = images[labels == 0].permute(0, 2, 3, 1).numpy()
    return dict(zip(readable, arrays, strict=True))


def _is_readable(path: str) -> bool:
    try:
        return bool(read_pixels(path).size)
    except PictureError:
        return False


def see_in_classifier(folder: Path) -> dict[str, np.ndarray]:
    cfg = get_classification_config(opts=["DATA.PATH", str(folder), "SOLVER.BATCH_SIZE", "4"])
    images: Any = load_data(cfg).train
    seen = {}
    for index in range(len(images)):
        try:
            picture, label = images.read(index)
        except PictureError:
            continue
        if label == 0:
            seen[os.path.basename(images.name(index))] = np.asarray(picture)
    return seen


def see_in_detector(folder: Path) -> dict[str, np.ndarray]:
    from nasnet_det.detection.mapper import PictureMapper

    mapper = PictureMapper(is_train=True, augmentations=[], image_format="BGR")
    seen = {}
    for path in list_pictures(folder / "train" / "odd"):
        record = mapper({"file_name": path, "width": 32, "height": 32})
        if record is not None:
            seen[os.path.basename(path)] = record["image"].numpy().transpose(1, 2, 0)[..., ::-1]
    return seen


def _find_readable(folder: Path) -> list[Path]:
    return [path for path in find_pictures([folder / "train" / "odd"]) if _is_readable(str(path))]


def see_in_prediction(folder: Path) -> dict[str, np.ndarray]:
    from nasnet_det.prediction.sources import find_sources, read_pictures

    paths, _ = find_sources([folder / "train" / "odd"], folder / "found")
    faults: list[str] = []
    return {
        shot.path.name: shot.pixels for shot in read_pictures(paths, lambda _: None, faults, {})
    }


def see_in_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    from matplotlib.axes import Axes

    from nasnet_det.report.detection import pictures

    seen: dict[str, np.ndarray] = {}
    names = [path.name for path in _find_readable(folder)]
    nothing = np.zeros(0, dtype=int)
    truth = SimpleNamespace(file_names=names, image=nothing, is_crowd=nothing.astype(bool))
    levels = np.zeros((1, 1, 0), dtype=bool)
    matches = SimpleNamespace(
        is_match=levels, is_ignored=levels, score=nothing, image=nothing, object=levels[0]
    )
    evaluation: Any = SimpleNamespace(truth=truth, matches=matches)
    for number, name in enumerate(names):
        with monkeypatch.context() as patch:
            patch.setattr(
                Axes, "imshow", lambda _, array, name=name, **kwargs: seen.update({name: array})
            )
            choice = pictures.Choice("best", number, 0, 0, 0, 0)
            pictures.draw_image(evaluation, choice, folder / "train" / "odd", 0.5)
    return seen


def test_all_stages_see_the_same_of_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("detectron2", reason="detection needs Detectron2")
    names = set(write_odd_pictures(tmp_path / "train" / "odd"))
    write_no_pictures(tmp_path / "train" / "odd")
    for split in ("train", "val"):
        place = tmp_path / split / "plain"
        place.mkdir(parents=True)
        Image.fromarray(draw_original()).save(place / "a.png")
    everyone = {
        "search": see_in_search(tmp_path),
        "classifier": see_in_classifier(tmp_path),
        "detector": see_in_detector(tmp_path),
        "prediction": see_in_prediction(tmp_path),
        "report": see_in_report(tmp_path, monkeypatch),
    }
    for stage, seen in everyone.items():
        assert set(seen) == names, stage
        for name, pixels in seen.items():
            assert np.array_equal(pixels, everyone["prediction"][name]), (stage, name)


def test_what_is_no_picture_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = write_no_pictures(tmp_path)
    Image.fromarray(draw_original()).save(tmp_path / "plain.png")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "inner" / "b.png").symlink_to(tmp_path / "plain.png")
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        found = list_pictures(tmp_path)
    broken = [name for name, kind in kinds.items() if kind == "broken"]
    wanted = sorted([*broken, "plain.png"]) + ["inner/b.png"]
    assert [os.path.relpath(path, tmp_path) for path in found] == wanted
    assert "4 files are no pictures: 2 broken links, 1 .txt, 1 without a suffix" in caplog.text


@pytest.mark.parametrize("name", ["empty.jpg", "page.jpg", "cut.jpg", "script.png", "missing.jpg"])
def test_broken_picture_is_one_sentence_with_its_name(name: str, tmp_path: Path) -> None:
    write_no_pictures(tmp_path)
    with pytest.raises(PictureError, match=f"{name} can't be read as a picture: ") as error:
        read_pixels(tmp_path / name)
    assert "\n" not in str(error.value)
    assert name not in error.value.reason


def make_bomb(side: int) -> bytes:
    """A PNG of a few kilobytes whose header claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_picture_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(make_bomb(20_000))
    for read in (read_size, read_pixels):
        with pytest.raises(PictureError, match=r"bomb.png .*\(400000000 pixels\).* Cut"):
            read(path)


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    Image.fromarray(draw_original()).save(tmp_path / "a.png")
    content = io.BytesIO((tmp_path / "a.png").read_bytes())
    assert np.array_equal(read_pixels(content, name="a"), read_pixels(tmp_path / "a.png"))
    with pytest.raises(PictureError, match="^b can't be read as a picture: "):
        read_pixels(io.BytesIO(b"no picture"), name="b")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 128, 255]], np.uint16), [0, 128, 255]),
        (np.array([[0, 256, 4095]], np.uint16), [0, 16, 255]),
        (np.array([[0, 4096, 65535]], np.int32), [0, 16, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 99.6, 200.0]], np.float32), [0, 100, 200]),
        (np.array([[np.nan, 0.5, np.inf]], np.float32), [0, 128, 0]),
        (np.array([[7.0, 7.0, 7.0]], np.float32), [7, 7, 7]),
        (np.array([[-7.0, -7.0, -7.0]], np.float32), [0, 0, 0]),
    ],
)
def test_numbers_become_bytes_by_the_rule(values: np.ndarray, wanted: list[int]) -> None:
    assert scale_to_bytes(values).tolist() == [wanted]


def test_named_files_are_taken_and_missing_ones_refused(tmp_path: Path) -> None:
    Image.fromarray(draw_original()).save(tmp_path / ".hidden.png")
    assert find_pictures([tmp_path / ".hidden.png"]) == [tmp_path / ".hidden.png"]
    with pytest.raises(DataError, match="no such picture or folder: .*nowhere"):
        find_pictures([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="folder: https://a.org/b.jpg; download it first"):
        find_pictures(["https://a.org/b.jpg"])
    with pytest.raises(DataError, match="no pictures found"):
        find_pictures([tmp_path])


def test_checks_of_weights_see_what_the_stages_see(tmp_path: Path) -> None:
    for name in write_odd_pictures(tmp_path):
        values = verification._read_image(tmp_path / name, (32, 32))
        pixels = ((values[0] * 0.5 + 0.5) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels, read_pixels(tmp_path / name)), name
