"""Images in tar files: every image once, exact resume, what can't be read."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_classification import CPU, make_config
from yacs.config import CfgNode

from nasnet_det.classification.data import load_data
from nasnet_det.classification.loader import (
    Batch,
    build_test_loader,
    build_train_loader,
    find_broken,
)
from nasnet_det.classification.loop import Trainer
from nasnet_det.classification.shards import Shards, TrainStream
from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError

NUM_SHARDS, SHARD_SIZE = 4, 6


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def save_shards(folder: Path, broken: str = "") -> Path:
    """Image i is the color (10 i, 0, 0), in class i modulo 3; 24 in each split."""
    for split in ("train", "val"):
        for shard in range(NUM_SHARDS):
            with tarfile.open(folder / f"{split}-{shard}.tar", "w") as tar:
                for i in range(shard * SHARD_SIZE, (shard + 1) * SHARD_SIZE):
                    file = io.BytesIO()
                    Image.new("RGB", (40, 32), (10 * i, 0, 0)).save(file, "PNG")
                    name, content = f"{i:03}", file.getvalue()
                    add_file(tar, f"{name}.png", b"no image" if broken == name else content)
                    add_file(tar, f"{name}.cls", str(i % 3).encode())
    splits = {
        split: {"shards": f"{split}-{{0..{NUM_SHARDS - 1}}}.tar", "num_images": 24}
        for split in ("train", "val")
    }
    path = folder / "shards.json"
    path.write_text(json.dumps({"classes": ["a", "b", "c"], **splits}))
    return path


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    """Batches of 4: six steps in an epoch."""
    pytest.importorskip("webdataset")
    return make_shard_config(save_shards(tmp_path))


def make_shard_config(path: Path, *opts: str) -> CfgNode:
    plain = "SOLVER.BATCH_SIZE 4 DATA.NUM_TRAIN 0 AUGMENT.CROP none AUGMENT.CUTOUT 0"
    return make_config(path.parent, "DATA.PATH", str(path), *plain.split(), *opts)


def read(cfg: CfgNode, start: int, stop: int) -> list[Batch]:
    return list(build_train_loader(cfg, load_data(cfg), start=start, stop=stop))


def find_images(batches: list[Batch]) -> list[int]:
    """The numbers of the images, from their colors; their labels are looked at too."""
    numbers = []
    for batch in batches:
        for image, label in zip(batch.images, batch.labels, strict=True):
            number = int(image[0, 0, 0]) // 10
            assert label == number % 3
            numbers.append(number)
    return numbers


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_epoch_has_each_image_once_in_another_order(cfg: CfgNode, num_workers: int) -> None:
    cfg.DATA.NUM_WORKERS = num_workers
    numbers = find_images(read(cfg, 0, 12))
    assert sorted(numbers[:24]) == sorted(numbers[24:]) == list(range(24))
    assert numbers[:24] != numbers[24:]
    assert numbers[:6] != sorted(numbers[:6])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_sees_what_it_would_have_seen(cfg: CfgNode, num_workers: int) -> None:
    cfg.DATA.NUM_WORKERS, cfg.AUGMENT.CROP = num_workers, "inception"
    whole = read(cfg, 0, 12)
    for start in (3, 6, 8):
        rest = read(cfg, start, 12)
        assert len(rest) == 12 - start
        for one, other in zip(whole[start:], rest, strict=True):
            assert torch.equal(one.images, other.images)


def test_processes_share_the_shards(cfg: CfgNode) -> None:
    shards = load_data(cfg).train
    assert isinstance(shards, Shards)
    parts = [
        list(TrainStream(shards, lambda image: torch.tensor(image.getpixel((0, 0))), 2, 6, 0, 6, 0,
                         rank, 2))
        for rank in (0, 1)
    ]  # fmt: skip
    numbers = [[int(color[0]) // 10 for color, *_ in part] for part in parts]
    assert [len(part) for part in numbers] == [12, 12]
    assert sorted(numbers[0] + numbers[1]) == list(range(24))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_each_image_once(cfg: CfgNode, num_workers: int) -> None:
    cfg.DATA.NUM_WORKERS = num_workers
    batches = list(build_test_loader(cfg, load_data(cfg).test))
    assert sorted(find_images(batches)) == list(range(24))


def test_broken_images_are_named_and_left_out(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    cfg = make_shard_config(save_shards(tmp_path, broken="007"))
    data = load_data(cfg)
    for batches in (list(build_test_loader(cfg, data.test)), read(cfg, 0, 6)):
        broken = [text for batch in batches for text in batch.broken]
        assert len(broken) == 1
        assert broken[0].startswith("007 of ")
        assert "-1.tar (cannot identify image file" in broken[0]
        assert 7 not in find_images(batches)
    assert len(find_broken(cfg, data.train)) == 1


def test_shard_that_is_cut_off_is_named_and_the_others_are_read(cfg: CfgNode) -> None:
    path = Path(cfg.DATA.PATH).parent / "val-2.tar"
    path.write_bytes(path.read_bytes()[:3000])
    batches = list(build_test_loader(cfg, load_data(cfg).test))
    broken = [text for batch in batches for text in batch.broken]
    assert len(broken) >= 1
    assert "val-2.tar" in broken[0]
    assert set(find_images(batches)) >= set(range(12)) | set(range(18, 24))


def test_shards_train_a_classifier(cfg: CfgNode) -> None:
    cfg.SOLVER.EPOCHS = 1
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = Trainer(cfg, load_data(cfg), device=CPU)
    assert trainer.train().num_images == 24
    assert trainer.iteration == 6


def spoil(path: Path, content: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"train": {"shards": "train-0.tar"}}, r"wanted classes, .* \(KeyError: 'num_images'\)"),
        ({"val": {"shards": "val-{0..9}.tar", "num_images": 9}}, "there is no shard .*val-4.tar"),
        ({"val": {"shards": "pipe:rm x", "num_images": 9}}, "a command is no name of a shard"),
        ({"classes": ["a"]}, "wanted at least 2 classes, got 1"),
    ],
)
def test_lists_of_shards_that_can_not_be_meant_are_one_sentence(
    cfg: CfgNode, content: dict[str, Any], sentence: str
) -> None:
    spoil(Path(cfg.DATA.PATH), content)
    with pytest.raises(DataError, match=sentence):
        load_data(cfg)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("DATA.NUM_TRAIN 8", r"DATA.NUM_TRAIN: wanted 0 \(all images\) for shards, got 8"),
        ("DATA.NUM_WORKERS 5", "DATA.NUM_WORKERS: wanted at most as many as there are shards"),
    ],
)
def test_configs_that_do_not_suit_shards_are_one_sentence(
    cfg: CfgNode, opts: str, sentence: str
) -> None:
    cfg = make_shard_config(Path(cfg.DATA.PATH), *opts.split())
    with pytest.raises(ConfigError, match=sentence):
        load_data(cfg)


def test_missing_library_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(
        DataError, match=r"shards need webdataset: run pip install 'nasnet-det\[sha"
    ):
        load_data(make_shard_config(save_shards(tmp_path)))
