"""The storage of a study: what is read is what was written, quickly; whose it is."""

from __future__ import annotations

import copy
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from planted_search import search

from nasnet_det.search.storage import StudyError, name_storage, open_storage, read_trials


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:study?mode=memory&cache=shared&uri=true"],
)
def test_study_that_would_be_gone_with_the_process_is_refused(url: str) -> None:
    with pytest.raises(StudyError, match=r"STORAGE: wanted a storage that outlives the search"):
        open_storage(url)


def test_study_in_a_file_is_taken(tmp_path: Path) -> None:
    open_storage(f"sqlite:///{tmp_path / 'study.db'}").create_new_study([StudyDirection.MAXIMIZE])
    assert (tmp_path / "study.db").stat().st_size


# ---- Reading


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_trials_are_read_as_optuna_reads_them(scheme: str, tmp_path: Path) -> None:
    storage = open_storage(f"{scheme}:///{tmp_path / 'study'}")
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    other = optuna.create_study(storage=storage, study_name="other")
    one, two = CategoricalDistribution((0, 1, 2)), CategoricalDistribution(("a", "b"))
    for number in range(6):
        study.add_trial(
            create_trial(
                state=(TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING)[number % 3],
                values=None if number % 3 else [number / 7, float("inf")],
                params={"x": number % 3, **({"y": "b"} if number > 2 else {})},
                distributions={"x": one, **({"y": two} if number > 2 else {})},
                user_attrs={"list": [1, {"number": number}], "é": None},
                system_attrs={"system": number},
                intermediate_values={} if number % 2 else {3: 0.5, 1: float("nan"), 2: 1 / 3},
            )
        )
        other.add_trial(create_trial(value=1.0))
    study_id = study._study_id
    found, wanted = read_trials(storage, study_id), storage.get_all_trials(study_id)
    names = wanted[0].__dict__
    for ours, theirs in zip(found, wanted, strict=True):
        assert repr({name: getattr(ours, name) for name in names if name != "_user_attrs"}) == repr(
            {name: getattr(theirs, name) for name in names if name != "_user_attrs"}
        )
        assert ours.user_attrs == theirs.user_attrs
    twin = copy.deepcopy(found[0])
    twin.user_attrs["more"], twin.intermediate_values[9] = 1, 1.0
    assert "more" not in found[0].user_attrs
    assert 9 not in found[0].intermediate_values
    assert twin.distributions is found[0].distributions, "what never changes is there once"


# ---- Optuna's journal file


def test_search_in_a_journal_file_is_that_in_a_database(tmp_path: Path) -> None:
    wanted = search(tmp_path / "plain")
    url = ("SEARCH.STUDY.STORAGE", f"journal:///{tmp_path / 'study.log'}")
    search(tmp_path / "file", *url, "SEARCH.NUM_TRIALS", "10")
    with open(tmp_path / "study.log", "ab") as file:
        file.write(b'{"op_code": 4, "worker_i')  # a kill in the middle of a line
    assert search(tmp_path / "file", *url, resume=True) == wanted
    assert name_storage(open_storage(url[1])) == url[1]


def test_journal_file_that_can_not_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"journal:///.*can't be used \(.*No such file"):
        open_storage(f"journal:///{tmp_path / 'none' / 'study.log'}")


# ---- Two folders


def test_study_of_another_folder_is_refused_before_any_training(tmp_path: Path) -> None:
    storage = ("SEARCH.STUDY.STORAGE", f"sqlite:///{tmp_path / 'shared.db'}")
    search(tmp_path / "one", *storage, "SEARCH.NUM_TRIALS", "6")
    place = tmp_path / "one"
    for resume in (False, True):
        with pytest.raises(StudyError, match=f"is that of OUTPUT_DIR {place} on .*; give that one"):
            search(tmp_path / "two", *storage, resume=resume)
        assert not (tmp_path / "two" / "log").exists()
    search(tmp_path / "two", *storage, "SEARCH.STUDY.NAME", "mine", "SEARCH.NUM_TRIALS", "1")
    place.rename(tmp_path / "moved")
    found = search(tmp_path / "moved", *storage, resume=True)
    assert found == search(tmp_path / "plain")
