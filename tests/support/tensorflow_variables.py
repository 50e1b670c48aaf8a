"""Names and shapes of TensorFlow's NASNet-A checkpoints, counted from TF-slim's rules.

Nothing here uses nasnet_det: these lists are what its names are compared with. Sources: TF-slim's
nasnet.py and nasnet_utils.py, the Object Detection API's faster_rcnn_meta_arch.py.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

Shapes = dict[str, tuple[int, ...]]

# Kernel and input (0: h, 1: h_prev, from 2 on: blocks) of each separable convolution, by its place.
NORMAL = {
    "0/left": (5, 0),
    "0/right": (3, 1),
    "1/left": (5, 1),
    "1/right": (3, 1),
    "4/left": (3, 0),
}
REDUCTION = {"0/left": (5, 0), "0/right": (7, 1), "1/right": (7, 1), "2/right": (5, 1), "4/left": (3, 2)}  # fmt: skip
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

LARGE = {"num_cells": 6, "channels": 168, "stem_channels": 96, "skips_reduction": True}
MOBILE = {"num_cells": 4, "channels": 44, "stem_channels": 32, "skips_reduction": False}


def list_network(
    num_cells: int, channels: int, stem_channels: int, skips_reduction: bool
) -> dict[str, Shapes]:
    """The variables of each cell in running order, those of the stem under ``stem``."""
    norm = _list_norm("conv0_bn", stem_channels)
    parts: dict[str, Shapes] = {"stem": {"conv0/weights": (3, 3, 3, stem_channels), **norm}}
    cells = [("cell_stem_0", REDUCTION, channels // 4), ("cell_stem_1", REDUCTION, channels // 2)]
    for i in range(3 * num_cells):
        width = channels * 2 ** (i // num_cells)
        if i in (num_cells, 2 * num_cells):
            cells.append((f"reduction_cell_{i // num_cells - 1}", REDUCTION, width))
        cells.append((f"cell_{i}", NORMAL, width))
    h_prev: tuple[int, int] | None = None  # channels, and how often the size was halved
    h = (stem_channels, 0)
    for name, cell, width in cells:
        parts[name] = _list_cell(name, cell, width, h, h_prev)
        keeps_h_prev = skips_reduction and name.startswith("reduction")
        states = 6 if cell is NORMAL else 4
        h_prev, h = (h_prev if keeps_h_prev else h), (states * width, h[1] + (cell is REDUCTION))
    return parts


def _list_norm(name: str, channels: int) -> Shapes:
    return {f"{name}/{variable}": (channels,) for variable in BATCH_NORM}


def _list_cell(
    name: str,
    cell: dict[str, tuple[int, int]],
    width: int,
    h: tuple[int, int],
    h_prev: tuple[int, int] | None,
) -> Shapes:
    found: Shapes = {f"{name}/1x1/weights": (1, 1, h[0], width)}
    found |= _list_norm(f"{name}/beginning_bn", width)
    if h_prev is None:  # the input itself takes its place, as it is
        raw_channels = h[0]
    elif h_prev[1] != h[1]:
        raw_channels = width
        half = (1, 1, h_prev[0], width // 2)
        found |= {f"{name}/path1_conv/weights": half, f"{name}/path2_conv/weights": half}
        found |= _list_norm(f"{name}/final_path_bn", width)
    else:
        raw_channels = width
        if h_prev[0] != width:
            found[f"{name}/prev_1x1/weights"] = (1, 1, h_prev[0], width)
            found |= _list_norm(f"{name}/prev_bn", width)
    for place, (kernel, state) in cell.items():
        for n in (1, 2):
            size = raw_channels if state == 1 and n == 1 else width
            where = f"{name}/comb_iter_{place}"
            separable = f"{where}/separable_{kernel}x{kernel}_{n}"
            found[f"{separable}/depthwise_weights"] = (kernel, kernel, size, 1)
            found[f"{separable}/pointwise_weights"] = (1, 1, size, width)
            found |= _list_norm(f"{where}/bn_sep_{kernel}x{kernel}_{n}", width)
    return found


def list_classifier(
    num_cells: int, channels: int, stem_channels: int, skips_reduction: bool
) -> Shapes:
    """TF-slim's ImageNet network with its 1,001 classes."""
    parts = list_network(num_cells, channels, stem_channels, skips_reduction)
    head = {"final_layer/FC/weights": (24 * channels, 1001), "final_layer/FC/biases": (1001,)}
    return {name: shape for part in (*parts.values(), head) for name, shape in part.items()}


def list_detector(
    num_cells: int,
    channels: int,
    stem_channels: int,
    skips_reduction: bool,
    *,
    num_classes: int = 90,
    rpn_width: int = 512,
) -> Shapes:
    """faster_rcnn_nas: 12 anchors a position, a box for each class."""
    parts = list_network(num_cells, channels, stem_channels, skips_reduction)
    cut = list(parts).index("reduction_cell_1")
    found: Shapes = {}
    for i, part in enumerate(parts.values()):
        stage = "FirstStage" if i < cut else "SecondStage"
        found |= {f"{stage}FeatureExtractor/{name}": shape for name, shape in part.items()}
    layers = {
        "Conv": (3, 3, 24 * channels, rpn_width),  # of two cells of 6 * 2 * channels each
        "FirstStageBoxPredictor/ClassPredictor": (1, 1, rpn_width, 24),
        "FirstStageBoxPredictor/BoxEncodingPredictor": (1, 1, rpn_width, 48),
        "SecondStageBoxPredictor/ClassPredictor": (24 * channels, num_classes + 1),
        "SecondStageBoxPredictor/BoxEncodingPredictor": (24 * channels, 4 * num_classes),
    }
    for layer, shape in layers.items():
        found |= {f"{layer}/weights": shape, f"{layer}/biases": shape[-1:]}
    return found


def fill(shapes: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values with which a network neither dies nor explodes."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        if name.endswith(("gamma", "moving_variance")):
            values = 1 + 0.2 * np.tanh(values)
        elif name.endswith("weights"):
            values *= np.float32(1 / np.sqrt(max(1, values.size / shape[-1])))
            if name.endswith("depthwise_weights"):
                values *= np.float32(np.sqrt(shape[2]))
        else:
            values *= np.float32(0.2)
        arrays[name] = values
    return arrays


def skip_without_tensorflow() -> None:
    """Skip the test where TensorFlow is not installed; importing it would disturb torch."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("no TensorFlow")


def write_checkpoint(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    """Have TensorFlow write a checkpoint, in a process of its own."""
    skip_without_tensorflow()
    source = prefix.with_name("arrays.safetensors")
    save_file(arrays, source)
    code = (
        "import sys, tensorflow as tf; from safetensors.numpy import load_file\n"
        "arrays = load_file(sys.argv[1])\n"
        "tf.raw_ops.SaveV2(prefix=sys.argv[2], tensor_names=list(arrays),\n"
        "    shape_and_slices=[''] * len(arrays), tensors=list(arrays.values()))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, source, prefix], check=True, capture_output=True, timeout=900
    )
    source.unlink()
