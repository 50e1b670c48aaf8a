"""The record of a search: an Optuna study in a storage, written so that a kill harms nothing.

A trial is written twice: when it is asked for (state RUNNING, with all its parameters in one
transaction) and when its result is known. So a RUNNING trial of a search that was killed is a
child to be trained again, under its number. Optuna's dashboard and other tools read it all.

What a trial says beside its parameters, as user attributes: ``key`` (the canonical form of the
architecture), ``params`` and ``macs``, ``seed``, ``seconds``, ``failure``, ``duplicate_of``. With a
pruner, intermediate values are the accuracies after each epoch, and a pruned trial is PRUNED. The
study's user attribute ``update.<k>`` is what the controller's update after minibatch k did.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

import nasnet_det
from nasnet_det.search.job import Curve
from nasnet_det.search.storage import (
    SharingTrial,
    StudyError,
    close_storage,
    name_storage,
    read_trials,
)

_ATTRIBUTE = "search"
"""The study's user attribute that says what it is."""
_FOLDER = "folder"
"""The one that says whose it is, ``host:OUTPUT_DIR``."""
_UPDATE = "update."
"""What the study's user attributes of the controller's updates begin with."""


class Journal:
    """One study in a storage.

    Args:
        storage: see :func:`~nasnet_det.search.storage.open_storage`.
        name: of the study.
        directions: of its goals.
        identity: everything that decides the results: config keys and values, as JSON has them.
        defaults: values of the keys that an older study does not name.
        resume: go on with a study that has trials, instead of refusing it.
        remedy: what to do about a study that is another one.
        folder: OUTPUT_DIR, where the storage is not in it: another folder's search is refused.

    Attributes:
        name, identity: see above.
        trials: all trials by number, kept up to date.
        updates: what the controller's updates did, by number.

    Raises:
        StudyError: there is a study of this name that differs, or has trials without ``resume``.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        directions: Sequence[StudyDirection],
        identity: Mapping[str, Any],
        defaults: Mapping[str, Any],
        resume: bool,
        remedy: str = "give another SEARCH.STUDY.NAME",
        folder: Path | None = None,
    ) -> None:
        self.storage, self.name, self.identity = storage, name, dict(identity)
        url = name_storage(storage)
        try:
            self._study_id = storage.get_study_id_from_name(name)
        except KeyError:
            self._study_id = storage.create_new_study(list(directions), name)
        attributes = storage.get_study_user_attrs(self._study_id)
        recorded = attributes.get(_ATTRIBUTE)
        trials = read_trials(storage, self._study_id)
        if recorded is None and not trials:  # new, or killed before it said what it is
            content = {"version": nasnet_det.__version__, "config": dict(identity)}
            storage.set_study_user_attr(self._study_id, _ATTRIBUTE, content)
        elif recorded is None:
            raise StudyError(f"study {name!r} in {url} was not made by this search; {remedy}")
        else:
            faults = compare(recorded["config"], identity, defaults)
            if faults:
                raise StudyError(f"study {name!r} in {url} has {', '.join(faults)}; {remedy}")
        if folder is not None:
            self._claim(folder, attributes.get(_FOLDER), url)
        if trials and not resume:
            raise StudyError(
                f"study {name!r} in {url} has {len(trials)} trials already; resume it "
                f"(--resume), or {remedy}"
            )
        self.trials = {trial.number: trial for trial in trials}
        self.updates: dict[int, dict[str, float]] = {
            int(key.removeprefix(_UPDATE)): value
            for key, value in attributes.items()
            if key.startswith(_UPDATE)
        }

    def _claim(self, folder: Path, owner: str | None, url: str) -> None:
        """Two folders that write into one study spoil each other's children."""
        us = f"{socket.gethostname()}:{folder.resolve()}"
        host, _, path = (owner or us).partition(":")
        is_gone = host == socket.gethostname() and not Path(path).exists()
        if path != str(folder.resolve()) and not is_gone:  # one drive has many hosts
            raise StudyError(
                f"study {self.name!r} in {url} is that of OUTPUT_DIR {path} on {host}; give that "
                "one, or another SEARCH.STUDY.NAME"
            )
        if owner != us:
            self.storage.set_study_user_attr(self._study_id, _FOLDER, us)

    def ask(
        self,
        number: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        *,
        attributes: Mapping[str, Any],
        system_attributes: Mapping[str, Any],
    ) -> None:
        """Write a trial that is to be trained, in one transaction.

        Raises:
            StudyError: another process writes trials into this study.
        """
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
            system_attrs=dict(system_attributes),
        )
        trial_id = self.storage.create_new_trial(self._study_id, template)
        template.number = self.storage.get_trial_number_from_id(trial_id)
        if template.number != number:
            raise StudyError(
                f"study {self.name!r}: wanted to write trial {number}, got number "
                f"{template.number}: another search writes into it"
            )
        template._trial_id = trial_id
        template.__class__ = SharingTrial
        self.trials[number] = template

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        curve: Curve | None = None,
    ) -> None:
        """Write a trial's result; without values it has failed.

        Args:
            number: of the trial.
            values: one for each goal.
            attributes: user attributes.
            curve: how it went, where that is recorded.
        """
        trial = self.trials[number]
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(trial._trial_id, key, value)
            trial.user_attrs[key] = value
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        if curve:
            for epoch, accuracy in enumerate(curve.accuracies, start=1):
                self.storage.set_trial_intermediate_value(trial._trial_id, epoch, accuracy)
                trial.intermediate_values[epoch] = accuracy
            if not curve.is_complete:
                state = TrialState.PRUNED
                assert trial.last_step is not None
                # Optuna's rule. A kill between these writes may have left more steps than now.
                values = [trial.intermediate_values[trial.last_step]]
        self.storage.set_trial_state_values(trial._trial_id, state, values)
        trial.state, trial.values = state, values

    def write_update(self, number: int, stats: Mapping[str, float]) -> None:
        """Write what an update of the controller did; one that is made again writes the same."""
        self.storage.set_study_user_attr(self._study_id, f"{_UPDATE}{number}", dict(stats))
        self.updates[number] = dict(stats)

    def close(self) -> None:
        """Let go of the storage."""
        close_storage(self.storage)


def compare(
    recorded: Mapping[str, Any], wanted: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    """Where two configs differ, each as ``KEY <recorded> instead of <wanted>``."""
    before = {**defaults, **recorded}
    return [
        f"{key} {before.get(key)!r} instead of {value!r}"
        for key, value in wanted.items()
        if before.get(key) != value
    ]


def read_config(storage: BaseStorage, name: str) -> dict[str, Any]:
    """The config that a study was begun with; empty where a search has not begun it."""
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        return {}
    return storage.get_study_user_attrs(study_id).get(_ATTRIBUTE, {}).get("config", {})


def read_study(storage: BaseStorage, name: str) -> tuple[dict[str, Any], list[FrozenTrial]]:
    """What a search wrote, without touching it: ``version`` and ``config``, and its trials.

    Raises:
        StudyError: there is no study of this name, or it was not made by a search.
    """
    url = name_storage(storage)
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        raise StudyError(f"there is no study {name!r} in {url}") from None
    recorded = storage.get_study_user_attrs(study_id).get(_ATTRIBUTE)
    if recorded is None:
        raise StudyError(f"study {name!r} in {url} was not made by this search")
    return recorded, read_trials(storage, study_id)


def silence_optuna() -> None:
    """Warnings only: Optuna would say a line for each study that is made."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
