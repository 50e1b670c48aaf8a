"""benchmarks/child_table.py: its children, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from tiny_search import TINY_BENCHMARK, write_images

from benchmarks import child_table as benchmark
from nasnet_det.search.assemble import build_source
from nasnet_det.search.child import train_child
from nasnet_det.search.config import get_search_config
from nasnet_det.search.data import load_child_data
from nasnet_det.search.job import ChildJob
from nasnet_det.search.recipe import build_recipe
from nasnet_det.space import SearchSpace


def test_children_are_different_networks_and_always_the_same() -> None:
    space = SearchSpace(1, ("identity", "conv_1x1"), ("add",))
    number = space.count_architectures()
    children = benchmark.draw(space, number)
    assert len({space.canonicalize(choices) for choices in children}) == number
    assert benchmark.draw(space, 5) == children[:5]
    with pytest.raises(
        ValueError, match=rf"^--children: wanted 1 to {number}, .*, got {number + 1}$"
    ):
        benchmark.draw(space, number + 1)


@pytest.mark.slow
def test_a_small_table_grows(repository: Path, tmp_path: Path) -> None:
    """Its accuracies are those of the child training with the config's recipe."""
    data = write_images(tmp_path / "images.npz")
    words = ["--data", data, "--results", str(tmp_path / "results")]
    env = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}

    def call(number: int, *opts: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "benchmarks/child_table.py", *words, "--children", str(number)]
        command += [*TINY_BENCHMARK, *opts]
        return subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, check=False
        )

    for number in (1, 3):
        done = call(number)
        assert done.returncode == 0, done.stderr
        table = json.loads((tmp_path / "results" / "child_table.json").read_text())
        assert len(table["rows"]) == number
    assert done.stdout.count("of 3:") == 2, "the first was there"
    cfg = get_search_config(benchmark.CONFIG, ["SEARCH.DATA.PATH", data, *TINY_BENCHMARK])
    space = SearchSpace(*table["space"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    choices = benchmark.draw(space, 3)
    assert [row["decisions"] for row in rows] == [benchmark.write_decisions(c) for c in choices]
    recipe = benchmark.replace(build_recipe(cfg), epochs=4)
    seed = benchmark.derive_seed(0, benchmark.Stream.CHILD, 2)
    job = ChildJob(2, choices[2], seed)
    result = train_child(job, recipe, space, load_child_data(build_source(cfg)))
    assert rows[2]["accuracies"][-1] == round(result.reward or 0.0, 4)
    assert all(len(row["accuracies"]) == 3 and len(row["measures"]) == 7 for row in rows)
    refused = call(4, "SEARCH.CHILD.LR", "0.2")
    assert refused.returncode == 1
    assert "child_table.json is of another recipe; remove it to begin anew" in refused.stderr
