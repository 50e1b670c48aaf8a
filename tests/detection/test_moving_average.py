"""The moving average of the weights: its formula, and what is evaluated, saved and resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from tiny_training import make_config, start, train, train_until

from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.moving_average import MovingAverage, get_decay
from nasnet_det.detection.trainer import Trainer

EMA = {"SOLVER__EMA__DECAY": 0.5, "SOLVER__EMA__WARMUP": False}


def _average_toy(num_steps: int, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The states of a small network while it changes, and the average of them."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    average = MovingAverage(model, **options)
    states = []
    for iteration in range(num_steps):
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter)
        model(torch.randn(2, 3, 4, 4))
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        average.trainer = SimpleNamespace(iter=iteration)
        average.after_step()
    return states, average.model.state_dict()


@pytest.mark.parametrize("warmup", [False, True])
def test_average_is_that_of_weights_and_statistics(warmup: bool) -> None:
    states, got = _average_toy(5, decay=0.9, warmup=warmup)
    wanted = states[0]
    for iteration, state in enumerate(states[1:], start=1):
        decay = min(0.9, 1 - (1 + iteration) ** (-2 / 3)) if warmup else 0.9
        wanted = {name: decay * wanted[name] + (1 - decay) * state[name] for name in state}
    wanted["1.num_batches_tracked"] = torch.tensor(5)
    torch.testing.assert_close(got, wanted)


def test_warmup_reaches_what_the_page_says() -> None:
    assert get_decay(1.0, 1000, warmup=True) == pytest.approx(0.99, abs=1e-4)
    assert get_decay(1.0, 31_600, warmup=True) == pytest.approx(0.999, abs=1e-5)
    assert get_decay(0.9, 31_600, warmup=True) == 0.9


@pytest.mark.peers
@pytest.mark.parametrize("warmup", [False, True])
def test_average_is_timm_s(warmup: bool) -> None:
    ema = pytest.importorskip("timm.utils").ModelEmaV3
    states, got = _average_toy(6, decay=0.7, warmup=warmup)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    theirs = ema(model, decay=0.7, use_warmup=warmup)
    for number, state in enumerate(states, start=1):
        model.load_state_dict(state)
        theirs.update(model, step=number)
    torch.testing.assert_close(got, theirs.module.state_dict())


def test_average_is_evaluated_and_is_the_model_of_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_config(tmp_path, SOLVER__AMP__ENABLED=True, TEST__EVAL_PERIOD=2, **EMA)
    evaluated = []

    def test(_: Trainer, cfg: object, model: nn.Module, **__: Any) -> dict[str, dict[str, float]]:
        evaluated.append(model)
        return {"bbox": {"AP": float(len(evaluated))}}

    monkeypatch.setattr(Trainer, "test", test)
    trainer = train(cfg)
    assert trainer.average is not None
    assert evaluated == [trainer.average.model] * 2
    final = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    best = torch.load(Path(cfg.OUTPUT_DIR, "model_best.pth"), weights_only=True)
    name = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(final["unaveraged"][name], trainer.model.state_dict()[name])
    assert not torch.equal(final["model"][name], final["unaveraged"][name])
    assert torch.equal(final["model"][name], trainer.average.model.state_dict()[name])
    assert torch.equal(best["model"][name], final["model"][name])
    assert "unaveraged" not in best
    for resume in (False, True):  # as predict and train --eval-only load it
        model = Trainer.build_model(cfg)
        checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, is_trained=True, save_to_disk=False)
        checkpointer.resume_or_load(f"{cfg.OUTPUT_DIR}/model_final.pth", resume=resume)
        assert torch.equal(model.state_dict()[name], final["model"][name])


def _check_equal(wanted: nn.Module, got: nn.Module) -> None:
    for (name, one), other in zip(
        wanted.state_dict().items(), got.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_resume_goes_on_with_both(tmp_path: Path) -> None:
    straight = train(make_config(tmp_path, "straight", **EMA))
    cfg = make_config(tmp_path, "killed", **EMA)
    train_until(cfg, 2)
    resumed = train(cfg, resume=True)
    assert resumed.start_iter == 2
    _check_equal(straight.model, resumed.model)
    _check_equal(straight.evaluated_model, resumed.evaluated_model)


def test_warmup_of_the_config_makes_another_average_of_the_same_weights(tmp_path: Path) -> None:
    options = {"SOLVER__EMA__DECAY": 0.9, "SOLVER__MAX_ITER": 2}
    first, second = (
        train(make_config(tmp_path, str(warmup), SOLVER__EMA__WARMUP=warmup, **options))
        for warmup in (False, True)
    )
    _check_equal(first.model, second.model)
    name = "roi_heads.box_predictor.cls_score.weight"
    averages = [t.evaluated_model.state_dict()[name] for t in (first, second)]
    assert not torch.equal(*averages)


def test_average_can_be_switched_on_and_off_at_a_resume(tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    train_until(cfg, 2)
    on = start(make_config(tmp_path, **EMA), resume=True)
    _check_equal(on.model, on.evaluated_model)
    averaging = make_config(tmp_path, "other", **EMA)
    train_until(averaging, 2)
    off = start(make_config(tmp_path, "other"), resume=True)
    _check_equal(on.model, off.model)
    assert off.evaluated_model is off.model


def test_weights_to_start_from_are_the_first_average(tmp_path: Path) -> None:
    path = train(make_config(tmp_path, SOLVER__MAX_ITER=1)).cfg.OUTPUT_DIR + "/model_final.pth"
    trainer = start(make_config(tmp_path, "tuned", MODEL__WEIGHTS=path, **EMA))
    saved = torch.load(path, weights_only=True)["model"]
    name = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(trainer.evaluated_model.state_dict()[name], saved[name])


def test_precise_statistics_are_those_of_the_average(tmp_path: Path) -> None:
    plain, precise = (
        train(
            make_config(
                tmp_path,
                str(enabled),
                SOLVER__MAX_ITER=2,
                TEST__PRECISE_BN__ENABLED=enabled,
                TEST__PRECISE_BN__NUM_ITER=2,
                **EMA,
            )
        )
        for enabled in (False, True)
    )
    _check_equal(plain.model, precise.model)
    one, other = plain.evaluated_model.state_dict(), precise.evaluated_model.state_dict()
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert any(name.endswith("running_mean") for name in changed)
    assert all("running_" in name or name.endswith("num_batches_tracked") for name in changed)
