"""Do the samplers find better cells than random draws do? Judged by long training.

    python benchmarks/samplers.py --data cifar10.npz

Each sampler searches with each seed, by search/cifar10_cpu.yaml; KEY VALUE at the end change it.
The predictor also measures untrained networks, for which it gets fewer children
(--predictor-children); core-hours are those of the children's training. Then the five children with
the best rewards are trained anew for --steps, and the mean of their accuracies is what the search
reached. It is compared with what random draws reached with the same seed.

After each search its study is added to samplers.json in --results, and the table (.md) is made
anew. Started again, it goes on where it was: a search that was killed is resumed, and results of
other settings are refused. --parallel 2 runs two searches at a time, each on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from trainings import PACKAGE, run_logged

from nasnet_det.errors import InputError
from nasnet_det.runs.files import write_content
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.study_results import Study, read_studies, save_studies
from nasnet_det.search.assemble import build_source, get_identity
from nasnet_det.search.child import RECIPE_VERSION
from nasnet_det.search.config import get_search_config
from nasnet_det.search.data import load_child_data
from nasnet_det.search.results import collect_results

RESULTS = Path(__file__).resolve().parent / "results"
CONFIG = "search/cifar10_cpu.yaml"
RANDOM = "random"
SAMPLERS = ("predictor", "controller", RANDOM)
NUM_BEST = 5


class Row(NamedTuple):
    """What the searches of a sampler reached.

    Attributes:
        sampler: its name.
        reached: mean accuracy of the best after long training, by seed.
        gains: over random draws with the same seed.
        hours: of one core, in which the children of all its searches were trained.
    """

    sampler: str
    reached: dict[int, float]
    gains: list[float]
    hours: float


def main() -> int:
    """Search what is missing, and write the JSON and the table."""
    options = parse_arguments()
    path = options.results / "samplers.json"
    try:
        with lock_folder(options.output, "benchmark", wait=True) as lock:
            options.results.mkdir(parents=True, exist_ok=True)
            studies = read_studies(path) if path.is_file() else []
            check(studies, options, path)
            done = {(study.sampler, study.seed) for study in studies}
            tasks = [
                (sampler, seed)
                for seed in range(1, options.seeds + 1)
                for sampler in SAMPLERS
                if (sampler, seed) not in done
            ]
            with ThreadPoolExecutor(options.parallel) as pool:
                futures = [pool.submit(search, *task, options, lock) for task in tasks]
                try:
                    for future in as_completed(futures):
                        studies.append(future.result())
                        save_studies(studies, path)
                        write_content(path.with_suffix(".md"), to_markdown(studies))
                        print(f"{studies[-1].title}: {len(studies)} searches done", flush=True)
                finally:
                    pool.shutdown(cancel_futures=True)
    except (ValueError, OSError) as error:
        print(f"samplers.py: {error}", file=sys.stderr)
        return 1
    print(to_markdown(studies), end="")
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Samplers beside random draws.")
    parser.add_argument("--data", required=True, metavar="FILE", help="as of SEARCH.DATA.PATH")
    parser.add_argument("--children", type=int, default=100, help="of a search")
    parser.add_argument("--predictor-children", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="of long training, in whole epochs")
    parser.add_argument("--parallel", type=int, default=1, help="searches at a time, a core each")
    parser.add_argument("--output", type=Path, default=Path("output/samplers"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=f"beside those of {CONFIG}")
    return parser.parse_args(arguments)


def list_settings(sampler: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """What a search's config has beside that of CONFIG."""
    node = get_search_config(CONFIG, options.opts).SEARCH
    steps_per_epoch = max(1, node.DATA.NUM_TRAIN // node.CHILD.BATCH_SIZE)
    return {
        "SEARCH.DATA.PATH": options.data,
        "SEARCH.SAMPLER.NAME": sampler,
        "SEARCH.SEED": seed,
        "SEARCH.NUM_TRIALS": (
            options.predictor_children if sampler == "predictor" else options.children
        ),
        "SEARCH.RETRAIN.NUM_BEST": NUM_BEST,
        "SEARCH.RETRAIN.EPOCHS": -(-options.steps // steps_per_epoch),
        "SEARCH.EXECUTOR.NAME": "in_process",
        "SEARCH.EXECUTOR.DEVICE": "cpu",
    }


def check(studies: Sequence[Study], options: argparse.Namespace, path: Path) -> None:
    """See that earlier searches were what is asked for now.

    Raises:
        ValueError: one was not, or the data can't be used.
    """
    for study in studies:
        settings = list_settings(study.sampler, study.seed, options)
        words = [str(word) for pair in settings.items() for word in pair]
        cfg = get_search_config(CONFIG, [*options.opts, *words])
        data = load_child_data(build_source(cfg)).checksum()  # the seed decides the split
        identity = {**get_identity(cfg), "data": data, "recipe": RECIPE_VERSION}
        wanted = json.loads(json.dumps(identity))
        other = [key for key, value in wanted.items() if study.config.get(key) != value]
        epochs = "SEARCH.CHILD.EPOCHS"
        longer = study.retraining.get(epochs, study.config.get(epochs))
        other += ["SEARCH.NUM_TRIALS"] * (study.num_trials != settings["SEARCH.NUM_TRIALS"])
        other += ["SEARCH.RETRAIN.EPOCHS"] * (longer != settings["SEARCH.RETRAIN.EPOCHS"])
        if other:
            raise ValueError(
                f"{path}: wanted results of the same settings, got others of {study.title} "
                f"({', '.join(other)}); remove it and {options.output}, or name others with "
                "--results and --output"
            )


def search(sampler: str, seed: int, options: argparse.Namespace, lock: int) -> Study:
    """Search and train the best anew, or go on with it.

    Raises:
        InputError: the search failed, the message has its last line; or none of the best could be
            trained anew.
    """
    folder = options.output / f"{sampler}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    values = {**list_settings(sampler, seed, options), "OUTPUT_DIR": folder}
    command = [*PACKAGE, "search", "--resume", "--config-file", CONFIG, *options.opts]
    log, name = folder / "output.txt", f"{sampler}, seed {seed}"
    run_logged(command, values, log, name=name, pass_fds=[lock])
    study = collect_results(folder)
    if not study.retrained:
        raise InputError(f"{name}: none of the best was trained anew to the end (see {log})")
    return study


def compare(studies: Sequence[Study]) -> Iterator[Row]:
    """A row for each sampler that has searched."""
    reached = {
        (study.sampler, study.seed): fmean(c.retrained or 0.0 for c in study.retrained)
        for study in studies
    }
    for sampler in SAMPLERS:
        own = {seed: value for (name, seed), value in sorted(reached.items()) if name == sampler}
        if own:
            gains = [v - reached[RANDOM, s] for s, v in own.items() if (RANDOM, s) in reached]
            children = [c for study in studies if study.sampler == sampler for c in study.children]
            yield Row(sampler, own, gains, sum(c.seconds or 0.0 for c in children) / 3600)


def to_markdown(studies: Sequence[Study]) -> str:
    """The table; a gain stands with the standard error of its mean."""
    lines = [
        "| sampler | accuracy of the best five | each seed | gain over random | core-hours |",
        "|---|---|---|---|---|",
    ]
    for row in compare(studies):
        values = list(row.reached.values())
        gain = ""
        if row.sampler != RANDOM and len(row.gains) > 1:
            error = stdev(row.gains) / len(row.gains) ** 0.5
            gain = f"{100 * fmean(row.gains):+.2f} ± {100 * error:.2f}"
        seeds = ", ".join(f"{100 * value:.2f}" for value in values)
        lines.append(
            f"| {row.sampler} | {100 * fmean(values):.2f} | {seeds} | {gain} | {row.hours:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
