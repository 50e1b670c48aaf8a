"""Every planted defect is found with its file and ids; of the clean sets nothing else is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from planted_defects import PLANTED, Copy, Json, copy_sets, link_real_sets, make_tiny_sets

from nasnet_det.doctor import DataFiles, Level, examine_datasets
from nasnet_det.doctor.findings import Examination

# What else is true once a defect is planted: kinds of further findings.
FOLLOWS = {
    "a name has other capitals": {"unlisted_picture"},
    "a box lies outside": {"clipped_box"},
    "a picture has 100 boxes": {"near_duplicate_box", "two_classes", "long_tail"},
    "a box has two classes": {"few_objects"},
    "a picture is listed twice": {"near_duplicate_box"},
    "a class has no objects": {"class_without_objects"},
    "a class is rare": {"class_without_objects", "long_tail"},
    "a class has two names": {"class_without_objects", "alike_names", "two_classes", "long_tail"},
    "a picture is turned": {"broken_picture"},
    "a smaller picture is in val too": {"near_leak"},
    "a picture is copied": {"duplicate"},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Json, Path]]:
    return make_tiny_sets(tmp_path_factory.mktemp("tiny"))


def examine(sets: Copy) -> Sequence[Examination]:
    sets.write()
    files = [
        DataFiles(f"{sets.folder / split}.json", str(sets.folder / split), split == "train")
        for split in ("train", "val")
    ]
    return examine_datasets(files)


def check_defect(name: str, sets: Copy, clean: Sequence[Examination]) -> None:
    """Plant a defect, and compare what is found with what the clean sets have."""
    split, kind, ids = PLANTED[name](sets)
    known = {
        (i, f.kind, repr(key)) for i, e in enumerate(clean) for f in e.findings for key in f.ids
    }
    number = ("train", "val").index(split)
    examinations = examine(sets)
    mine = [f for f in examinations[number].findings if f.kind == kind]
    assert len(mine) >= 1, f"{kind} is found"
    found = [key for f in mine for key in f.ids if (number, kind, repr(key)) not in known]
    assert sorted(map(repr, found)) == sorted(map(repr, ids))
    assert all(f.file == f"{sets.folder / split}.json" for f in mine)
    is_known = {(i, f.kind) for i, e in enumerate(clean) for f in e.findings}
    new = {
        f.kind
        for i, e in enumerate(examinations)
        for f in e.findings
        if (i, f.kind) not in is_known
    }
    assert new - {kind} <= FOLLOWS.get(name, set())


def test_clean_set_has_no_finding(tiny: dict[str, tuple[Json, Path]], tmp_path: Path) -> None:
    examinations = examine(copy_sets(tmp_path, tiny))
    assert [e.findings for e in examinations] == [(), ()]
    facts = examinations[0].facts
    assert (facts["pictures"], facts["boxes that count"], facts["classes"]) == (6, 24, 2)
    assert facts["boxes of each class"] == {"cat": 12, "dog": 12}
    assert examinations[0].worst is None


@pytest.mark.parametrize("name", PLANTED)
def test_defect_is_found(name: str, tiny: dict[str, tuple[Json, Path]], tmp_path: Path) -> None:
    check_defect(name, copy_sets(tmp_path, tiny), [])


@pytest.mark.slow
@pytest.mark.parametrize("data", ["bccd", "coco_small"])
def test_defects_are_found_in_real_data(data: str, reference_data: Path, tmp_path: Path) -> None:
    sets = link_real_sets(reference_data, data)
    clean = examine(copy_sets(tmp_path / "clean", sets))
    assert not [f for e in clean for f in e.findings if f.level == Level.ERROR]
    faults = {}
    for number, name in enumerate(PLANTED):
        try:
            check_defect(name, copy_sets(tmp_path / str(number), sets), clean)
        except AssertionError as error:
            faults[name] = str(error)
    assert not faults
