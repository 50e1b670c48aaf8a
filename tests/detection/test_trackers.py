"""Trackers of a training: what they are given, and that none can end it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from detectron2.utils.events import EventStorage
from tiny_training import make_config, read_metrics, train, train_until

from nasnet_det.config import ConfigError
from nasnet_det.detection import trackers
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.trackers import IDS, TrackerWriter


class FailingRun:
    """A run whose server goes away with the third iteration."""

    id = "1"

    def __init__(self) -> None:
        self.got: list[tuple[int, dict[str, float]]] = []

    def log(self, values: Any, iteration: int) -> None:
        if iteration == 2:
            raise ConnectionError("connection\nrefused")
        self.got.append((iteration, dict(values)))

    def close(self) -> None:
        raise AssertionError("it is not asked any more")


def test_writer_gives_each_number_once_and_outlives_its_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = FailingRun()
    writer = TrackerWriter("wandb", run)
    with EventStorage() as storage:
        for iteration in range(5):
            storage.iter = iteration
            storage.put_scalar("loss", 0.5 * iteration, smoothing_hint=False)
            writer.write()
            writer.write()
    writer.close()
    assert run.got == [(0, {"loss": 0.0}), (1, {"loss": 0.5})]
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == (
        "TRACKERS: wandb failed, and the training goes on without it: connection refused"
    )


def test_tensorboard_is_a_tracker_that_may_be_left_out(tmp_path: Path) -> None:
    with_it = make_config(tmp_path, "with", SOLVER__MAX_ITER=1)
    without = make_config(tmp_path, "without", SOLVER__MAX_ITER=1, TRACKERS=[])
    for cfg in (with_it, without):
        train(cfg)
        assert read_metrics(cfg)
    assert list((tmp_path / "with").glob("events.out.tfevents.*"))
    assert not list((tmp_path / "without").glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"TRACKERS": ["comet"]}, "a list with some of tensorboard, wandb, mlflow, got ['comet']"),
        ({"TRACKERS": ["wandb", "wandb"]}, "a list with some of tensorboard, wandb, mlflow, got"),
        ({"TRACKERS": [], "VIS_PERIOD": 5}, "tensorboard among them, since VIS_PERIOD is 5, got []"),
    ],
)  # fmt: skip
def test_wrong_trackers_are_one_sentence(
    options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as info:
        check_values(make_config(tmp_path, **options))
    assert str(info.value).startswith(f"TRACKERS: wanted {sentence}")


def test_tracker_that_is_not_installed_is_said_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = trackers.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda name: find(name) if name != "wandb" else None)
    cfg = make_config(tmp_path, SOLVER__MAX_ITER=1, TRACKERS=["wandb"])
    train(cfg)
    assert "TRACKERS: wandb is not installed, and the training goes on without it" in caplog.text
    assert "pip install 'nasnet-det[wandb]'" in caplog.text
    assert Path(cfg.OUTPUT_DIR, "model_final.pth").is_file()


def test_mlflow_has_the_numbers_of_metrics_json_in_one_run_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones only read them otherwise
    mlflow.set_tracking_uri((tmp_path / "tracked").as_uri())
    cfg = make_config(tmp_path, TRACKERS=["mlflow"], TEST__EVAL_PERIOD=2)
    train_until(cfg, 3)
    mlflow.end_run()  # a kill would have ended it
    train(cfg, resume=True)
    (run_id,) = json.loads(Path(cfg.OUTPUT_DIR, IDS).read_text()).values()
    (run,) = mlflow.search_runs(output_format="list", experiment_ids=["0"])
    assert run.info.run_id == run_id
    client = mlflow.MlflowClient()
    tracked = {entry.step: entry.value for entry in client.get_metric_history(run_id, "total_loss")}
    lines = {
        line["iteration"]: line["total_loss"] for line in read_metrics(cfg) if "total_loss" in line
    }
    assert lines
    for iteration, loss in lines.items():
        assert tracked[iteration] == pytest.approx(loss)
    assert "bbox/AP" in run.data.metrics


def test_mlflow_s_server_may_be_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    cfg = make_config(tmp_path, SOLVER__MAX_ITER=1, TRACKERS=["mlflow"])
    train(cfg)
    assert "TRACKERS: mlflow failed, and the training goes on without it: " in caplog.text
    assert Path(cfg.OUTPUT_DIR, "model_final.pth").is_file()


def test_wandb_offline_takes_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    cfg = make_config(tmp_path, SOLVER__MAX_ITER=2, TRACKERS=["wandb"])
    train(cfg)
    wandb.teardown()  # its service has written all
    (file,) = Path(cfg.OUTPUT_DIR).glob("wandb/offline-run-*/*.wandb")
    assert b"total_loss" in file.read_bytes()
    assert json.loads(Path(cfg.OUTPUT_DIR, IDS).read_text())["wandb"] in file.name
