"""What a search hands on: the best as genotype files that say where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

import nasnet_det
from nasnet_det.genotype import Genotype
from nasnet_det.search.journal import Journal
from nasnet_det.search.study import GOALS
from nasnet_det.search.trials import params_to_choices
from nasnet_det.space import SearchSpace


def find_best(journal: Journal) -> FrozenTrial | None:
    """The trial of the highest accuracy, the first of equal ones; None if there is none."""
    return next(iter(find_best_trials(journal, 1)), None)


def find_best_trials(journal: Journal, number: int) -> list[FrozenTrial]:
    """The trials of the highest accuracies, the best first, each of another architecture.

    None of them failed or was pruned. Of equal ones the first comes first.
    """
    done = [t for t in journal.trials.values() if t.state is TrialState.COMPLETE]
    first_of_key: dict[str, FrozenTrial] = {}
    for trial in sorted(done, key=lambda t: (-t.values[0], t.number)):
        first_of_key.setdefault(trial.user_attrs["key"], trial)
    return list(first_of_key.values())[:number]


def find_front(journal: Journal, goals: Sequence[str]) -> list[FrozenTrial]:
    """The trials that no other beats in all goals, the most accurate first.

    Each is of another architecture; none of them failed or was pruned.

    Args:
        journal: of the search.
        goals: of :data:`~nasnet_det.search.study.GOALS`, in the order of the trials' values.
    """
    signs = [-1 if GOALS[goal] is StudyDirection.MAXIMIZE else 1 for goal in goals]
    costs = {
        trial.number: tuple(s * v for s, v in zip(signs, trial.values, strict=True))
        for trial in find_best_trials(journal, len(journal.trials))
    }
    front: list[int] = []
    for number in sorted(costs, key=lambda n: (costs[n], n)):
        if not any(_is_better(costs[other], costs[number]) for other in front):
            front.append(number)
    return [journal.trials[number] for number in front]


def _is_better(costs: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """In one goal, and in no other worse."""
    return costs != other and all(a <= b for a, b in zip(costs, other, strict=True))


def write_front(folder: Path, cfg: CfgNode, journal: Journal, space: SearchSpace) -> list[Path]:
    """A genotype file for each trial of :func:`find_front`; those of an older front are removed."""
    paths = []
    for trial in find_front(journal, cfg.SEARCH.GOALS):
        paths.append(folder / f"genotype_{trial.number}.json")
        folder.mkdir(exist_ok=True)
        make_genotype(cfg, journal, space, trial).save(paths[-1])
    for path in set(folder.glob("genotype_*.json")) - set(paths):
        path.unlink()
    return paths


def make_genotype(
    cfg: CfgNode,
    journal: Journal,
    space: SearchSpace,
    trial: FrozenTrial,
    retrained: Mapping[str, Any] | None = None,
) -> Genotype:
    """A trial's architecture, with its provenance.

    Args:
        cfg, journal, space: of the search.
        trial: of the search.
        retrained: what became of it when it was retrained; None: it was not.
    """
    architecture = space.decode(params_to_choices(space, trial.params))
    keys = ("params", "macs", "seed", "seconds", "duplicate_of")
    provenance: dict[str, Any] = {
        "study": journal.name,
        "trial": trial.number,
        "reward": trial.values[0],
        "goals": dict(zip(cfg.SEARCH.GOALS, trial.values, strict=True)),
        "num_trials": sum(t.state.is_finished() for t in journal.trials.values()),
        "child": {key: trial.user_attrs[key] for key in keys if key in trial.user_attrs},
        "seed": cfg.SEARCH.SEED,
        "config": journal.identity,
        "versions": {"nasnet_det": nasnet_det.__version__, "torch": str(torch.__version__)},
        **({"retrained": dict(retrained)} if retrained else {}),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    name = f"{journal.name}_{trial.number}"
    return Genotype(architecture.normal, architecture.reduction, name, provenance)
