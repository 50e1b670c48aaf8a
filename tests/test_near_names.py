"""What a wrong name may have meant."""

from __future__ import annotations

import pytest

from nasnet_det.near_names import nearest, nearest_of_many


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("NASNetALarge", "nasnet_a_large"),
        ("nasnet_a_larg", "nasnet_a_large"),
        ("nasnet-a-mobile", "nasnet_a_mobile"),
        ("resnet50", ""),
        ("efficientnet", ""),
        ("pretrained", ""),
    ],
)
def test_only_a_near_name_is_meant(name: str, wanted: str) -> None:
    told = nearest(name, ["nasnet_a_large", "nasnet_a_mobile", "pnasnet_5_large"])
    assert told.startswith(f"did you mean '{wanted}'? (valid: " if wanted else "valid: ")


def test_many_names_are_not_listed() -> None:
    names = ["SOLVER.BASE_LR", "SOLVER.MAX_ITER"]
    assert nearest_of_many("SOLVER.BASELR", names) == "did you mean 'SOLVER.BASE_LR'?"
    assert nearest_of_many("zzz", names) == "and none is like it"
