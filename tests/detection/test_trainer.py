"""The trainer: a resume continues exactly, the best model stays the best, NaN stops everything."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from detectron2.data import build_detection_train_loader
from detectron2.engine import launch
from detectron2.utils import comm
from tiny_training import give_scores as _scores
from tiny_training import make_config as _config
from tiny_training import read_metrics as _read_metrics
from tiny_training import start as _start
from tiny_training import train as _train
from tiny_training import train_until as _train_until

from nasnet_det.config import ConfigError
from nasnet_det.detection import run
from nasnet_det.detection import trainer as trainer_module
from nasnet_det.detection.hooks import drop_metrics
from nasnet_det.detection.step import CheckedStep, NonFiniteLossError, get_precision
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import MissingPackageError
from nasnet_det.runs.files import FileError


@pytest.fixture(autouse=True)
def _keep_loggers() -> Iterator[None]:
    """Detectron2's trainer sets up its logger, which other tests want to capture."""
    logger = logging.getLogger("detectron2")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    logger.setLevel(logging.INFO)  # so that the trainer finds it set up
    logger.handlers[:], logger.propagate = [], True  # whatever other tests have left
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


# ---- Resuming


def test_resume_computes_what_an_uninterrupted_run_computes(tmp_path: Path) -> None:
    straight = _train(_config(tmp_path, "straight"))
    cfg = _config(tmp_path, "killed")
    _train_until(cfg, 2)
    resumed = _start(cfg, resume=True)
    assert resumed.start_iter == 2
    resumed.train()
    for (name, wanted), got in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(wanted, got), name
    wanted, got = straight.optimizer.state_dict(), resumed.optimizer.state_dict()
    assert wanted["param_groups"] == got["param_groups"]


def test_resume_goes_on_with_retinanet_s_normalizer(tmp_path: Path) -> None:
    features = "['p3', 'p4', 'p5', 'p6', 'p7']"
    options = {
        "MODEL__META_ARCHITECTURE": "RetinaNet",
        "MODEL__BACKBONE__NAME": "build_retinanet_nasnet_fpn_backbone",
        "MODEL__FPN__IN_FEATURES": "['c3', 'c4', 'c5']",
        "MODEL__RETINANET__IN_FEATURES": features,
        "MODEL__RETINANET__NUM_CONVS": 1,
    }
    straight = _train(_config(tmp_path, "straight", **options))
    cfg = _config(tmp_path, "killed", **options)
    _train_until(cfg, 2)
    resumed = _train(cfg, resume=True)
    assert 1 <= resumed.model.loss_normalizer < 100
    assert resumed.model.loss_normalizer == straight.model.loss_normalizer
    for wanted, got in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(wanted, got)


def test_resume_restores_the_schedule_and_the_iteration(tmp_path: Path) -> None:
    cfg = _config(tmp_path, SOLVER__MAX_ITER=6, SOLVER__WARMUP_ITERS=6)
    _train_until(cfg, 3)
    trainer = _start(cfg, resume=True)
    rates = []
    trainer.run_step = lambda: rates.append(  # type: ignore[method-assign]
        (trainer.iter, trainer.optimizer.param_groups[0]["lr"])
    )
    trainer.train()
    assert [i for i, _ in rates] == [3, 4, 5]
    wanted = [cfg.SOLVER.BASE_LR * (i / 6 + 0.001 * (1 - i / 6)) for i in (3, 4, 5)]
    assert [rate for _, rate in rates] == pytest.approx(wanted)


def test_resume_of_a_finished_run_evaluates_again_and_changes_nothing(tmp_path: Path) -> None:
    cfg = _config(tmp_path, SOLVER__MAX_ITER=2)
    first = _train(cfg)
    path = Path(cfg.OUTPUT_DIR, "metrics.json")
    before = path.read_text()
    again = _train(cfg, resume=True)
    assert [line["iteration"] for line in _read_metrics(cfg)] == [0, 1, 2]
    assert path.read_text() == before
    for wanted, got in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(wanted, got)


def test_metrics_have_every_iteration_once_after_a_resume(tmp_path: Path) -> None:
    cfg = _config(tmp_path, SOLVER__CHECKPOINT_PERIOD=2, SOLVER__MAX_ITER=6, TEST__EVAL_PERIOD=3)
    _train_until(cfg, 5)
    path = Path(cfg.OUTPUT_DIR, "metrics.json")
    assert [line["iteration"] for line in _read_metrics(cfg)] == [1, 2, 3]
    with path.open("a") as file:
        file.write('{"iteration": 4}\n{"iteration": 5, "los')  # torn by the kill
    _train(cfg, resume=True)  # from iteration 4
    lines = _read_metrics(cfg)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 5, 6]
    assert ["bbox/AP" in line for line in lines] == [False, True, False, False, True]
    assert all("total_loss" in line for line in lines[:-1])


def test_drop_metrics_keeps_earlier_lines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(b'{"iteration": 3, "AP": NaN}\n{"iteration": 9}\nnot json\n{"iteration": 4}')
    drop_metrics(path, 5)
    assert path.read_bytes() == b'{"iteration": 3, "AP": NaN}\n'
    drop_metrics(tmp_path / "absent", 5)
    assert not (tmp_path / "absent").exists()


def test_checkpoint_with_the_state_of_a_hook_that_is_gone_is_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(tmp_path)
    _train_until(cfg, 2)
    path = Path(cfg.OUTPUT_DIR, "model_0000001.pth")
    state = torch.load(path, weights_only=True)
    random = {"python": (3, (1, 2), None), "numpy": ("MT19937", [1]), "torch": torch.ones(3)}
    state["trainer"]["hooks"]["Continuation"] = {"num_images": 4, "random": random}
    torch.save(state, path)
    assert _train(cfg, resume=True).start_iter == 2
    assert "hook 'Continuation'" in caplog.text


def test_loader_of_another_kind_starts_from_the_beginning_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(tmp_path)
    _train_until(cfg, 2)
    monkeypatch.setattr(Trainer, "build_train_loader", staticmethod(build_detection_train_loader))
    with caplog.at_level(logging.WARNING, logger="nasnet_det"):
        assert _train(cfg, resume=True).start_iter == 2
    assert "pictures start from the beginning again" in caplog.text


# ---- The best model


def test_best_model_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = _config(tmp_path, SOLVER__MAX_ITER=6, TEST__EVAL_PERIOD=1)
    _scores(monkeypatch, 1.0, 5.0, math.nan)
    _train_until(cfg, 3)
    state = torch.load(Path(cfg.OUTPUT_DIR, "model_0000001.pth"), weights_only=True)
    best = {"metric": "bbox/AP", "score": 5.0, "iteration": 1}
    assert state["trainer"]["hooks"]["BestCheckpoint"]["best"] == best
    _scores(monkeypatch, 4.0, 5.0, 2.0)
    trainer = _train(cfg, resume=True)
    file = torch.load(Path(cfg.OUTPUT_DIR, "model_best.pth"), weights_only=True)
    assert file["best"] == trainer.checkpointer.read_best() == best
    assert all(torch.equal(file["model"][key], state["model"][key]) for key in state["model"])
    assert Path(cfg.OUTPUT_DIR, "last_checkpoint").read_text() == "model_final.pth"


def test_best_score_is_that_of_the_file_after_a_kill_between_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path, SOLVER__CHECKPOINT_PERIOD=2, TEST__EVAL_PERIOD=1)
    _scores(monkeypatch, 1.0, 2.0, 9.0)
    _train_until(cfg, 3)  # iteration 2 made a best model and no checkpoint
    _scores(monkeypatch, 3.0, 4.0)
    trainer = _train(cfg, resume=True)
    assert trainer.start_iter == 2
    assert trainer.checkpointer.read_best()["score"] == 9.0


def test_best_model_is_the_next_one_where_the_file_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(tmp_path, TEST__EVAL_PERIOD=1)
    _scores(monkeypatch, 5.0, 5.0, 5.0)
    _train_until(cfg, 2)
    Path(cfg.OUTPUT_DIR, "model_best.pth").unlink()
    _scores(monkeypatch, 3.0, 4.0)
    with caplog.at_level(logging.WARNING, logger="nasnet_det"):
        trainer = _train(cfg, resume=True)
    assert "model_best.pth is gone" in caplog.text
    assert trainer.checkpointer.read_best()["score"] == 4.0


def test_best_metric_that_does_not_exist_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(tmp_path, SOLVER__MAX_ITER=1, TEST__BEST_METRIC="bbox/mAP")
    _scores(monkeypatch, 5.0)
    with caplog.at_level(logging.WARNING, logger="nasnet_det"):
        _train(cfg)
    assert "TEST.BEST_METRIC bbox/mAP is not among the results" in caplog.text
    assert "available: bbox/AP, bbox/AP50" in caplog.text
    assert not Path(cfg.OUTPUT_DIR, "model_best.pth").exists()


# ---- Losses that are no numbers


def _spoil_loss(trainer: Trainer, iteration: int) -> None:
    """Make one loss NaN from an iteration on."""
    forward = trainer.model.forward

    def spoiled(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        losses = forward(batch)
        if trainer.model.training and trainer.iter >= iteration:
            losses["loss_cls"] = losses["loss_cls"] * math.nan
        return losses

    trainer.model.forward = spoiled  # type: ignore[method-assign]


def test_loss_of_nan_stops_before_the_weights_and_tells_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(tmp_path)
    trainer = _start(cfg)
    _spoil_loss(trainer, 2)
    with pytest.raises(NonFiniteLossError) as info, caplog.at_level(logging.ERROR):
        trainer.train()
    message = str(info.value)
    assert message.startswith("the loss is not a finite number at iteration 2, learning rate 0.01:")
    assert "loss_cls nan, loss_box_reg 0." in message
    assert message.count(".png") == cfg.SOLVER.IMS_PER_BATCH
    assert f"last checkpoint with finite weights: {cfg.OUTPUT_DIR}/model_0000001.pth" in message
    assert "\n" not in message
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert (record.message, record.exc_info) == (f"Training stopped: {message}", None)
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())
    assert "last_checkpoint" in os.listdir(cfg.OUTPUT_DIR)
    assert not hasattr(trainer, "_last_eval_results"), "no evaluation after a failure"


class _RankLoss(nn.Module):
    """A loss that is NaN on the second process only."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch: list[dict[str, str]]) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * (math.nan if comm.get_rank() == 1 else 1.0)}


def _step_on_two_processes(folder: str) -> None:
    model = nn.parallel.DistributedDataParallel(_RankLoss())
    data = [[{"file_name": f"of_rank_{comm.get_rank()}.png"}]]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = CheckedStep(model, data, optimizer, precision=None, device_type="cpu")
    try:
        step.run_step()
    except NonFiniteLossError as error:
        Path(folder, str(comm.get_rank())).write_text(str(error))
    # A process that leaves while gloo's threads still run is aborted now and then.
    comm.synchronize()
    torch.distributed.destroy_process_group()


def test_loss_of_nan_on_one_process_stops_all_with_its_images(tmp_path: Path) -> None:
    launch(_step_on_two_processes, 2, dist_url="auto", args=(str(tmp_path),))
    messages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(messages) == {"0", "1"}
    assert messages["0"] == messages["1"]
    assert "loss nan; images: of_rank_1.png" in messages["0"]


# ---- Optimizer


def test_adamw_has_detectron2s_groups_of_parameters(tmp_path: Path) -> None:
    cfg = _config(
        tmp_path,
        SOLVER__OPTIMIZER="AdamW",
        SOLVER__BASE_LR=0.001,
        SOLVER__WEIGHT_DECAY=0.05,
        SOLVER__WEIGHT_DECAY_BIAS=0.0,
    )
    model = Trainer.build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    assert type(optimizer) is torch.optim.AdamW
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {
        names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {d for name, d in decays.items() if name.endswith(".bias")} == {0.0}
    assert decays["proposal_generator.rpn_head.conv.weight"] == 0.05
    norms = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {decays[f"{name}.weight"] for name in norms} == {0.0}
    assert all(group["lr"] == 0.001 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_backbone_learns_at_its_own_rate(tmp_path: Path, name: str) -> None:
    options = {"OPTIMIZER": name, "BASE_LR": 0.5, "BIAS_LR_FACTOR": 2.0, "WEIGHT_DECAY_BIAS": 0.1}
    cfg = _config(tmp_path, **{f"SOLVER__{key}": value for key, value in options.items()})
    model = Trainer.build_model(cfg)
    plain = Trainer.build_optimizer(cfg, model)
    cfg.SOLVER.BACKBONE_LR_FACTOR = 0.1
    scaled = Trainer.build_optimizer(cfg, model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    one, other = (
        {names[p]: {k: v for k, v in g.items() if k != "params"} for g in o.param_groups for p in g["params"]}
        for o in (plain, scaled)
    )  # fmt: skip
    assert one.keys() == other.keys()
    for name, values in one.items():
        factor = 0.1 if name.startswith("backbone.bottom_up.") else 1.0
        assert other[name] == {**values, "lr": pytest.approx(values["lr"] * factor)}, name
    assert any(name.startswith("backbone.fpn_") for name in names.values())
    scheduler = Trainer.build_lr_scheduler(cfg, scaled)
    rates = {group["initial_lr"] for group in scaled.param_groups}
    assert sorted(rates) == pytest.approx([0.05, 0.1, 0.5, 1.0])
    assert len(scheduler.base_lrs) == len(scaled.param_groups)


def test_every_key_of_the_optimizer_reaches_it(tmp_path: Path) -> None:
    options = {
        "BASE_LR": 0.5, "MOMENTUM": 0.7, "NESTEROV": True, "WEIGHT_DECAY": 0.2,
        "WEIGHT_DECAY_NORM": 0.3, "WEIGHT_DECAY_BIAS": 0.1, "BIAS_LR_FACTOR": 2.0,
        "CLIP_GRADIENTS.ENABLED": True, "CLIP_GRADIENTS.CLIP_TYPE": "norm",
        "CLIP_GRADIENTS.CLIP_VALUE": 1e-3, "CLIP_GRADIENTS.NORM_TYPE": 1.0,
    }  # fmt: skip
    cfg = _config(tmp_path, **{f"SOLVER.{key}": value for key, value in options.items()})
    for name in ("SGD", "AdamW"):
        cfg.SOLVER.OPTIMIZER = name
        model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
        optimizer = Trainer.build_optimizer(cfg, model)
        assert isinstance(optimizer, getattr(torch.optim, name))
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        conv, bias, norm = (groups[id(p)] for p in (*model[0].parameters(), model[1].weight))
        assert (conv["lr"], bias["lr"], norm["lr"]) == (0.5, 1.0, 0.5)
        assert [g["weight_decay"] for g in (conv, bias, norm)] == [0.2, 0.1, 0.3]
        if name == "SGD":
            assert (conv["momentum"], conv["nesterov"]) == (0.7, True)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        norms = [float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None]
        assert norms == pytest.approx([1e-3] * len(norms), rel=1e-2), "the sum of absolute values"


def test_precise_statistics_replace_the_running_ones_and_no_weight(tmp_path: Path) -> None:
    states = []
    for name in ("False", "True"):
        precise = {"TEST__PRECISE_BN__ENABLED": name, "TEST__PRECISE_BN__NUM_ITER": 2}
        cfg = _config(tmp_path, name, SOLVER__MAX_ITER=1, TEST__EVAL_PERIOD=1, **precise)
        states.append(_train(cfg).model.state_dict())
    plain, precise_ones = states
    names = {name for name in plain if not torch.equal(plain[name], precise_ones[name])}
    assert any(name.endswith("running_mean") for name in names)
    assert all("running_" in name or name.endswith("num_batches_tracked") for name in names)


def test_period_of_pictures_reaches_the_model_where_they_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path, VIS_PERIOD=3)
    assert Trainer.build_model(cfg).vis_period == 3
    monkeypatch.setattr(trainer_module, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="cv2 is not installed: run pip install opencv"):
        Trainer(cfg)


def test_precision_of_a_gpu_is_the_config_s_and_a_cpu_s_is_not(tmp_path: Path) -> None:
    cfg = _config(tmp_path, SOLVER__AMP__ENABLED=True)
    for device, name, wanted in (
        ("cuda", "float16", torch.float16),
        ("cuda", "bfloat16", torch.bfloat16),
        ("cpu", "float16", torch.bfloat16),
    ):
        cfg.MODEL.DEVICE, cfg.SOLVER.AMP.PRECISION = device, name
        assert get_precision(cfg) is wanted


def test_cudnn_is_told_what_the_config_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(run, "setup_logger", lambda *_, **__: logging.getLogger("quiet"))
    for wanted, eval_only in ((True, False), (False, True)):
        run.set_up_process(_config(tmp_path, CUDNN_BENCHMARK=True), [], eval_only=eval_only)
        assert torch.backends.cudnn.benchmark == wanted, "not where sizes vary most"


def test_optimizer_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SOLVER.OPTIMIZER: unknown name 'Adam'"):
        Trainer(_config(tmp_path, SOLVER__OPTIMIZER="Adam"))


# ---- Precision


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_trains_and_evaluates_on_a_cpu(precision: str, tmp_path: Path) -> None:
    cfg = _config(
        tmp_path, SOLVER__AMP__ENABLED=True, SOLVER__AMP__PRECISION=precision, SOLVER__MAX_ITER=1
    )
    trainer = _start(cfg)
    types: dict[bool, set[torch.dtype]] = {}

    def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        types.setdefault(module.training, set()).add(output.dtype)

    trainer.model.backbone.fpn_output2.register_forward_hook(note)
    before = trainer.model.backbone.fpn_output2.weight.clone()
    results = trainer.train()
    assert types == {True: {torch.bfloat16}, False: {torch.bfloat16}}
    weight = trainer.model.backbone.fpn_output2.weight
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, before)
    assert results is not None
    assert "AP" in results["bbox"]


def test_mixed_precision_can_be_switched_on_at_a_resume(tmp_path: Path) -> None:
    _train_until(_config(tmp_path), 2)
    trainer = _train(_config(tmp_path, SOLVER__AMP__ENABLED=True), resume=True)
    assert trainer.start_iter == 2


def test_precision_of_another_name_is_refused(tmp_path: Path) -> None:
    cfg = _config(tmp_path, SOLVER__AMP__PRECISION="half")
    with pytest.raises(ConfigError, match=r"SOLVER.AMP.PRECISION: unknown name 'half'"):
        Trainer(cfg)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_trains_and_evaluates_on_a_gpu(precision: str, tmp_path: Path) -> None:
    cfg = _config(
        tmp_path,
        MODEL__DEVICE="cuda",
        SOLVER__AMP__ENABLED=True,
        SOLVER__AMP__PRECISION=precision,
    )
    trainer = _train(cfg)
    assert trainer._trainer.grad_scaler.is_enabled() == (precision == "float16")
    assert _start(cfg, resume=True).start_iter == 4


# ---- Evaluations


def test_results_are_written_for_each_set_with_null_for_nan(tmp_path: Path) -> None:
    cfg = _config(tmp_path, SOLVER__MAX_ITER=1)
    other = _config(tmp_path / "other")
    cfg.DATASETS.TEST = (*cfg.DATASETS.TEST, *other.DATASETS.TEST)
    _train(cfg)
    content = json.loads(Path(cfg.OUTPUT_DIR, "results.json").read_text())
    assert content["iteration"] == 0
    assert content["weights"] == f"{cfg.OUTPUT_DIR}/model_final.pth"
    assert list(content["datasets"]) == list(cfg.DATASETS.TEST)
    for part, folder in zip(content["datasets"].values(), ("data", "other/data"), strict=True):
        assert part["json_file"] == str(tmp_path / folder / "boxes.json")
        assert part["results"]["bbox"]["APs"] is None, "there is no small box"
        assert part["results"]["bbox"]["AP"] >= 0
    assert len(list(Path(cfg.OUTPUT_DIR, "inference").iterdir())) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"with_boxes": False},
        {"MODEL__ROI_HEADS__SCORE_THRESH_TEST": 1.0},
        {"MODEL__RPN__POST_NMS_TOPK_TEST": 0},
    ],
)
def test_pictures_without_boxes_or_detections_are_no_failure(
    options: dict[str, Any], tmp_path: Path
) -> None:
    cfg = _config(tmp_path, SOLVER__MAX_ITER=1, **options)
    trainer = _train(cfg)
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())
    content = json.loads(Path(cfg.OUTPUT_DIR, "results.json").read_text())
    (part,) = content["datasets"].values()
    assert not any(part["results"].get("bbox", {}).values()), "null or 0"


# ---- Building


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"MODEL__RPN__IN_FEATURES": "['p2', 'p9']"}, "has no feature 'p9'; see MODEL.RPN.IN"),
        ({"MODEL__NASNET__VARIANT": "nasnet_z"}, "MODEL.NASNET: "),
        ({"MODEL__ANCHOR_GENERATOR__SIZES": "[[8], [16]]"}, "Got sizes of length 2 in anchor"),
    ],
)
def test_model_that_can_not_be_built_is_one_sentence(
    options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as info:
        Trainer(_config(tmp_path, **options))
    assert told in str(info.value)
    assert "\n" not in str(info.value)


def test_full_disk_stops_the_training_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path)
    save: Callable[..., None] = torch.save
    saved = []

    def fill_up(data: Any, file: Any) -> None:
        saved.append(data)
        if len(saved) == 3:
            file.write(b"some bytes")
            raise OSError(28, "No space left on device")
        save(data, file)

    monkeypatch.setattr(torch, "save", fill_up)
    with pytest.raises(FileError, match="No space left on device"):
        _train(cfg)
    monkeypatch.undo()
    assert _start(cfg, resume=True).start_iter == 2
