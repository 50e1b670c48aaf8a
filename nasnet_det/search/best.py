"""What a search hands on: the best architecture as a genotype file that says where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

import nasnet_det
from nasnet_det.genotype import Genotype
from nasnet_det.search.journal import Journal
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
