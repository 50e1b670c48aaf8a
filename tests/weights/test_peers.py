"""Networks as published against timm's, Cadene's and Keras's: equal logits and features.

`make test-peers` installs these. The weights are random, the images real.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import run_command
from weight_files import get_weights, make_random, write_keras_file

from nasnet_det.cli.main import main
from nasnet_det.data.picture_files import find_pictures
from nasnet_det.weights import ConvertedWeights, convert_weights, verification, write_weights
from nasnet_det.weights.classifier import ORIGINS, export_weights
from nasnet_det.weights.peers import build_ours, build_peer, compare, run_ours

pytestmark = pytest.mark.peers

os.environ.setdefault("KERAS_BACKEND", "jax")
MODULES = {"timm": "timm", "cadene": "pretrainedmodels", "keras": "keras"}
TIMM_SIZES = [(224, 224), (299, 299), (320, 320), (331, 331), (333, 333), (480, 640), (800, 800)]
CASES = [
    ("cadene", "nasnet_a_mobile", (224, 224)),
    ("keras", "nasnet_a_mobile", (224, 224)),
    ("keras", "nasnet_a_mobile", (299, 331)),
    ("keras", "nasnet_a_large", (331, 331)),
    # Cadene's strides are laid out for the native size; 299 has the same parities.
    *[("cadene", v, (n, n)) for v in ("nasnet_a_large", "pnasnet_5_large") for n in (299, 331)],
    *[("timm", v, size) for v in ("nasnet_a_large", "pnasnet_5_large") for size in TIMM_SIZES],
]


@functools.lru_cache(maxsize=1)
def _publish(variant: str, peer: str) -> ConvertedWeights:
    """Random weights, as if the peer had published them."""
    torch.manual_seed(0)
    weights = get_weights(make_random(variant, 1000))
    return convert_weights(
        export_weights(weights, ORIGINS[peer][0], variant), origin=peer, variant=variant
    )


@pytest.fixture(scope="session")
def pictures(reference_data: Path) -> list[Path]:
    return find_pictures([str(reference_data / "coco_small" / "val2017")])


@pytest.mark.parametrize(("peer", "variant", "size"), CASES, ids=str)
def test_published_network_equals_its_publishers(
    peer: str, variant: str, size: tuple[int, int], pictures: list[Path]
) -> None:
    pytest.importorskip(MODULES[peer])
    converted = _publish(variant, peer)
    image = verification._read_image(pictures[0], size)
    wanted = build_peer(peer, converted, size)(image)
    assert list(wanted) == ["stem", "c2", "c3", "c4", "c5", "logits"]
    for name, tensor in wanted.items():
        assert tensor.std() > 1e-3, f"{name}: the comparison is one of numbers that differ"
    differences = compare(run_ours(build_ours(converted, peer), image), wanted)
    print(peer, variant, size, {name: f"{value:.1e}" for name, value in differences.items()})
    assert all(math.isfinite(value) for value in differences.values())
    assert max(differences.values()) < 1e-5, differences


def test_tool_compares_two_pictures_with_cadenes(pictures: list[Path], tmp_path: Path) -> None:
    pytest.importorskip(MODULES["cadene"])
    converted = _publish("nasnet_a_mobile", "cadene")
    write_weights(str(tmp_path / "w.safetensors"), converted.weights, converted.metadata)
    done = run_command(
        "verify-weights", "w.safetensors", "--against", "cadene", "--images", *pictures[:2],
        cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *lines, last = done.stdout.splitlines()
    assert first.startswith("nasnet_a_mobile of cadene against cadene: 2 images of 224x224")
    assert [line.split()[0] for line in lines] == ["stem", "c2", "c3", "c4", "c5", "logits"]
    assert last == "equal within 1e-05"


def test_headless_weights_of_keras_have_equal_features(
    pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(MODULES["keras"])
    weights = get_weights(make_random("nasnet_a_mobile", 1000))
    theirs = export_weights(weights, "keras", "nasnet_a_mobile")
    headless = {name: t for name, t in theirs.items() if not name.startswith("predictions/")}
    write_keras_file(tmp_path / "w.h5", headless, whole_model=False)
    arguments = [str(tmp_path / "w.h5"), "--against", "keras", "--images", str(pictures[1])]
    assert main(["verify-weights", *arguments, "--size", "96"]) == 0
    assert "logits" not in capsys.readouterr().out


@pytest.mark.parametrize("is_cached", [True, False])
def test_hub_of_timm_without_a_network(is_cached: bool, tmp_path: Path) -> None:
    """The hub's own library and its cache, in a process that may reach nothing."""
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "hf" / "hub" / "models--timm--pnasnet5large.tf_in1k"
    if is_cached:
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0123abc")
        file = folder / "snapshots" / "0123abc" / "model.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"no weights")
    done = subprocess.run(
        [sys.executable, "-c",
         "from nasnet_det.weights import fetch_published as f; f('pnasnet_5_large.timm')"],
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1",
             "NASNET_DET_CACHE": str(tmp_path / "cache"), "TORCH_HOME": str(tmp_path / "torch")},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    *_, last = done.stderr.splitlines()
    if is_cached:
        assert last.endswith("model.safetensors is truncated or no file of weights")
    else:
        assert "nasnet://pnasnet_5_large.timm: timm/pnasnet5large.tf_in1k can't be had" in last
        assert "get it from https://huggingface.co/timm/pnasnet5large.tf_in1k" in last
