"""The trial of learning rates: what it suggests, tries, prints, and leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2")

from command import run_command
from tiny_detection import write_tiny_config, write_tiny_dataset
from tiny_training import make_config, train

from nasnet_det.detection import find_learning_rate
from nasnet_det.detection.learning_rate import smooth_losses, suggest_rate
from nasnet_det.detection.step import CheckedStep
from nasnet_det.errors import InputError

RATES = [float(rate) for rate in np.geomspace(1e-6, 1, 100)]


def test_suggestion_is_where_the_loss_falls_fastest() -> None:
    decades = np.log10(RATES)
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    losses = 3 / (1 + np.exp(4 * (decades + 3))) + np.exp(6 * decades) + noise
    suggestion = suggest_rate(RATES, smooth_losses(losses.tolist(), 10))
    assert suggestion is not None
    assert -3.5 < np.log10(suggestion) < -2.5
    assert suggest_rate(RATES, decades.tolist()) is None, "it rises"
    assert suggest_rate(RATES[:4], [4.0, 3.0, 2.0, 1.0]) is not None
    assert suggest_rate(RATES[:2], [4.0, 3.0]) is None


def test_rates_rise_for_every_parameter_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    take_step = CheckedStep.run_step

    def run_step(self: CheckedStep) -> None:
        seen.append(sorted({group["lr"] for group in self.optimizer.param_groups}))
        take_step(self)

    monkeypatch.setattr(CheckedStep, "run_step", run_step)
    cfg = make_config(tmp_path, SOLVER__BIAS_LR_FACTOR=2.0, SOLVER__WEIGHT_DECAY_BIAS=0.1)
    trial = find_learning_rate(cfg, lowest=1e-5, highest=1e-3, num_iterations=21)
    assert [low for low, _ in seen] == pytest.approx(list(np.geomspace(1e-5, 1e-3, 21)))
    assert [high for _, high in seen] == pytest.approx([2 * low for low, _ in seen])
    assert (trial.rates, len(trial.losses)) == (tuple(low for low, _ in seen), 21)
    assert not trial.has_diverged


def test_command_draws_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    weights = Path(train(make_config(tmp_path, SOLVER__MAX_ITER=1)).cfg.OUTPUT_DIR)
    weights /= "model_final.pth"
    before = weights.read_bytes()
    words = ["find-lr", "--config-file", write_tiny_config(tmp_path)]
    words += ["--iterations", "40", "--highest", "1e9", "--draw", str(tmp_path / "rates.png")]
    pairs = [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / "none")]
    done = run_command(*words, *pairs, "MODEL.WEIGHTS", weights)
    assert done.returncode == 0, done.stderr
    assert "The training diverges from " in done.stdout
    assert "SOLVER.BASE_LR" in done.stdout.splitlines()[-1] or "others" in done.stdout
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "none").exists()
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "wanted rates with 0 < lowest < highest, got 1 and 0.1"),
        ({"num_iterations": 5}, "wanted at least 20 iterations, got 5"),
    ],
)
def test_wrong_trial_is_one_sentence(
    options: dict[str, float], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as info:
        find_learning_rate(make_config(tmp_path), **options)
    assert str(info.value) == sentence
