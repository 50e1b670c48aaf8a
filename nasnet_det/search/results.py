"""A search's results as plain values, which reports read without Optuna or the storage.

They are what the journal says of every child, and the config that decided it; no images and no
weights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

from nasnet_det.published_cells import load_genotype
from nasnet_det.runs.study_results import Child, Study, write_decisions
from nasnet_det.search.assemble import get_identity
from nasnet_det.search.config import get_search_config
from nasnet_det.search.journal import read_study
from nasnet_det.search.storage import StudyError, close_storage, open_storage
from nasnet_det.search.trials import params_to_choices
from nasnet_det.space import SearchSpace

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "pruned",
}


def collect_results(folder: str | os.PathLike[str]) -> Study:
    """The results in the ``OUTPUT_DIR`` of a search, which may still be running.

    Raises:
        StudyError: there is no study.
        ConfigError: its config can't be read.
        ResultsError: no child was trained to the end yet.
    """
    folder = Path(folder)
    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise StudyError(
            f"{folder} holds no search: wanted config.yaml and study.db in it, the OUTPUT_DIR of "
            "nasnet-det search"
        )
    cfg = get_search_config(str(config_file))
    database = folder / "study.db"
    if not cfg.SEARCH.STUDY.STORAGE and not database.is_file():
        raise StudyError(f"{folder} holds no search: it has a config.yaml, but no study.db")
    storage = open_storage(cfg.SEARCH.STUDY.STORAGE or f"sqlite:///{database}")
    try:
        recorded, trials = read_study(storage, cfg.SEARCH.STUDY.NAME)
        longer, retrained = _read_retraining(storage, cfg)
    finally:
        close_storage(storage)
    accuracies = {t.user_attrs["searched_as"]: t.value for t in retrained}
    config = {**get_identity(get_search_config()), **recorded["config"]}
    space = SearchSpace(
        config["SEARCH.SPACE.NUM_BLOCKS"],
        tuple(config["SEARCH.SPACE.OPERATIONS"]),
        tuple(config["SEARCH.SPACE.COMBINERS"]),
    )
    study = Study(
        name=cfg.SEARCH.STUDY.NAME,
        folder=folder.resolve().name,
        num_trials=cfg.SEARCH.NUM_TRIALS,
        config=config,
        versions={**_read_versions(folder), "nasnet_det": recorded["version"]},
        children=tuple(_make_child(t, space, accuracies.get(t.number)) for t in trials),
        retraining={key: value for key, value in longer.items() if config.get(key) != value},
        retraining_failures={
            str(t.user_attrs["searched_as"]): t.user_attrs["failure"]
            for t in retrained
            if t.state is TrialState.FAIL
        },
    )
    return study.check(str(folder))


def _read_retraining(
    storage: BaseStorage, cfg: CfgNode
) -> tuple[dict[str, Any], list[FrozenTrial]]:
    """The config of the retraining after a search, and its finished trials; empty without one."""
    name = f"{cfg.SEARCH.STUDY.NAME}.{cfg.SEARCH.RETRAIN.NAME}"
    if name not in [study.study_name for study in storage.get_all_studies()]:
        return {}, []
    recorded, trials = read_study(storage, name)
    return recorded["config"], [trial for trial in trials if trial.state.is_finished()]


def _read_versions(folder: Path) -> dict[str, str]:
    """The versions in ``genotype.json``, which a search writes with its first reward."""
    path = folder / "genotype.json"
    return load_genotype(path).provenance.get("versions", {}) if path.is_file() else {}


def _make_child(trial: FrozenTrial, space: SearchSpace, retrained: float | None) -> Child:
    attributes = trial.user_attrs
    seconds = attributes.get("seconds")
    return Child(
        number=trial.number,
        state=_STATES.get(trial.state, "running"),
        decisions=write_decisions(params_to_choices(space, trial.params)),
        reward=trial.values[0] if trial.values else None,
        params=attributes.get("params"),
        macs=attributes.get("macs"),
        seconds=None if seconds is None else round(seconds, 2),
        failure=attributes.get("failure"),
        duplicate_of=attributes.get("duplicate_of"),
        retrained=retrained,
    )
