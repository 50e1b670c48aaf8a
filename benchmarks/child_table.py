"""A table of random children and what they reach, so that samplers are compared in seconds.

    python benchmarks/child_table.py --data cifar10.npz --parallel 2

The children are the first different networks that random draws give. Each is trained once by the
recipe of search/cifar10_cpu.yaml, but for 4 epochs, and its accuracy is noted after 1, 2 and 4: the
three fidelities. Sizes and measures of the untrained network stand beside them. KEY VALUE at the
end change the config.

child_table.json in --results gets a row after each training. Started again, it goes on where it
was. A training takes about a minute of one core; --parallel 2 trains two at a time.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainings import describe_machine

from nasnet_det.runs.files import write_content
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.runs.study_results import write_decisions
from nasnet_det.search.assemble import build_source
from nasnet_det.search.child import RECIPE_VERSION, ChildTrainer, build_child
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.local_processes import LocalProcesses
from nasnet_det.search.recipe import build_recipe
from nasnet_det.search.size import measure_size
from nasnet_det.search.streams import Stream
from nasnet_det.search.zero_cost import MEASURES, ZeroCostMeasures
from nasnet_det.space import Choices, SearchSpace

RESULTS = Path(__file__).resolve().parent / "results"
CONFIG = "search/cifar10_cpu.yaml"
EPOCHS = (1, 2, 4)
COLUMNS = ("decisions", "params", "macs", "accuracies", "seconds", "measures")


@dataclass(frozen=True)
class Watched:
    """What makes a child tell its accuracy after each epoch, and ends none."""

    def is_hopeless(self, accuracies: Sequence[float]) -> bool:
        """Never."""
        return False


def main() -> int:
    """Train what is missing, and write the table."""
    options = parse_arguments()
    path = options.results / "child_table.json"
    try:
        options.results.mkdir(parents=True, exist_ok=True)
        with lock_folder(options.results, "benchmark", wait=True):
            fill(path, options)
    except (ValueError, OSError) as error:
        print(f"child_table.py: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A table of random children.")
    parser.add_argument("--data", required=True, metavar="FILE", help="as of SEARCH.DATA.PATH")
    parser.add_argument("--children", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time, a core each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=f"beside those of {CONFIG}")
    return parser.parse_args(arguments)


def fill(path: Path, options: argparse.Namespace) -> None:
    """Add the rows that are missing.

    Raises:
        ValueError: the table is of another recipe, or the data can't be used.
    """
    cfg = get_search_config(CONFIG, ["SEARCH.DATA.PATH", options.data, *options.opts])
    space, recipe = build_space(cfg), replace(build_recipe(cfg), epochs=EPOCHS[-1])
    trainer = ChildTrainer(recipe, space, build_source(cfg), carries_images=True)
    data = trainer.load()
    table: dict[str, Any] = {
        "recipe": {**asdict(recipe), "version": RECIPE_VERSION},
        "space": [space.num_blocks, list(space.operations), list(space.combiners)],
        "data": data.checksum(),
        "epochs": list(EPOCHS),
        "measures": list(MEASURES),
        "machine": describe_machine(),
        "columns": list(COLUMNS),
        "rows": [],
    }
    if path.is_file():
        old = json.loads(path.read_text())
        other = [key for key in ("recipe", "space", "data") if old[key] != table[key]]
        if other:
            raise ValueError(f"{path} is of another {' and '.join(other)}; remove it to begin anew")
        table = old
    known = {row[0] for row in table["rows"]}
    size, classes = data.image_size, data.num_classes
    measure = ZeroCostMeasures(recipe, space, image_size=size, num_classes=classes)
    jobs = [
        ChildJob(number, choices, derive_seed(0, Stream.CHILD, number), comparison=Watched())
        for number, choices in enumerate(draw(space, options.children))
        if write_decisions(choices) not in known
    ]
    by_number = {job.number: job.choices for job in jobs}
    executor = LocalProcesses(trainer, ["cpu"] * options.parallel)
    try:
        for result in executor.run(jobs):
            choices = by_number[result.number]
            model = build_child(recipe, space, choices, image_size=size, num_classes=classes)
            row = [
                write_decisions(choices),
                *measure_size(model, size),
                list_accuracies(result),
                round(result.seconds, 1),
                [float(f"{value:.5g}") for value in measure(choices)],
            ]
            table["rows"].append(row)
            write_content(path, write(table))
            print(f"{len(table['rows'])} of {options.children}: {row[3]}", flush=True)
    finally:
        executor.close()


def draw(space: SearchSpace, number: int) -> list[Choices]:
    """So many random lists of decisions, each of another network.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 < number <= space.count_architectures():
        raise ValueError(
            f"--children: wanted 1 to {space.count_architectures()}, as many as the space has, got "
            f"{number}"
        )
    rng, found = random.Random(0), dict[Choices, Choices]()
    while len(found) < number:
        choices = space.sample(rng)
        found.setdefault(space.canonicalize(choices), choices)
    return list(found.values())


def list_accuracies(result: ChildResult) -> list[float] | None:
    """After each of EPOCHS; None of a child that failed."""
    if result.curve is None:
        return None
    return [round(result.curve.accuracies[epoch - 1], 4) for epoch in EPOCHS]


def write(table: dict[str, Any]) -> str:
    """The JSON, one line a row."""
    head = json.dumps({**table, "rows": []}, indent=1).rstrip()
    rows = ",\n".join("  " + json.dumps(row) for row in table["rows"])
    return head.removesuffix('"rows": []\n}') + f'"rows": [\n{rows}\n ]\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
