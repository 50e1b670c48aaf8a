"""The storage of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.study import StudyDirection

from nasnet_det.search.journal import StudyError, open_storage


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
