"""The command that compares networks: what it prints, and its mistakes. No peer is needed here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pictures import write_class
from weight_files import get_weights, make_random

from nasnet_det.cli.main import main
from nasnet_det.weights import convert_weights, verification, write_weights
from nasnet_det.weights.classifier import export_weights
from nasnet_det.weights.peers import build_ours, compare, run_ours


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    theirs = export_weights(
        get_weights(make_random("nasnet_a_mobile", 5)), "torch", "nasnet_a_mobile"
    )
    converted = convert_weights(theirs)
    path = str(tmp_path_factory.mktemp("weights") / "w.pth")
    write_weights(path, converted.weights, converted.metadata)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    return str(write_class(tmp_path, [(255, 0, 0), (0, 0, 255)], (50, 40)))


@pytest.mark.parametrize(
    ("wrong", "status"), [({}, 0), ({"c4": 1.001}, 1), ({"logits": float("nan")}, 1)], ids=str
)
def test_largest_difference_of_every_output_is_printed(
    wrong: dict[str, float], status: int, weights: str, pictures: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The peer is ours, wrong in one output of the first picture."""
    seen: list[tuple[int, ...]] = []

    def build(peer: str, converted: Any, size: tuple[int, int]) -> Any:
        model = build_ours(converted, peer)

        def run(image: torch.Tensor) -> dict[str, torch.Tensor]:
            factors = {} if seen else wrong
            seen.append(tuple(image.shape))
            assert image.min() >= -1
            assert image.max() <= 1
            return {k: v * factors.get(k, 1) for k, v in run_ours(model, image).items()}

        return run

    monkeypatch.setattr(verification, "build_peer", build)
    arguments = [weights, "--against", "keras", "--images", pictures, "--size", "64", "75"]
    assert main(["verify-weights", *arguments]) == status
    assert seen == [(1, 3, 64, 75)] * 2
    out, err = capsys.readouterr()
    first, *lines = out.splitlines()
    assert first == (
        "nasnet_a_mobile of cadene against keras: 2 images of 64x75, largest relative differences:"
    )
    values = {name: float(value) for name, value in (line.split() for line in lines[:6])}
    assert list(values) == ["stem", "c2", "c3", "c4", "c5", "logits"]
    for name, value in values.items():
        assert (value == 0) == (name not in wrong), name
    if status:
        (name,) = wrong
        assert err.splitlines()[-1] == (
            f"nasnet-det verify-weights: the networks differ by more than 1e-05 in {name}"
        )
    else:
        assert lines[6:] == ["equal within 1e-05"]


def test_difference_is_relative_to_the_largest_value() -> None:
    wanted = {"c2": torch.tensor([4.0, -8.0]), "logits": torch.tensor([1.0])}
    found = {"c2": torch.tensor([4.0, -7.0]), "logits": torch.tensor([1.0])}
    assert compare(found, wanted) == {"c2": 0.125, "logits": 0.0}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--against", "timm"], "timm has no nasnet_a_mobile: wanted weights of nasnet_a_large or"),
        (["--against", "keras"], "the comparison with keras needs keras: pip install 'nasnet-det[peers]'"),
        (["--against", "cadene"], "the comparison with cadene needs pretrainedmodels: pip install"),
        (["--against", "keras", "--images", "absent"], "no such picture or folder: absent"),
    ],
)  # fmt: skip
def test_mistake_is_one_sentence(
    arguments: list[str], told: str, weights: str, pictures: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for module in ("keras", "pretrainedmodels", "pretrainedmodels.models"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["verify-weights", weights, "--images", pictures, *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"nasnet-det verify-weights: {told}")
    assert err.count("\n") == 1


def test_picture_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png can't be read as a picture"):
        verification._read_image(tmp_path / "broken.png", (32, 32))
