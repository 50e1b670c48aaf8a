"""benchmarks/training_comforts.py: its numbers and its cases."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("detectron2")

from benchmarks import training_comforts as benchmark
from nasnet_det.detection import get_config


def _row(case: str, seed: int, last: float, best: float, iterations: int = 400) -> dict[str, Any]:
    scores = {"last_ap": last, "best_ap": best}
    return {"case": case, "seed": seed, "iterations": iterations, "minutes": 3, **scores}


def test_differences_are_those_of_one_seed_with_student_s_interval() -> None:
    runs = [_row("plain", 1, 10, 20), _row("plain", 2, 20, 30), _row("ema", 1, 12, 20)]
    runs += [_row("ema", 2, 24, 31), _row("early", 1, 9, 19, 250), _row("early", 3, 50, 50)]
    rows = benchmark.to_markdown(benchmark.compare(runs)).splitlines()[2:]
    assert rows == [
        "| plain | 2 | 400 | 3.0 | 15.0 |  | 25.0 |  |",
        # 2 and 4: 3 +- 12.706 * sqrt(2) / sqrt(2)
        "| ema | 2 | 400 | 3.0 | 18.0 | +3.0 (-9.7 to +15.7) | 25.5 | +0.5 (-5.9 to +6.9) |",
        "| early | 1 | 250 | 3.0 | 9.0 |  | 19.0 |  |",
    ]


def test_cases_are_keys_of_the_config() -> None:
    for values in benchmark.CASES.values():
        get_config(benchmark.CONFIG, [str(word) for pair in values.items() for word in pair])
