"""``nasnet://``: the file is found, converted once, and what is missing is told."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detection import Payload
from weight_files import get_weights, make_random, write_keras_file, write_torch_file

from nasnet_det.network import NASNet
from nasnet_det.weights import (
    CheckpointError,
    ConvertedWeights,
    WeightsError,
    fetch_published,
    load_published,
)
from nasnet_det.weights import published as published_module
from nasnet_det.weights.classifier import ORIGINS, export_weights
from nasnet_det.weights.naming import SCHEMES
from nasnet_det.weights.published import PUBLISHED

NAME = "nasnet_a_mobile.cadene"
LARGE = "nasnet_a_large.timm"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and homes of the other libraries with nothing in them."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("NASNET_DET_CACHE", str(folder))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return folder


@pytest.fixture(scope="module")
def network() -> NASNet:
    torch.manual_seed(0)
    return make_random("nasnet_a_mobile", 1000)


@pytest.fixture
def no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what does not depend on it: a file's tensors are taken as they are."""

    def take(path: str, **_: str) -> ConvertedWeights:
        return ConvertedWeights(torch.load(path), {"num_classes": 1000, "source": path})

    monkeypatch.setattr(published_module, "convert_file", take)


def _publish(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tensors: dict[str, torch.Tensor] | None = None,
    *,
    name: str = NAME,
) -> Path:
    """Put a file into a folder, under the name that the table is made to have."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_torch_file(folder, "nasnetamobile", tensors or {"w": torch.rand(1000)})
    entry = dataclasses.replace(PUBLISHED[name], names=(path.name,))
    monkeypatch.setitem(published_module.PUBLISHED, name, entry)
    return path


def _in_cadenes_form(network: NASNet) -> dict[str, torch.Tensor]:
    return export_weights(get_weights(network), "torch", "nasnet_a_mobile")


def test_every_name_is_a_network_and_who_published_it() -> None:
    for name, entry in PUBLISHED.items():
        variant, origin = name.split(".")
        scheme = ORIGINS["tf_slim" if origin == "tf_detection" else origin][0]
        assert any(variant in s.variants for s in SCHEMES if s.name == scheme), name
        assert entry.url.startswith("http"), name


def test_published_file_is_converted(
    cache: Path, network: NASNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _publish(cache, monkeypatch, _in_cadenes_form(network))
    path = Path(fetch_published(f"nasnet://{NAME}"))
    content = torch.load(path, weights_only=True)
    wanted = get_weights(network)
    assert content["model"].keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(content["model"][name], tensor), name
    assert content["nasnet_det"]["sha256"][:8] == source.stem[-8:]
    first = path.read_bytes()
    path.unlink()
    assert Path(fetch_published(NAME)).read_bytes() == first, "the same bytes each time"


@pytest.mark.parametrize("place", ["cache", "hub/checkpoints"])
@pytest.mark.usefixtures("no_conversion")
def test_file_is_found_and_converted_once(
    place: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _publish(cache.parent / place, monkeypatch)
    path = fetch_published(f"nasnet://{NAME}")
    assert Path(path).parent == cache / "converted"
    assert Path(path).name.startswith(f"{NAME}-{source.stem[-8:]}")
    assert load_published(path).metadata["source"] == str(source)
    written = Path(path).stat().st_mtime_ns
    assert fetch_published(NAME) == path, "nasnet:// may be left out"
    assert Path(path).stat().st_mtime_ns == written, "it is not converted again"
    source.unlink()
    other = _publish(cache.parent / place, monkeypatch)
    assert load_published(f"nasnet://{NAME}").metadata["source"] == str(other), "its bytes count"


def test_keras_own_folder_is_looked_into(cache: Path, network: NASNet) -> None:
    folder = cache.parent / "keras" / "models"
    folder.mkdir(parents=True)
    theirs = export_weights(get_weights(network), "keras", "nasnet_a_mobile")
    write_keras_file(folder / "nasnet_mobile.h5", theirs, whole_model=False)
    converted = load_published("nasnet://nasnet_a_mobile.keras")
    assert converted.metadata["pool_padding"] == "keras"
    assert converted.metadata["source"] == "nasnet_mobile.h5"
    assert torch.equal(converted.weights["classifier.bias"], network.classifier.bias)


@pytest.mark.usefixtures("no_conversion")
def test_path_stands_for_a_published_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _publish(cache.parent / "elsewhere", monkeypatch)
    path = fetch_published(f"nasnet://{source}")
    for found in (path, str(source)):
        assert torch.equal(load_published(found).weights["w"], torch.load(source)["w"])
    assert fetch_published(f"nasnet:{source}") == path, "as Python's urlunparse writes it"
    monkeypatch.chdir(source.parent)
    assert fetch_published(f"nasnet://{source.name}") == path


def test_origin_of_the_name_decides_on_the_pools(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm's and Cadene's files of the large network have the same names."""
    asked: dict[str, Any] = {}

    def convert(path: str, **options: Any) -> Any:
        asked.update(options)
        raise WeightsError("enough")

    monkeypatch.setattr(published_module, "convert_file", convert)
    (cache / "model.pth").write_bytes(b"")
    entry = dataclasses.replace(PUBLISHED[LARGE], names=("model.pth",))
    monkeypatch.setitem(published_module.PUBLISHED, LARGE, entry)
    with pytest.raises(WeightsError, match="enough"):
        fetch_published(LARGE)
    assert asked == {"origin": "timm", "variant": "nasnet_a_large"}


@pytest.mark.usefixtures("no_conversion")
def test_file_from_the_hub_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _publish(cache.parent / "hf", monkeypatch)
    entry = dataclasses.replace(PUBLISHED[NAME], names=("absent.pth",), hub="timm/some.tf_in1k")
    monkeypatch.setitem(published_module.PUBLISHED, NAME, entry)
    asked = []

    def download(*arguments: str, **options: str) -> str:
        asked.append(arguments)
        return str(source)

    _fake_hub(monkeypatch, download)
    assert load_published(f"nasnet://{NAME}").metadata["source"] == str(source)
    assert asked == [("timm/some.tf_in1k", "model.safetensors")]


def _fake_hub(monkeypatch: pytest.MonkeyPatch, download: Any) -> None:
    module: Any = types.ModuleType("huggingface_hub")
    module.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


# ---- Mistakes


def test_no_network_is_one_sentence_that_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: str, **__: str) -> str:
        raise ConnectionError("Name or service not known\n(retried 5 times)")

    _fake_hub(monkeypatch, download)
    with pytest.raises(WeightsError) as info:
        fetch_published(f"nasnet://{LARGE}")
    assert str(info.value) == (
        "nasnet://nasnet_a_large.timm: timm/nasnetalarge.tf_in1k can't be had from the hub (Name "
        "or service not known (retried 5 times)), and nasnetalarge-dc4a7b8b.pth is in none of the "
        f"folders {cache}, {cache.parent}/hub/checkpoints, and is not downloaded "
        f"(NASNET_DET_OFFLINE is set): get it from {PUBLISHED[LARGE].url} and put it there under that name, or let NASNET_DET_CACHE name "
        "its folder"
    )


def test_missing_library_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"\(that needs timm: pip install timm\)"):
        fetch_published(LARGE)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.endswith(".timm")])
def test_missing_file_is_named_with_its_address(name: str, cache: Path) -> None:
    with pytest.raises(WeightsError) as info:
        fetch_published(name)
    for part in (f"nasnet://{name}: ", PUBLISHED[name].names[0], str(cache), PUBLISHED[name].url):
        assert part in str(info.value)
    assert "\n" not in str(info.value)


def test_unknown_name_names_the_nearest(cache: Path) -> None:
    with pytest.raises(WeightsError, match="did you mean 'nasnet_a_mobile.keras'"):
        fetch_published("nasnet://nasnet_mobile.keras")


def test_damaged_download_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _publish(cache, monkeypatch)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # inside a tensor: torch.load would not notice
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{path} is damaged: its SHA-256 begins with"):
        fetch_published(NAME)
    assert not list(cache.rglob("converted/*.pth"))


def test_head_must_have_imagenets_classes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = _in_cadenes_form(make_random("nasnet_a_mobile", 10))
    path = _publish(cache, monkeypatch, theirs)
    told = f"{path} is not the published file nasnet://{NAME}: wanted 1000 classes, got 10"
    with pytest.raises(WeightsError, match=f"^{told}$"):
        fetch_published(NAME)


def test_published_file_that_runs_code_is_refused(cache: Path, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    torch.save({"conv0.conv.weight": Payload(mark)}, path)
    for name, told in (
        (path, "is refused: it holds Python objects"),
        (tmp_path / "t.pth", "is trunc"),
    ):
        (tmp_path / "t.pth").write_bytes(path.read_bytes()[:300])
        with pytest.raises(CheckpointError, match=f"^{name} {told}"):
            fetch_published(f"nasnet://{name}")
    assert not mark.exists()
    assert not list(cache.rglob("*.pth"))
    torch.load(path, weights_only=False)
    assert mark.exists(), "the payload works where nobody stops it"


def test_file_of_another_network_is_told(
    cache: Path, network: NASNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(cache, monkeypatch, _in_cadenes_form(network), name=LARGE)
    with pytest.raises(WeightsError, match="these are no weights of nasnet_a_large in the form of"):
        fetch_published(LARGE)


@pytest.mark.usefixtures("no_conversion")
def test_folder_that_can_not_be_written_is_one_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(cache, monkeypatch)
    (cache / "converted").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="NASNET_DET_CACHE names another folder"):
        fetch_published(NAME)
