"""Keras's names and axes of NASNet-A mobile in terms of ours."""

from __future__ import annotations

import numpy as np

BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
BRANCHES = {
    "normal_left1": "blocks.0.left",
    "normal_right1": "blocks.0.right",
    "normal_left2": "blocks.1.left",
    "normal_right2": "blocks.1.right",
    "normal_left5": "blocks.4.left",
    "reduction_left1": "blocks.0.left",
    "reduction_right1": "blocks.0.right",
    "reduction_right2": "blocks.1.right",
    "reduction_right3": "blocks.2.right",
    "reduction_left4": "blocks.4.left",
}
CELLS = {
    "stem_1": "cell_stem_0",
    "stem_2": "cell_stem_1",
    "reduce_4": "reduction_cell_0",
    "reduce_8": "reduction_cell_1",
    **{str(i): f"cell_{i}" for i in range(4)},
    **{str(i): f"cell_{i - 1}" for i in range(5, 13)},  # Keras skips a number, 4
}
"""The block id at the end of a Keras layer's name -> our cell."""


def our_name(keras_name: str) -> str:
    """The entry of our state dict for a Keras variable (``layer/variable``)."""
    layer, variable = keras_name.split("/")
    if layer == "predictions":
        return {"kernel": "classifier.weight", "bias": "classifier.bias"}[variable]
    if layer == "stem_conv1":
        return "trunk.stem.conv.weight"
    if layer == "stem_bn1":
        return f"trunk.stem.norm.{BATCH_NORM[variable]}"

    block_id = next(i for i in sorted(CELLS, key=len, reverse=True) if layer.endswith(f"_{i}"))
    layer = layer.removesuffix(f"_{block_id}")
    cell = f"trunk.cells.{CELLS[block_id]}"
    if layer in ("normal_conv_1", "reduction_conv_1"):
        return f"{cell}.project_h.conv.weight"
    if layer in ("normal_bn_1", "reduction_bn_1"):
        return f"{cell}.project_h.norm.{BATCH_NORM[variable]}"
    if layer == "adjust_conv_projection":
        return f"{cell}.project_h_prev.conv.weight"
    if layer in ("adjust_conv_1", "adjust_conv_2"):
        return f"{cell}.project_h_prev.1.path_{layer[-1]}.weight"
    if layer == "adjust_bn":
        # Where h_prev is twice as large, its normalization ends a factorized reduction.
        reduces = block_id in ("stem_2", "0", "5", "9")
        norm = "project_h_prev.1.norm" if reduces else "project_h_prev.norm"
        return f"{cell}.{norm}.{BATCH_NORM[variable]}"
    if layer.startswith("separable_conv_"):
        number, _, branch = layer.removeprefix("separable_conv_").partition("_")
        is_norm = branch.startswith("bn_")
        separable = f"{cell}.{BRANCHES[branch.removeprefix('bn_')]}.separable_{number}"
        if is_norm:
            return f"{separable}.norm.{BATCH_NORM[variable]}"
        return f"{separable}.{variable.removesuffix('_kernel')}.weight"
    raise KeyError(keras_name)


def to_our_axes(keras_name: str, array: np.ndarray) -> np.ndarray:
    """Keras axes -> ours: HWIO -> OIHW, depthwise [k, k, C, 1] -> [C, 1, k, k], [in, out] -> T."""
    if keras_name.endswith("/depthwise_kernel"):
        return array.transpose(2, 3, 0, 1)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T
