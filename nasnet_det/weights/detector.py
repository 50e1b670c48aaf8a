"""TensorFlow's detection checkpoints -> our C4 detector, its heads included.

Source: the Object Detection API's faster_rcnn_nas: the names of faster_rcnn_meta_arch.py, the
layouts of grid_anchor_generator.py, faster_rcnn_box_coder.py and the predictors' heads.

What differs from Detectron2, and is turned into its order here:

- a softmax over background and object, of which only the difference matters, is one logit;
- the anchors of a position go by ratio (width to height) before scale, not by scale before ratio
  (height to width);
- a box is (y, x, height, width), not (x, y, width, height);
- the background is the first class, not the last;
- COCO's 80 classes have the ids 1 to 90; the logits of the ids that no class has come behind the
  background's, and their boxes, which are never detected, are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from nasnet_det.plan import override_spec, plan_cells
from nasnet_det.variants import resolve_variant
from nasnet_det.weights.classifier import (
    ConvertedWeights,
    check_finite,
    convert_classifier,
    to_tensor,
)
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.matching import describe_faults

FIRST, SECOND = "FirstStageFeatureExtractor/", "SecondStageFeatureExtractor/"
NUM_RATIOS, NUM_SCALES = 3, 4
UNUSED_COCO_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

_OBJECTNESS, _DELTAS = (
    f"FirstStageBoxPredictor/{name}Predictor" for name in ("Class", "BoxEncoding")
)
_CLASSES, _BOXES = (f"SecondStageBoxPredictor/{name}Predictor" for name in ("Class", "BoxEncoding"))
_LAYERS = {
    "Conv": "proposal_generator.rpn_head.conv",
    _OBJECTNESS: "proposal_generator.rpn_head.objectness_logits",
    _DELTAS: "proposal_generator.rpn_head.anchor_deltas",
    _CLASSES: "roi_heads.box_predictor.cls_score",
    _BOXES: "roi_heads.box_predictor.bbox_pred",
}
HEAD_NAMES = {
    f"{theirs}/{tensor}": f"{ours}.{our_tensor}"
    for theirs, ours in _LAYERS.items()
    for tensor, our_tensor in (("weights", "weight"), ("biases", "bias"))
}
"""Their tensors outside of the network's two halves -> ours."""


def is_detector(names: Iterable[str]) -> bool:
    """Whether these are the names of a detection checkpoint."""
    return any(name.startswith(FIRST) for name in names)


def convert_detector(
    tensors: Mapping[str, Any], *, variant: str = "", **spec_overrides: Any
) -> ConvertedWeights:
    """Convert all tensors of a detector.

    Args:
        tensors: their name -> tensor or array, without those of the optimizer.
        variant, **spec_overrides: see :func:`~nasnet_det.weights.conversion.convert_weights`.

    Raises:
        WeightsError: tensors that are missing, left over, of another shape, not finite or in the
            wrong half of the detector.
    """
    trunk, heads = {}, {}
    for name, tensor in tensors.items():
        if name.startswith((FIRST, SECOND)):
            trunk[name.partition("/")[2]] = tensor
        else:
            heads[name] = to_tensor(tensor)
    network = convert_classifier(trunk, variant=variant, **spec_overrides)
    about = network.metadata
    spec, genotype = resolve_variant(about["variant"])
    plan = plan_cells(override_spec(spec, **spec_overrides), genotype)
    second_half = [row.name for row in plan if row.out_stride > 16]
    _check_halves(tensors, second_half)
    pair_channels = next(row.pair_channels for row in reversed(plan) if row.out_stride == 16)
    _check_heads(heads, pair_channels, plan[-1].out_channels)
    weights = {
        f"{'roi_heads.res5' if _cell(ours) in second_half else 'backbone'}.{ours}": tensor
        for ours, tensor in network.weights.items()
    }
    weights |= {ours: _convert_head(theirs, heads[theirs]) for theirs, ours in HEAD_NAMES.items()}
    rows, unused = _list_rows(len(heads[f"{_CLASSES}/biases"]) - 1)
    metadata = {
        **about,
        "origin": "tf_detection",
        "num_classes": len(rows),
        "unused_classes": len(unused),
        "class_order": "COCO by category id" if unused else "the source's",
        "preprocessing": {
            **{key: about["preprocessing"][key] for key in ("channels", "mean", "std")},
            "input_size": 1200,
            "keep_ratio": False,
            "interpolation": "bilinear",
        },
    }
    return ConvertedWeights(dict(sorted(weights.items())), metadata)


def _cell(name: str) -> str:
    return name.removeprefix("trunk.cells.").split(".")[0]


def _check_halves(names: Iterable[str], second_half: list[str]) -> None:
    wrong = [
        name
        for name in names
        if name.startswith((FIRST, SECOND))
        and name.startswith(SECOND) != (name.split("/")[1] in second_half)
    ]
    if wrong:
        raise WeightsError(
            f"the detector's second half starts with {second_half[0]}, but "
            + describe_faults({"in the wrong half": wrong})
        )


def _check_heads(heads: Mapping[str, torch.Tensor], pair_channels: int, box_channels: int) -> None:
    """Compare names and shapes with those that fit the network; the width is the source's."""
    num_anchors = NUM_RATIOS * NUM_SCALES
    width, rows = (
        heads[name].shape[0] if name in heads and heads[name].ndim else 0
        for name in ("Conv/biases", f"{_CLASSES}/biases")
    )
    weights = {
        "Conv": (3, 3, pair_channels, width),
        _OBJECTNESS: (1, 1, width, 2 * num_anchors),
        _DELTAS: (1, 1, width, 4 * num_anchors),
        _CLASSES: (box_channels, rows),
        _BOXES: (box_channels, 4 * (rows - 1)),
    }
    wanted = {f"{layer}/weights": shape for layer, shape in weights.items()}
    wanted |= {f"{layer}/biases": shape[-1:] for layer, shape in weights.items()}
    faults = {
        "missing": sorted(set(wanted) - set(heads)),
        "left over": sorted(set(heads) - set(wanted)),
    }
    if not any(faults.values()):  # without all names there is nothing to compare shapes with
        faults["of another shape"] = [n for n in sorted(heads) if heads[n].shape != wanted[n]]
    if any(faults.values()):
        raise WeightsError(f"these are no heads of faster_rcnn_nas: {describe_faults(faults)}")
    check_finite(heads)


def _convert_head(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.ndim > 1:  # HWIO -> OIHW, (in, out) -> (out, in)
        tensor = tensor.permute((3, 2, 0, 1) if tensor.ndim == 4 else (1, 0))
    layer = name.rpartition("/")[0]
    return (_REORDER[layer](tensor) if layer in _REORDER else tensor).contiguous()


def _list_rows(num_classes: int) -> tuple[list[int], list[int]]:
    """The rows of the classes, by id, and of the ids that no class has; row 0 is the background."""
    unused = UNUSED_COCO_IDS if num_classes == 90 else ()
    return [i for i in range(1, num_classes + 1) if i not in unused], list(unused)


def _by_anchor(tensor: torch.Tensor, numbers: int) -> torch.Tensor:
    """(anchors * numbers, ...) -> (anchors, numbers, ...), the anchors in Detectron2's order.

    Its ratios are the inverse ones: 0.5, 1, 2 run the other way.
    """
    by_ratio = tensor.unflatten(0, (NUM_RATIOS, NUM_SCALES, numbers))
    return by_ratio.flip(0).transpose(0, 1).flatten(0, 1)


def _convert_objectness(tensor: torch.Tensor) -> torch.Tensor:
    background, thing = _by_anchor(tensor, 2).unbind(1)
    return thing - background


def _convert_deltas(tensor: torch.Tensor) -> torch.Tensor:
    return _by_anchor(tensor, 4)[:, [1, 0, 3, 2]].flatten(0, 1)


def _convert_classes(tensor: torch.Tensor) -> torch.Tensor:
    rows, unused = _list_rows(len(tensor) - 1)
    return tensor[[*rows, 0, *unused]]


def _convert_boxes(tensor: torch.Tensor) -> torch.Tensor:
    by_class = tensor.unflatten(0, (-1, 4))
    rows, _ = _list_rows(len(by_class))
    return by_class[[row - 1 for row in rows]][:, [1, 0, 3, 2]].flatten(0, 1)


_REORDER: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    _OBJECTNESS: _convert_objectness,
    _DELTAS: _convert_deltas,
    _CLASSES: _convert_classes,
    _BOXES: _convert_boxes,
}
