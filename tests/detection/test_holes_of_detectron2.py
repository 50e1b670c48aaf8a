"""Nine holes of Detectron2 and fvcore: what they do with a state, and what this package does."""

from __future__ import annotations

import importlib
import math
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.engine import AMPTrainer, SimpleTrainer, hooks
from detectron2.utils.events import EventStorage
from tiny_detection import Payload, make_toy_detector, write_tiny_config, write_tiny_dataset

from nasnet_det.config import ConfigError
from nasnet_det.detection import get_config
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.hooks import BestCheckpoint
from nasnet_det.detection.step import CheckedStep, NonFiniteLossError
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.files import FileError
from nasnet_det.weights.error import WeightsError


class _Loss(nn.Module):
    """One weight, whose loss is NaN where the batch says so."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * batch[0]["factor"]}


def _parts(factor: float) -> tuple[nn.Module, list[Any], torch.optim.Optimizer]:
    model = _Loss()
    return model, [[{"factor": factor, "file_name": "a"}]], torch.optim.SGD(model.parameters(), 0.1)


# ---- 1: files that are cut off, and tags that name nothing


def test_1_save_that_fails_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_half(_: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    for folder, kind in (("plain", DetectionCheckpointer), ("ours", Checkpointer)):
        path = tmp_path / folder / "model_0000001.pth"
        path.parent.mkdir()
        checkpointer = kind(make_toy_detector(), str(path.parent))
        checkpointer.save("model_0000001", iteration=1)
        whole = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", save_half)
            with pytest.raises(OSError if kind is DetectionCheckpointer else FileError):
                checkpointer.save("model_0000001", iteration=1)
        assert (path.read_bytes() == whole) == (kind is Checkpointer)


def test_1_tag_that_is_empty(tmp_path: Path) -> None:
    model = make_toy_detector()
    for name in ("model_0000001", "model_0000003"):
        checkpointer = Checkpointer(model, str(tmp_path))
        checkpointer.add_checkpointable("trainer", nn.Linear(1, 1))
        checkpointer.save(name, iteration=int(name[-1]))
    (tmp_path / "last_checkpoint").write_text("")
    plain = DetectionCheckpointer(make_toy_detector(), str(tmp_path))
    with pytest.raises((AssertionError, OSError)):
        plain.resume_or_load("", resume=True)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000003.pth")


# ---- 2: the best model


def test_2_best_model_is_not_the_one_to_resume_from_and_stays_the_best(tmp_path: Path) -> None:
    """A score of 50, and after a resume one of 10."""
    plain, ours = (
        kind(make_toy_detector(), str(tmp_path / kind.__name__))
        for kind in (DetectionCheckpointer, Checkpointer)
    )
    for checkpointer in (plain, ours):
        Path(checkpointer.save_dir).mkdir()
        checkpointer.save("model_0000005", iteration=5)
    files = [Path(checkpointer.save_dir, "model_best.pth") for checkpointer in (plain, ours)]
    ours.resumed_from = "model_0000005.pth"
    contents = []
    for score in (50.0, 10.0):
        for parameter in (*plain.model.parameters(), *ours.model.parameters()):
            nn.init.constant_(parameter, score)
        with EventStorage(5) as storage:
            storage.put_scalar("bbox/AP", score)
            state = SimpleNamespace(iter=5, max_iter=100, storage=storage)
            theirs = hooks.BestCheckpointer(1, plain, "bbox/AP")
            mine = BestCheckpoint(1, dict, checkpointer=ours, metric="bbox/AP")
            theirs.trainer = mine.trainer = state
            theirs._best_checking()
            mine.before_train()
            mine._keep_best({"bbox/AP": score})
        saved = [torch.load(file, weights_only=True)["model"]["head.bias"] for file in files]
        contents.append([float(bias[0]) for bias in saved])
    assert contents == [[50.0, 50.0], [10.0, 50.0]], "Detectron2 keeps the worse one"
    tags = [Path(c.save_dir, "last_checkpoint").read_text() for c in (plain, ours)]
    assert tags == ["model_best.pth", "model_0000005.pth"]


# ---- 3: losses that are no numbers


def test_3_loss_of_nan_with_asynchronous_metrics() -> None:
    model, data, optimizer = _parts(math.nan)
    plain = SimpleTrainer(model.train(), data, optimizer, async_write_metrics=True)
    plain.iter = 0
    with EventStorage(0):
        plain.run_step()  # no word
        plain.concurrent_executor.shutdown()
    assert math.isnan(model.weight), "and the training goes on with this"

    model, data, optimizer = _parts(math.nan)
    ours = CheckedStep(model, data, optimizer, precision=None, device_type="cpu")
    ours.iter = 0
    with EventStorage(0), pytest.raises(NonFiniteLossError):
        ours.run_step()
    assert float(model.weight) == 1.0


# ---- 4: where a training is


def test_4_resume_goes_on_in_the_pictures(tmp_path: Path) -> None:
    model, data, optimizer = _parts(1.0)
    plain = SimpleTrainer(model, data, optimizer)
    plain.iter = 7
    assert plain.state_dict().keys() == {"iteration", "optimizer"}, "no place in the data"
    words = [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / "run")]
    cfg = get_config(write_tiny_config(tmp_path), [*words, "SOLVER.MAX_ITER", "1"])
    register_config_datasets(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.SOLVER.MAX_ITER = 2
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    batch = next(iter(resumed.data_loader.batch_sampler))
    assert [position for position, _ in batch] == [2, 3], "the first two were seen"


# ---- 5: files that run code


def test_5_pickle_with_code_in_it(tmp_path: Path) -> None:
    content = {"model": {}, "__author__": "", "x": Payload(tmp_path / "mark")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError):
        Checkpointer(make_toy_detector(), str(tmp_path)).load(str(tmp_path / "a.pkl"))
    assert not (tmp_path / "mark").exists()
    DetectionCheckpointer(make_toy_detector()).load(str(tmp_path / "a.pkl"))
    assert (tmp_path / "mark").exists(), "Detectron2 has run it"


# ---- 6: configs


def test_6_numbers_none_and_keys_that_stand_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Type mismatch"):
        get_cfg().merge_from_list(["SOLVER.BASE_LR", "1"])
    assert get_config("", ["SOLVER.BASE_LR", "1"]).SOLVER.BASE_LR == 1.0

    plain = get_cfg()
    plain.merge_from_list(["SOLVER.MAX_ITER", "None"])
    assert plain.SOLVER.MAX_ITER is None
    with pytest.raises(ConfigError, match=r"SOLVER\.MAX_ITER"):
        get_config("", ["SOLVER.MAX_ITER", "None"])

    file = tmp_path / "twice.yaml"
    file.write_text("SOLVER: {MAX_ITER: 5}\nSOLVER: {BASE_LR: 0.5}\nVERSION: 2\n")
    plain = get_cfg()
    plain.merge_from_file(str(file))
    assert plain.SOLVER.MAX_ITER == get_cfg().SOLVER.MAX_ITER, "dropped without a word"
    with pytest.raises(ConfigError, match="SOLVER"):
        get_config(str(file))


# ---- 7: weights of something else


def test_7_weights_of_which_nothing_fits(tmp_path: Path) -> None:
    path = str(tmp_path / "other.pth")
    torch.save({"model": {"layer.weight": torch.zeros(3)}}, path)
    DetectionCheckpointer(make_toy_detector()).load(path)  # no error
    with pytest.raises(WeightsError, match="training would start from noise"):
        Checkpointer(make_toy_detector(), str(tmp_path)).load(path)


# ---- 8: mixed precision


def test_8_mixed_precision_without_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    model, data, optimizer = _parts(1.0)
    plain = AMPTrainer(model.train(), data, optimizer, grad_scaler=SimpleNamespace())
    with pytest.raises(AssertionError, match="CUDA is required"):
        plain.run_step()
    ours = CheckedStep(model, data, optimizer, precision=torch.bfloat16, device_type="cpu")
    with EventStorage(0):
        ours.iter = 0
        ours.run_step()
    assert float(model.weight) == pytest.approx(0.9)


# ---- 9: pkg_resources, which new versions of setuptools lack


def test_9_configs_without_pkg_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    for name in [name for name in sys.modules if name.startswith("detectron2.model_zoo")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("detectron2.model_zoo")
    assert get_config("COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml").MODEL.NASNET
