"""Does what a search sees rank architectures as long training does? On random children.

    python benchmarks/ranking.py --data cifar10.npz

The architectures are children of the study ``random_0`` in results/search_cifar10.json: these are
sorted by their reward and cut into as many equal strata as are wanted, and one is drawn from each.
Each is trained on three rungs: half of the reward's epochs, the reward itself, and --steps of long
training. A rung is a training of its own, with the recipe of search/cifar10_cpu.yaml, its cosine,
and random numbers that no other has. KEY VALUE at the end change the config.

What orders the architectures is compared with the mean of the long trainings' seeds: the short
rungs, the study's own reward, measures of untrained networks, and the predictor, fitted to 50 of
the study's other children. Intervals are those of drawing the architectures again (bootstrap).

After each training its accuracy is added to ranking.json in --results, and the analysis, the table
(.md) and the plot (.svg) are made anew, of the architectures that are complete. Started again, it
goes on where it was; a training that was killed begins again. --output is for one run at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ranking_analysis import RUNGS, analyse, draw, list_seeds, read_decisions, to_markdown
from trainings import describe_machine
from zero_cost import STUDY

from nasnet_det.drawing.figure_file import save_figure
from nasnet_det.report.front.ranks import FEWEST
from nasnet_det.runs.files import write_content, write_json
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.runs.study_results import Study, read_studies
from nasnet_det.search.assemble import build_source
from nasnet_det.search.child import RECIPE_VERSION, ChildRecipe, ChildTrainer, train_child
from nasnet_det.search.config import get_search_config
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.local_processes import LocalProcesses
from nasnet_det.search.recipe import build_recipe
from nasnet_det.search.streams import Stream
from nasnet_det.search.zero_cost import ZeroCostMeasures

RESULTS = Path(__file__).resolve().parent / "results"
CONFIG = "search/cifar10_cpu.yaml"


class Run(NamedTuple):
    """One training."""

    child: int
    seed: int
    rung: str


@dataclass
class RungTrainer(ChildTrainer):
    """Trains children of several rungs. A result's seconds are those that its process computed.

    Attributes:
        recipes: of the jobs, by number.
    """

    recipes: Sequence[ChildRecipe] = ()

    def __call__(self, job: ChildJob, device: str) -> ChildResult:
        """See :class:`ChildTrainer`."""
        start = time.process_time()
        recipe = self.recipes[job.number]
        result = train_child(job, recipe, self.space, self.load(device), device=device)
        return replace(result, seconds=time.process_time() - start)


def main() -> int:
    """Train what is missing, and write the JSON, the table and the plot."""
    options = parse_arguments()
    try:
        with lock_folder(options.output, "benchmark", wait=True):
            report, trainer = open_report(options)
            write_report(report, options.results)
            done = {Run(row["child"], row["seed"], row["rung"]) for row in report["runs"]}
            runs = [run for run in list_runs(report) if run not in done]
            for row in train(runs, report, trainer, options.parallel):
                report["runs"].append(row)
                write_report(report, options.results)
                print(describe_progress(report), flush=True)
    except (ValueError, OSError) as error:
        print(f"ranking.py: {error}", file=sys.stderr)
        return 1
    print(to_markdown(report), end="")
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What a search sees beside long training.")
    parser.add_argument("--data", required=True, metavar="FILE", help="as of SEARCH.DATA.PATH")
    parser.add_argument("--architectures", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000, help="of long training, in whole epochs")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time, a core each")
    parser.add_argument("--studies", type=Path, default=RESULTS / "search_cifar10.json")
    parser.add_argument("--output", type=Path, default=Path("output/ranking"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=f"beside those of {CONFIG}")
    options = parser.parse_args(arguments)
    for name in ("seeds", "parallel"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: wanted at least 1, got {getattr(options, name)}")
    return options


# ---- The trainings


def choose(rewards: Sequence[float], number: int) -> list[int]:
    """Places of rewards, one drawn from each of so many strata of neighbours, in random order.

    Raises:
        ValueError: there are fewer rewards than strata, or too few strata for an order.
    """
    if not FEWEST <= number <= len(rewards):
        raise ValueError(
            f"--architectures: wanted {FEWEST} to {len(rewards)}, as many as the study's children "
            f"with a reward of their own, got {number}"
        )
    rng = np.random.default_rng(0)
    strata = np.array_split(np.argsort(rewards, kind="stable"), number)
    return [int(place) for place in rng.permutation([rng.choice(stratum) for stratum in strata])]


def open_report(options: argparse.Namespace) -> tuple[dict[str, Any], RungTrainer]:
    """The JSON of an earlier start, or a new one, with measures of untrained children.

    Raises:
        ValueError: it has other trainings, the data can't be used, or there is no such study.
    """
    cfg = get_search_config(CONFIG, ["SEARCH.DATA.PATH", options.data, *options.opts])
    study = find_study(options.studies)
    children = [child for child in study.complete if child.duplicate_of is None]
    recipe = build_recipe(cfg)
    trainer = RungTrainer(recipe, study.space, build_source(cfg), carries_images=True)
    data = trainer.load()
    steps_per_epoch = max(1, len(data.train.labels) // recipe.batch_size)
    rewards = {str(c.number): c.reward for c in children if c.reward is not None}  # all have one
    space = study.space
    made_of = {
        "chosen": [
            children[place].number
            for place in choose(list(rewards.values()), options.architectures)
        ],
        "children": {str(child.number): child.decisions for child in children},
        "space": [space.num_blocks, list(space.operations), list(space.combiners)],
        "recipe": {**asdict(recipe), "version": RECIPE_VERSION},
        "epochs": count_epochs(recipe.epochs, options.steps, steps_per_epoch),
        "steps_per_epoch": steps_per_epoch,
        "seeds": options.seeds,
        "data": data.checksum(),
    }
    path = options.results / "ranking.json"
    if path.is_file():
        report: dict[str, Any] = json.loads(path.read_text())
        other = [key for key, value in made_of.items() if report["made_of"].get(key) != value]
        if other:
            raise ValueError(
                f"{path} has results of other trainings ({', '.join(other)}); remove it, or name "
                "another folder with --results"
            )
        return report, trainer
    print(f"measuring {len(children)} untrained children", flush=True)
    size = {"image_size": data.image_size, "num_classes": data.num_classes}
    measure = ZeroCostMeasures(recipe, space, **size)
    measures = {n: measure(read_decisions(d)).tolist() for n, d in made_of["children"].items()}
    found = {"machine": describe_machine(), "rewards": rewards, "measures": measures, "runs": []}
    options.results.mkdir(parents=True, exist_ok=True)
    return {"made_of": made_of, **found}, trainer


def count_epochs(reward: int, steps: int, steps_per_epoch: int) -> dict[str, int]:
    """Of each rung; the long one has at least so many steps.

    Raises:
        ValueError: the long training is none.
    """
    epochs = {"short": max(1, reward // 2), "reward": reward, "long": -(-steps // steps_per_epoch)}
    if epochs["long"] <= reward:
        least = reward * steps_per_epoch
        raise ValueError(f"--steps: wanted more than the {least} of a reward, got {steps}")
    return epochs


def find_study(path: Path) -> Study:
    """The study of random children.

    Raises:
        ValueError: the file has none.
    """
    studies = {study.folder: study for study in read_studies(path)}
    if STUDY not in studies:
        raise ValueError(f"{path}: wanted a study {STUDY!r}, got {', '.join(studies)}")
    return studies[STUDY]


def list_runs(report: dict[str, Any]) -> list[Run]:
    """All trainings; after each architecture's last one it is complete."""
    chosen, seeds = report["made_of"]["chosen"], list_seeds(report)
    return [Run(child, seed, rung) for child in chosen for seed in seeds for rung in RUNGS]


def seed_of(run: Run) -> int:
    """Of a training; no other has it."""
    return derive_seed(run.seed, Stream.CHILD, run.child, RUNGS.index(run.rung))


def train(
    runs: Sequence[Run], report: dict[str, Any], trainer: RungTrainer, parallel: int
) -> Iterator[dict[str, Any]]:
    """Rows of the JSON, as the trainings end.

    Raises:
        ValueError: no worker can be started.
    """
    made_of = report["made_of"]
    recipes = {rung: replace(trainer.recipe, epochs=made_of["epochs"][rung]) for rung in RUNGS}
    jobs = [
        ChildJob(number, read_decisions(made_of["children"][str(run.child)]), seed_of(run))
        for number, run in enumerate(runs)
    ]
    trainer = replace(trainer, recipes=[recipes[run.rung] for run in runs])
    executor = LocalProcesses(trainer, ["cpu"] * parallel)
    try:
        for result in executor.run(jobs):
            row = {**runs[result.number]._asdict(), "accuracy": result.reward}
            failure = {"failure": result.failure} if result.failure else {}
            yield {**row, "seconds": round(result.seconds, 2), **failure}
    finally:
        executor.close()


# ---- What is written


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write the JSON, the table and the plot."""
    report["analysis"] = analyse(report)
    write_json(folder / "ranking.json", report)
    write_content(folder / "ranking.md", to_markdown(report))
    save_figure(draw(report), folder / "ranking.svg", title="What a search sees and long training")


def describe_progress(report: dict[str, Any]) -> str:
    """A line about the training that has just ended."""
    row, number = report["runs"][-1], len(list_runs(report))
    what = row.get("failure") or f"accuracy {row['accuracy']:.4f} in {row['seconds']:.0f} s"
    run = f"child {row['child']}, {row['rung']}, seed {row['seed']}"
    return f"{len(report['runs'])} of {number}: {run}: {what}"


if __name__ == "__main__":
    sys.exit(main())
