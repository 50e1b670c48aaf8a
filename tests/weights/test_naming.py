"""The names of published checkpoints: complete, each once, and those that the sources print."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import keras_names
import numpy as np
import pytest
import torch
from torch import nn

from nasnet_det.network import NASNet, create_model
from nasnet_det.weights import convert_weights
from nasnet_det.weights.matching import match_names
from nasnet_det.weights.naming import SCHEMES, Scheme, their_names

SHARD_START = 20_971_520
CASES = [(scheme, variant) for scheme in SCHEMES for variant in scheme.variants]


def _find(scheme_name: str, variant: str) -> Scheme:
    return next(s for s in SCHEMES if s.name == scheme_name and variant in s.variants)


@functools.cache
def _meta(variant: str, **options: Any) -> NASNet:
    with torch.device("meta"):
        return create_model(variant, **options)


def _name_all(scheme_name: str, variant: str, **options: Any) -> dict[str, str]:
    return their_names(_find(scheme_name, variant), _meta(variant, **options))


@pytest.mark.parametrize(("scheme", "variant"), CASES)
def test_every_tensor_has_a_name_of_its_own(scheme: Scheme, variant: str) -> None:
    model = _meta(variant)
    names = their_names(scheme, model)
    ours = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(names) == ours
    assert len(set(names.values())) == len(ours)


@pytest.mark.parametrize(
    ("variant", "num_keys"), [("nasnet_a_large", 1810), ("nasnet_a_mobile", 1318)]
)
def test_torch_has_as_many_keys_as_are_published(variant: str, num_keys: int) -> None:
    """The published counts are of state dicts, with one counter for each normalization."""
    names = _name_all("torch", variant)
    assert len(names) + sum(name.endswith(".running_var") for name in names) == num_keys


def test_keras_large_has_as_many_parameters_as_are_published() -> None:
    model = _meta("nasnet_a_large")
    names = their_names(_find("keras", "nasnet_a_large"), model)
    state = model.state_dict()
    assert sum(state[name].numel() for name in names) == 88_949_818


@pytest.mark.parametrize(
    ("scheme", "variant", "ours", "theirs"),
    [
        ("torch", "nasnet_a_large", "trunk.stem.norm.running_var", "conv0.bn.running_var"),
        ("torch", "nasnet_a_large", "trunk.cells.cell_stem_1.project_h_prev.1.path_2.weight", "cell_stem_1.path_2.conv.weight"),
        ("torch", "nasnet_a_large", "trunk.cells.cell_6.project_h_prev.1.norm.bias", "cell_6.final_path_bn.bias"),
        ("torch", "nasnet_a_large", "trunk.cells.reduction_cell_1.project_h_prev.conv.weight", "reduction_cell_1.conv_prev_1x1.conv.weight"),
        ("torch", "nasnet_a_large", "trunk.cells.cell_17.blocks.4.left.separable_2.norm.weight", "cell_17.comb_iter_4_left.bn_sep_2.weight"),
        ("torch", "nasnet_a_mobile", "trunk.cells.cell_3.project_h.conv.weight", "cell_3.conv_1x1.conv.weight"),
        ("torch", "nasnet_a_mobile", "trunk.cells.cell_4.project_h_prev.1.path_1.weight", "cell_6.path_1.conv.weight"),
        ("torch", "nasnet_a_mobile", "trunk.cells.cell_11.project_h.conv.weight", "cell_15.conv_1x1.conv.weight"),
        ("torch", "nasnet_a_mobile", "trunk.cells.reduction_cell_0.project_h.norm.weight", "reduction_cell_0.conv_1x1.bn.weight"),
        ("torch", "pnasnet_5_large", "trunk.stem.conv.weight", "conv_0.conv.weight"),
        ("torch", "pnasnet_5_large", "trunk.cells.cell_5.project_h_prev.1.path_1.weight", "cell_5.conv_prev_1x1.path_1.conv.weight"),
        ("torch", "pnasnet_5_large", "trunk.cells.cell_stem_0.blocks.0.right.conv.weight", "cell_stem_0.comb_iter_0_right.conv.weight"),
        ("torch", "pnasnet_5_large", "trunk.cells.cell_4.blocks.4.right.norm.weight", "cell_4.comb_iter_4_right.bn.weight"),
        ("keras", "nasnet_a_large", "trunk.cells.cell_5.project_h.conv.weight", "normal_conv_1_5/kernel"),
        ("keras", "nasnet_a_large", "trunk.cells.cell_6.project_h_prev.1.path_1.weight", "adjust_conv_1_7/kernel"),
        ("keras", "nasnet_a_large", "trunk.cells.reduction_cell_1.blocks.4.left.separable_1.norm.bias", "separable_conv_1_bn_reduction_left4_reduce_12/beta"),
        ("keras", "nasnet_a_large", "trunk.cells.cell_17.project_h_prev.norm.running_mean", "adjust_bn_18/moving_mean"),
        ("tf_slim", "nasnet_a_large", "trunk.stem.conv.weight", "conv0/weights"),
        ("tf_slim", "nasnet_a_large", "trunk.cells.cell_12.project_h_prev.1.path_2.weight", "cell_12/path2_conv/weights"),
        ("tf_slim", "nasnet_a_large", "trunk.cells.cell_stem_0.blocks.1.right.separable_1.depthwise.weight", "cell_stem_0/comb_iter_1/right/separable_7x7_1/depthwise_weights"),
        ("tf_slim", "nasnet_a_large", "trunk.cells.cell_1.blocks.1.left.separable_2.norm.running_var", "cell_1/comb_iter_1/left/bn_sep_5x5_2/moving_variance"),
        ("tf_slim", "nasnet_a_large", "trunk.cells.cell_1.project_h_prev.norm.weight", "cell_1/prev_bn/gamma"),
        ("tf_slim", "nasnet_a_large", "classifier.bias", "final_layer/FC/biases"),
        ("tf_slim", "nasnet_a_large", "aux_head.norm_2.weight", "aux_11/aux_logits/aux_bn1/gamma"),
        ("tf_slim", "nasnet_a_mobile", "aux_head.conv.weight", "aux_7/aux_logits/Conv/weights"),
        ("tf_slim", "pnasnet_5_large", "trunk.cells.cell_8.blocks.4.right.conv.weight", "cell_8/comb_iter_4/right/1x1/weights"),
        ("tf_slim", "nasnet_a_cifar_6_768", "trunk.cells.cell_0.project_output.1.norm.bias", "cell_0/cell_output/reduction_1/path_bn/beta"),
        ("tf_slim", "nasnet_a_cifar_6_768", "trunk.stem.norm.bias", "l1_stem_bn/beta"),
    ],
)  # fmt: skip
def test_name_is_the_published_one(scheme: str, variant: str, ours: str, theirs: str) -> None:
    assert _name_all(scheme, variant, aux_head=ours.startswith("aux"))[ours] == theirs


# ---- The published Keras network


@pytest.fixture(scope="module")
def manifest(reference_data: Path) -> list[dict[str, Any]]:
    path = reference_data / "nasnet_mobile_ref" / "keras_nasnetmobile_tfjs_model.json"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    (group,) = json.loads(path.read_text())["weightsManifest"]
    return group["weights"]


def _load_shard(manifest: list[dict[str, Any]], path: Path) -> dict[str, np.ndarray]:
    """The tensors that lie wholly in the last file of weights."""
    values = np.fromfile(path, dtype="<f4")
    tensors, offset = {}, -SHARD_START // 4
    for entry in manifest:
        assert entry["dtype"] == "float32"
        end = offset + int(np.prod(entry["shape"]))
        if offset >= 0:
            tensors[entry["name"]] = values[offset:end].reshape(entry["shape"])
        offset = end
    assert offset == len(values), "the manifest ends with the file"
    return tensors


def test_manifest_matches_completely(manifest: list[dict[str, Any]]) -> None:
    match = match_names({entry["name"]: tuple(entry["shape"]) for entry in manifest})
    assert (match.scheme.name, match.variant) == ("keras", "nasnet_a_mobile")
    assert len(match.names) == 1126
    model = _meta("nasnet_a_mobile").state_dict()
    for entry in manifest:
        ours = match.names[entry["name"]]
        assert ours == keras_names.our_name(entry["name"])
        wanted = keras_names.to_our_axes(entry["name"], np.empty(entry["shape"])).shape
        assert match.shapes[ours] == model[ours].shape == wanted


def test_real_tensors_are_found_where_they_belong(
    manifest: list[dict[str, Any]], reference_data: Path
) -> None:
    shard = reference_data / "nasnet_mobile_ref" / "group1-shard6of6.bin"
    real = _load_shard(manifest, shard)
    assert len(real) == 18
    rng = np.random.default_rng(0)
    tensors = {
        entry["name"]: rng.normal(size=entry["shape"]).astype(np.float32) for entry in manifest
    }
    converted = convert_weights({**tensors, **real})
    assert converted.metadata["pool_padding"] == "keras"
    assert converted.metadata["num_classes"] == 1000
    model = converted.build_model()
    state = model.state_dict()
    for name, array in real.items():
        wanted = keras_names.to_our_axes(name, array)
        np.testing.assert_array_equal(
            state[keras_names.our_name(name)].numpy(), wanted, err_msg=name
        )
    stem = model.trunk.stem
    assert isinstance(stem, nn.Sequential)
    assert stem.norm.running_var.min() > 0, "a real variance"
    assert 0.01 < stem.conv.weight.std() < 1, "trained"
