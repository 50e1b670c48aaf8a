"""Where a study is kept: an SQL database or a journal file, both Optuna's; reading one at once.

Optuna's own reading makes an object of each of the 50 decisions of each trial, and copies these
again for a study in memory. With 20,000 trials that is minutes and gigabytes. Here decisions with
the same choices share one description of them, and a copy shares what never changes.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nasnet_det.errors import InputError

_LOCK_WAIT_S = 60  # SQLite's: how long a writer waits for another, such as a dashboard
_JOURNAL = "journal:///"


class StudyError(InputError):
    """A storage that can't be used, or a study that is not the one that was meant."""


def open_storage(url: str) -> BaseStorage:
    """The storage behind a URL.

    Args:
        url: of SQLAlchemy, such as ``sqlite:///search.db`` or ``postgresql+psycopg://user@host/name``;
            or ``journal:///search.log`` for Optuna's journal file, which one search writes.

    Raises:
        StudyError: it can't be reached, its driver is missing, or it would not outlive the search.
    """
    if _is_in_memory(url):
        raise StudyError(
            f"SEARCH.STUDY.STORAGE: wanted a storage that outlives the search, got {url!r}, which "
            "lies in memory; give sqlite:///FILE, or nothing for OUTPUT_DIR/study.db"
        )
    try:
        if url.startswith(_JOURNAL):
            return _open_journal_file(url.removeprefix(_JOURNAL))
        options = {"timeout": _LOCK_WAIT_S} if url.startswith("sqlite") else {}
        engine = {"connect_args": options, "pool_pre_ping": True}  # a server may have restarted
        return RDBStorage(url, engine_kwargs=engine)
    except (
        *(SQLAlchemyError, StorageInternalError),
        *(OSError, ImportError, ValueError, RuntimeError),
    ) as error:
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        advice = "" if "://" in url else f"; a file is sqlite:///{url} or journal:///{url}"
        raise StudyError(
            f"SEARCH.STUDY.STORAGE: {_hide_password(url)} can't be used ({reason[0]}){advice}"
        ) from error


def _open_journal_file(path: str) -> JournalStorage:
    if os.path.exists(path):
        _cut_torn_line(path)
    return JournalStorage(JournalFileBackend(path))


def _cut_torn_line(path: str) -> None:
    """A kill may leave half a line, and Optuna would write the next one behind it."""
    with open(path, "rb+") as file:
        file.seek(max(0, os.path.getsize(path) - 2**20))
        start, end = file.tell(), file.read()
        if not end.endswith(b"\n"):
            file.truncate(start + end.rfind(b"\n") + 1)


def name_storage(storage: BaseStorage) -> str:
    """Its URL, without a password."""
    if isinstance(storage, JournalStorage):
        assert isinstance(storage._backend, JournalFileBackend)
        return _JOURNAL + storage._backend._file_path
    assert isinstance(storage, RDBStorage)
    return _hide_password(storage.url)


def close_storage(storage: BaseStorage) -> None:
    """Let go of it."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _is_in_memory(url: str) -> bool:
    try:
        parts = make_url(url)
    except (SQLAlchemyError, ValueError):
        return False  # whoever opens it says what is wrong
    if parts.get_backend_name() != "sqlite":
        return False
    return parts.database in (None, "", ":memory:") or parts.query.get("mode") == "memory"


def _hide_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return repr(url)


# ---- Reading all trials


class SharingTrial(FrozenTrial):
    """A trial whose copies share its decisions, which never change."""

    def __deepcopy__(self, memo: dict[int, Any]) -> SharingTrial:
        trial = copy.copy(self)
        trial._user_attrs, trial._system_attrs = dict(self.user_attrs), dict(self.system_attrs)
        trial.intermediate_values = dict(self.intermediate_values)
        return trial


def read_trials(storage: BaseStorage, study_id: int) -> list[FrozenTrial]:
    """All trials of a study, by number."""
    if isinstance(storage, RDBStorage):
        return _read_tables(storage, study_id)
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return [_share(copy.copy(trial)) for trial in trials]


def _share(trial: FrozenTrial) -> SharingTrial:
    trial.__class__ = SharingTrial
    return copy.deepcopy(trial)  # type: ignore[return-value]


def _read_tables(storage: RDBStorage, study_id: int) -> list[FrozenTrial]:
    trial, param, value = models.TrialModel, models.TrialParamModel, models.TrialValueModel
    user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    step = models.TrialIntermediateValueModel
    to_value, to_step = value.stored_repr_to_value, step.stored_repr_to_intermediate_value
    with storage.engine.connect() as connection:

        def read(model: Any, *columns: Any, order: Any) -> Iterator[Any]:
            query = select(model.trial_id, *columns).order_by(model.trial_id, order)
            if model is not trial:
                query = query.join(trial, trial.trial_id == model.trial_id)
            query = query.where(trial.study_id == study_id)
            return iter(connection.execution_options(yield_per=10_000).execute(query))

        times = (trial._datetime_start_utc, trial._datetime_complete_utc)
        trials: dict[int, FrozenTrial] = {
            trial_id: SharingTrial(
                number, state, None, _to_local(start), _to_local(end), {}, {}, {}, {}, {}, trial_id
            )
            for trial_id, number, state, start, end in read(
                trial, trial.number, trial.state, *times, order=trial.number
            )
        }
        columns = (param.param_name, param.param_value, param.distribution_json)
        shared: dict[Any, dict[str, BaseDistribution]] = {}
        for trial_id, rows in groupby(read(param, *columns, order=param.param_id), itemgetter(0)):
            params, distributions = trials[trial_id]._params, {}
            for _, name, number, text in rows:
                name, distribution = sys.intern(name), _parse_distribution(text)
                params[name] = distribution.to_external_repr(number)
                distributions[name] = distribution
            key = tuple((name, id(one)) for name, one in distributions.items())
            trials[trial_id]._distributions = shared.setdefault(key, distributions)
        for trial_id, _, number, kind in read(
            value, value.objective, value.value, value.value_type, order=value.objective
        ):
            trials[trial_id].values = [*(trials[trial_id].values or ()), to_value(number, kind)]
        for trial_id, epoch, number, kind in read(
            step, step.step, step.intermediate_value, step.intermediate_value_type, order=step.step
        ):
            trials[trial_id].intermediate_values[epoch] = to_step(number, kind)
        for model, name in ((user, "_user_attrs"), (system, "_system_attrs")):
            for trial_id, key, text in read(model, model.key, model.value_json, order=model.key):
                getattr(trials[trial_id], name)[sys.intern(key)] = json.loads(text)
    return sorted(trials.values(), key=lambda one: one.number)


@lru_cache(maxsize=1000)
def _parse_distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _to_local(time: datetime | None) -> datetime | None:
    """Tables have UTC without saying so, and trials local time likewise."""
    return time and time.replace(tzinfo=timezone.utc).astimezone().replace(tzinfo=None)
