"""TensorFlow's detection checkpoint becomes our C4 detector, tensor by tensor and row by row."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow_variables

from nasnet_det.weights import ConvertedWeights, WeightsError, convert_weights
from nasnet_det.weights.detector import UNUSED_COCO_IDS

SMALL = {"num_cells": 2, "channels": 8, "stem_channels": 32, "skips_reduction": True}
SPEC: dict[str, Any] = {"num_cells_per_stage": 2, "channels": 8, "stem_multiplier": 1}
RPN, BOX = "proposal_generator.rpn_head", "roi_heads.box_predictor"
OBJECTNESS, DELTAS = "FirstStageBoxPredictor/ClassPredictor", "FirstStageBoxPredictor/BoxEncodingPredictor"  # fmt: skip
CLASSES, BOXES = "SecondStageBoxPredictor/ClassPredictor", "SecondStageBoxPredictor/BoxEncodingPredictor"  # fmt: skip


def _make(num_classes: int = 90) -> dict[str, np.ndarray]:
    shapes = tensorflow_variables.list_detector(**SMALL, num_classes=num_classes, rpn_width=6)
    return tensorflow_variables.fill(shapes)


def _convert(arrays: dict[str, np.ndarray]) -> ConvertedWeights:
    return convert_weights(arrays, variant="nasnet_a_large", **SPEC)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return _make()


@pytest.fixture(scope="module")
def converted(arrays: dict[str, np.ndarray]) -> ConvertedWeights:
    return _convert({**arrays, "global_step": np.array(9)})


def test_every_tensor_is_converted_once(
    arrays: dict[str, np.ndarray], converted: ConvertedWeights
) -> None:
    assert len(converted.weights) == len(arrays)
    about = converted.metadata
    assert (about["origin"], about["pool_padding"]) == ("tf_detection", "tf")
    assert (about["num_classes"], about["unused_classes"]) == (80, 10)
    assert about["class_order"] == "COCO by category id"
    assert about["preprocessing"] == {
        "channels": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": 1200,
        "keep_ratio": False, "interpolation": "bilinear",
    }  # fmt: skip
    with pytest.raises(WeightsError, match="a detector's weights, for MODEL.WEIGHTS"):
        converted.build_model()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("backbone.trunk.stem.conv.weight", "FirstStageFeatureExtractor/conv0/weights"),
        ("backbone.trunk.cells.cell_3.project_h.conv.weight", "FirstStageFeatureExtractor/cell_3/1x1/weights"),
        ("roi_heads.res5.trunk.cells.reduction_cell_1.project_h.conv.weight", "SecondStageFeatureExtractor/reduction_cell_1/1x1/weights"),
        ("roi_heads.res5.trunk.cells.cell_4.project_h_prev.1.path_1.weight", "SecondStageFeatureExtractor/cell_4/path1_conv/weights"),
        (f"{RPN}.conv.weight", "Conv/weights"),
    ],
)  # fmt: skip
def test_convolution_is_transposed(
    ours: str, theirs: str, arrays: dict[str, np.ndarray], converted: ConvertedWeights
) -> None:
    np.testing.assert_array_equal(converted.weights[ours], arrays[theirs].transpose(3, 2, 0, 1))


def test_rpn_predicts_the_same_anchors_in_detectron2s_order(
    arrays: dict[str, np.ndarray], converted: ConvertedWeights
) -> None:
    """One anchor after the other: scale by scale, and in it the ratios of height to width."""
    ratios = [0.5, 1.0, 2.0]
    ours = 0
    for scale in range(4):
        for height_to_width in ratios:
            theirs = ratios.index(1 / height_to_width) * 4 + scale
            for variable, tensor in (("weights", "weight"), ("biases", "bias")):
                logits = arrays[f"{OBJECTNESS}/{variable}"].reshape(-1, 12, 2)[:, theirs]
                codes = arrays[f"{DELTAS}/{variable}"].reshape(-1, 12, 4)[:, theirs]
                logit = converted.weights[f"{RPN}.objectness_logits.{tensor}"][ours]
                deltas = converted.weights[f"{RPN}.anchor_deltas.{tensor}"][4 * ours : 4 * ours + 4]
                np.testing.assert_array_equal(logit.flatten(), logits[:, 1] - logits[:, 0])
                y, x, height, width = codes.T
                for found, wanted in zip(deltas, (x, y, width, height), strict=True):
                    np.testing.assert_array_equal(found.flatten(), wanted)
            ours += 1


def _check_classes(
    arrays: dict[str, np.ndarray], converted: ConvertedWeights, ids: list[int], unused: list[int]
) -> None:
    for variable, tensor in (("weights", "weight"), ("biases", "bias")):
        scores = arrays[f"{CLASSES}/{variable}"].reshape(-1, len(ids) + len(unused) + 1)
        codes = arrays[f"{BOXES}/{variable}"].reshape(len(scores), -1, 4)
        found = converted.weights[f"{BOX}.cls_score.{tensor}"]
        boxes = converted.weights[f"{BOX}.bbox_pred.{tensor}"]
        assert (len(found), len(boxes)) == (len(ids) + 1 + len(unused), 4 * len(ids))
        for label, category in enumerate([*ids, 0, *unused]):
            np.testing.assert_array_equal(found[label].flatten(), scores[:, category])
        for label, category in enumerate(ids):
            y, x, height, width = codes[:, category - 1].T
            for n, wanted in enumerate((x, y, width, height)):
                np.testing.assert_array_equal(boxes[4 * label + n].flatten(), wanted)


def test_cocos_classes_go_by_category_and_the_background_is_last(
    arrays: dict[str, np.ndarray], converted: ConvertedWeights
) -> None:
    ids = [i for i in range(1, 91) if i not in UNUSED_COCO_IDS]
    _check_classes(arrays, converted, ids, list(UNUSED_COCO_IDS))


def test_unused_ids_are_those_that_coco_leaves_out(reference_data: Any) -> None:
    path = next((reference_data / "coco_small").rglob("instances_*.json"))
    used = {category["id"] for category in json.loads(path.read_text())["categories"]}
    assert set(range(1, 91)) - used == set(UNUSED_COCO_IDS)


def test_classes_of_another_data_set_keep_their_order() -> None:
    arrays = _make(num_classes=3)
    converted = _convert(arrays)
    assert converted.metadata["num_classes"] == 3
    _check_classes(arrays, converted, [1, 2, 3], [])


def test_optimizers_slots_are_left_out(
    arrays: dict[str, np.ndarray], converted: ConvertedWeights
) -> None:
    slots = {f"{name}/Momentum": array + 1 for name, array in arrays.items()}
    assert _convert({**arrays, **slots}).weights.keys() == converted.weights.keys()


# ---- Mistakes


@pytest.mark.parametrize(
    ("victim", "new_name", "told"),
    [
        ("Conv/biases", "Conv/bias", "no heads of faster_rcnn_nas: 1 missing: Conv/biases; 1 left over: Conv/bias"),
        (f"{CLASSES}/weights", f"{CLASSES}/kernel", f"1 missing: {CLASSES}/weights; 1 left over: {CLASSES}/kernel"),
        ("FirstStageFeatureExtractor/cell_1/1x1/weights", "FirstStageFeatureExtractor/cell_1/1x1/w", "1 missing: cell_1/1x1/weights; 1 left over: cell_1/1x1/w"),
        ("FirstStageFeatureExtractor/cell_1/1x1/weights", "SecondStageFeatureExtractor/cell_1/1x1/weights", "the detector's second half starts with reduction_cell_1, but 1 in the wrong half: SecondStageFeatureExtractor/cell_1/1x1/weights"),
    ],
)  # fmt: skip
def test_misnamed_tensor_is_named(
    victim: str, new_name: str, told: str, arrays: dict[str, np.ndarray]
) -> None:
    changed = {(new_name if name == victim else name): array for name, array in arrays.items()}
    with pytest.raises(WeightsError) as info:
        _convert(changed)
    assert str(info.value).endswith(told)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("victim", [f"{DELTAS}/weights", f"{BOXES}/biases", "Conv/weights"])
def test_head_of_another_shape_is_named(victim: str, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(WeightsError, match=f"1 of another shape: {victim}$"):
        _convert({**arrays, victim: arrays[victim][..., :-1]})


@pytest.mark.parametrize(
    "victim", [f"{BOXES}/weights", "SecondStageFeatureExtractor/cell_5/beginning_bn/beta"]
)
def test_values_that_are_not_finite_are_refused(victim: str, arrays: dict[str, np.ndarray]) -> None:
    broken = arrays[victim].copy()
    broken.flat[0] = np.nan
    with pytest.raises(WeightsError, match="not finite in (cell_5|SecondStageBoxPredictor)"):
        _convert({**arrays, victim: broken})


def test_origin_must_fit_the_names(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(WeightsError, match="have the names of tf_detection, not of tf_slim"):
        convert_weights(arrays, origin="tf_slim")
