"""What a search hands on: the best architecture as a genotype file that says where it came from."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

import nasnet_det
from nasnet_det.genotype import Genotype
from nasnet_det.search.journal import Journal
from nasnet_det.search.space import SearchSpace
from nasnet_det.search.trials import params_to_choices


def find_best(journal: Journal) -> FrozenTrial | None:
    """The trial of the highest accuracy, the first of equal ones; None if all failed."""
    done = [t for t in journal.trials.values() if t.state is TrialState.COMPLETE]
    return max(done, key=lambda t: (t.values[0], -t.number), default=None)


def make_genotype(
    cfg: CfgNode, journal: Journal, space: SearchSpace, trial: FrozenTrial
) -> Genotype:
    """A trial's architecture, with its provenance."""
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
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    name = f"{journal.name}_{trial.number}"
    return Genotype(architecture.normal, architecture.reduction, name, provenance)
