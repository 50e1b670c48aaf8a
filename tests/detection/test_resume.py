"""Going on with other values than before: obeyed, listed, or refused."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import CfgNode
from detectron2.utils import comm
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.detection import get_config
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.run import agree_on_seed
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.checkpoint import CheckpointError


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Detectron2 leaves handlers behind."""
    log = logging.getLogger("nasnet_det")
    before = list(log.handlers), log.propagate
    log.handlers[:], log.propagate = [], True
    yield
    log.handlers[:], log.propagate = before


def _config(folder: Path, *words: Any) -> CfgNode:
    files = write_tiny_dataset(folder / "data")
    pairs = [*files, "OUTPUT_DIR", str(folder / "run"), "SOLVER.WARMUP_ITERS", "0"]
    cfg = get_config(write_tiny_config(folder), [*pairs, *map(str, words)])
    register_config_datasets(cfg)
    return cfg


def _start(cfg: CfgNode, *, resume: bool = True) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that is finished after two iterations."""
    folder = tmp_path_factory.mktemp("resume")
    cfg = _config(folder, "SOLVER.MAX_ITER", 2)
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(cfg.dump())
    _start(cfg, resume=False).train()
    return folder


def _copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_changed_rates_and_decays_are_obeyed_and_longer_is_longer(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = _copy(folder, tmp_path)
    changed = ("SOLVER.MAX_ITER", 4, "SOLVER.BASE_LR", 0.03, "SOLVER.WEIGHT_DECAY", 0.5)
    cfg = _config(place, *changed, "SOLVER.MOMENTUM", 0.7, "SOLVER.STEPS", "(3,)")
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        trainer = _start(cfg)
    assert "From now on SOLVER.BASE_LR 0.01 -> 0.03\n" in caplog.text
    assert "From now on SOLVER.MAX_ITER 2 -> 4\n" in caplog.text
    assert trainer.start_iter == 2
    groups = trainer._trainer.optimizer.param_groups
    assert {group["momentum"] for group in groups} == {0.7}
    assert max(group["weight_decay"] for group in groups) == 0.5
    rates = []
    step = trainer.run_step

    def run_step() -> None:
        rates.append(trainer._trainer.optimizer.param_groups[0]["lr"])
        step()

    trainer.run_step = run_step  # type: ignore[method-assign]
    trainer.train()
    assert rates == pytest.approx([0.03, 0.003])


def test_other_batch_is_told_with_what_it_means(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(_copy(folder, tmp_path), "SOLVER.IMS_PER_BATCH", 3, "SOLVER.MAX_ITER", 3)
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        trainer = _start(cfg)
    assert (
        "From now on SOLVER.IMS_PER_BATCH 2 -> 3: the 2 iterations that are done stay as many, and "
        "SOLVER.BASE_LR, STEPS and MAX_ITER are not scaled; the pictures go on at place 6 of their "
        "order, where 4 were seen"
    ) in caplog.text
    batch = next(iter(trainer.data_loader.batch_sampler))
    assert [position for position, _ in batch] == [6, 7, 8]


def test_seed_that_was_not_given_stays_that_of_the_run(tmp_path: Path) -> None:
    """For whoever uses the class alone, without the run.json of the command."""
    cfg = _config(tmp_path, "SEED", -1, "SOLVER.MAX_ITER", 1)
    first = _start(cfg, resume=False)
    first.train()
    assert first.cfg.SEED >= 0
    assert _start(cfg).cfg.SEED == first.cfg.SEED
    cfg.OUTPUT_DIR = str(tmp_path / "other")
    assert _start(cfg).cfg.SEED != first.cfg.SEED
    assert _start(cfg).cfg.SEED >= 0


def test_all_processes_take_the_seed_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines' commands choose one each."""
    monkeypatch.setattr(comm, "all_gather", lambda value: [7, value])
    assert agree_on_seed(_config(tmp_path, "SEED", -1)).SEED == 7
    assert agree_on_seed(_config(tmp_path, "SEED", 3)).SEED == 7


def test_unchanged_config_keeps_the_very_rate(folder: Path, tmp_path: Path) -> None:
    place = _copy(folder, tmp_path)
    state = torch.load(place / "run" / "model_final.pth", weights_only=True)["trainer"]
    saved = state["_trainer"]["optimizer"]["param_groups"]
    trainer = _start(_config(place, "SOLVER.MAX_ITER", 2))
    got = trainer._trainer.optimizer.state_dict()["param_groups"]
    assert got == saved


def test_fewer_processes_keep_the_right_rate(folder: Path, tmp_path: Path) -> None:
    """Two processes began it; one goes on, with half the images in a step."""
    place = _copy(folder, tmp_path)
    cfg = _config(place, "SOLVER.MAX_ITER", 4, "SOLVER.REFERENCE_WORLD_SIZE", 2)
    trainer = _start(cfg)
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 1
    assert trainer._trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    assert trainer.scheduler.base_lrs[0] == pytest.approx(0.005)


def test_another_optimizer_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    cfg = _config(_copy(folder, tmp_path), "SOLVER.OPTIMIZER", "AdamW")
    with pytest.raises(
        CheckpointError, match=r"of another training: SOLVER.OPTIMIZER was 'SGD', is 'AdamW'; give"
    ):
        _start(cfg)


def test_fewer_iterations_than_are_done_change_nothing(folder: Path, tmp_path: Path) -> None:
    place = _copy(folder, tmp_path)
    before = (place / "run" / "model_final.pth").read_bytes()
    _start(_config(place, "SOLVER.MAX_ITER", 1)).train()
    assert (place / "run" / "model_final.pth").read_bytes() == before


def test_best_model_and_metrics_of_another_run_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie there, but nothing to resume from does."""
    scores = iter([90.0, 10.0])
    monkeypatch.setattr(Trainer, "test", lambda *_, **__: {"bbox": {"AP": next(scores)}})
    cfg = _config(tmp_path, "SOLVER.MAX_ITER", 1)
    _start(cfg, resume=False).train()
    run = tmp_path / "run"
    best = (run / "model_best.pth").read_bytes()
    for name in ("model_final.pth", "last_checkpoint", "model_0000000.pth"):
        (run / name).unlink(missing_ok=True)
    _start(cfg).train()
    assert (run / "model_best.pth").read_bytes() != best
    assert torch.load(run / "model_best.pth", weights_only=True)["best"]["score"] == 10.0
    assert (run / "metrics.json").read_text().count("bbox/AP") == 1
