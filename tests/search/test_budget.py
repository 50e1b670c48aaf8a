"""Numbers of candidates by the hours that a search may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasnet_det.config import ConfigError
from nasnet_det.runs.files import FileError
from nasnet_det.search.budget import Budget
from nasnet_det.search.config import get_search_config


NUM_KNOWN = 50


def make_budget(folder: Path, *opts: str, num_workers: int = 1) -> Budget:
    cfg = get_search_config("", opts)
    return Budget(folder, cfg, num_workers=num_workers, num_known=NUM_KNOWN)


def spend(budget: Budget, costs: list[float]) -> tuple[list[int], float]:
    """The numbers when each child takes what was estimated, and the hours in all."""
    budget.begin(costs)
    numbers, seconds = [], 0.0
    for rung, cost in enumerate(costs):
        number = budget.choose(rung)
        spent = (number + (min(number, NUM_KNOWN) if rung else 0)) * cost
        budget.end_rung(rung, spent, None)
        numbers.append(number)
        seconds += spent
    return numbers, seconds / budget.num_workers / 3600


@pytest.mark.parametrize("hours", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("num_workers", [1, 4])
def test_hours_are_used_and_kept(hours: float, num_workers: int, tmp_path: Path) -> None:
    budget = make_budget(tmp_path, "SEARCH.BUDGET_HOURS", str(hours), num_workers=num_workers)
    numbers, spent = spend(budget, [10.0, 60.0, 200.0])
    assert 0.7 * hours < spent <= hours
    assert numbers == sorted(numbers, reverse=True)


def test_without_hours_the_numbers_are_the_config_s(tmp_path: Path) -> None:
    opts = ("SEARCH.NUM_TRIALS", "30", "SEARCH.DETECTOR.NUM_CANDIDATES", "[5,2]")
    assert spend(make_budget(tmp_path, *opts), [10.0, 60.0, 200.0])[0] == [30, 5, 2]


def test_slow_first_rung_leaves_less_for_the_others(tmp_path: Path) -> None:
    numbers = []
    for spent in (100.0, 5000.0):
        folder = tmp_path / str(spent)
        folder.mkdir()
        budget = make_budget(folder, "SEARCH.BUDGET_HOURS", "2")
        budget.begin([10.0, 60.0, 200.0])
        budget.choose(0)
        budget.end_rung(0, spent, 80.0)
        numbers.append(budget.choose(1))
    assert numbers[0] > numbers[1] >= 1


def test_plan_is_kept_and_other_hours_are_refused(tmp_path: Path) -> None:
    budget = make_budget(tmp_path, "SEARCH.BUDGET_HOURS", "2")
    budget.begin([10.0, 60.0, 200.0])
    first = budget.choose(0)
    again = make_budget(tmp_path, "SEARCH.BUDGET_HOURS", "2")
    assert (again.plan, again.choose(0)) == (budget.plan, first)
    with pytest.raises(ConfigError, match=r"SEARCH.BUDGET_HOURS: the search in .* planned for 2"):
        make_budget(tmp_path, "SEARCH.BUDGET_HOURS", "3")
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(FileError, match="can't be read as the plan of a search"):
        make_budget(tmp_path, "SEARCH.BUDGET_HOURS", "2")


def test_hours_for_less_than_one_child_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SEARCH.BUDGET_HOURS: wanted at least 0.15.*got 0.1"):
        make_budget(tmp_path, "SEARCH.BUDGET_HOURS", "0.1").begin([10.0, 60.0, 200.0])
    assert not (tmp_path / "plan.json").exists()
