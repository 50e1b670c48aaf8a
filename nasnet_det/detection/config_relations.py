"""Values of a detector's config that must fit each other, or have several parts.

Detectron2 asserts some of them without a word, and finds others in the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

import torch
from detectron2.config import CfgNode
from PIL import Image

from nasnet_det.config import ConfigError
from nasnet_det.runtime.engines import check_runtime

# Samplers of Detectron2 -> a key that newer versions have for them.
SAMPLER_KEYS = {
    "RandomSubsetTrainingSampler": "DATALOADER.RANDOM_SUBSET_RATIO",
    "WeightedTrainingSampler": "DATASETS.TRAIN_REPEAT_FACTOR",
    "WeightedCategoryTrainingSampler": "DATASETS.TRAIN_REPEAT_FACTOR",
}


def check_input(cfg: CfgNode) -> None:
    """See that ``INPUT``, the pixels' statistics and the sampler can be used.

    Raises:
        ConfigError: one can't.
    """
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if not sizes or not are_numbers(sizes) or min(sizes) < 0:
        refuse("INPUT.MIN_SIZE_TRAIN", "numbers of pixels", sizes)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (
        len(sizes) != 2 or list(sizes) != sorted(sizes)
    ):
        wanted = "the smallest and the largest, since MIN_SIZE_TRAIN_SAMPLING is range"
        refuse("INPUT.MIN_SIZE_TRAIN", wanted, sizes)
    if cfg.INPUT.CROP.ENABLED:
        _check_crop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
    mean, deviation = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    kind = cfg.INPUT.FORMAT
    number = 3 if kind in ("BGR", "YUV-BT.601") else Image.getmodebands(kind)
    numbers = (1, 3) if number == 1 else (number,)  # one channel is spread over three means
    if len(mean) not in numbers or not are_numbers(mean):
        wanted = f"{number} numbers, as many as INPUT.FORMAT {kind} has channels"
        refuse("MODEL.PIXEL_MEAN", wanted, mean)
    if len(deviation) != len(mean) or not are_numbers(deviation) or 0 in deviation:
        wanted = f"{len(mean)} numbers other than 0, as many as MODEL.PIXEL_MEAN has"
        refuse("MODEL.PIXEL_STD", wanted, deviation)
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    node, _, key = SAMPLER_KEYS.get(sampler, "").partition(".")
    if node and key not in cfg[node]:
        wanted = f"another sampler, since this Detectron2 has no key {node}.{key}"
        refuse("DATALOADER.SAMPLER_TRAIN", wanted, sampler)


def _check_crop(kind: str, size: Sequence[float]) -> None:
    is_share = kind.startswith("relative")
    wanted = "two shares in (0, 1]" if is_share else "two whole numbers of pixels"
    wanted += f", since INPUT.CROP.TYPE is {kind}"
    if len(size) != 2 or not are_numbers(size) or min(size) <= 0:
        refuse("INPUT.CROP.SIZE", wanted, size)
    if max(size) > 1 if is_share else any(isinstance(side, float) for side in size):
        refuse("INPUT.CROP.SIZE", wanted, size)
    if kind == "absolute_range" and size[0] > size[1]:
        refuse("INPUT.CROP.SIZE", f"the smallest and the largest side for {kind}", size)


def check_augmented_test(cfg: CfgNode) -> None:
    """See that a model can be evaluated with test-time augmentation, where ``TEST.AUG`` wants it.

    Raises:
        ConfigError: Detectron2 can't, or the sizes are none.
    """
    if not cfg.TEST.AUG.ENABLED:
        return
    model, why = cfg.MODEL, "since TEST.AUG.ENABLED is True"
    if model.META_ARCHITECTURE != "GeneralizedRCNN":
        refuse("MODEL.META_ARCHITECTURE", f"GeneralizedRCNN, {why}", model.META_ARCHITECTURE)
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        if model[key]:
            refuse(f"MODEL.{key}", f"False, {why}", True)
    if cfg.TEST.get("TILES", {}).get("SIZE"):
        refuse("TEST.TILES.SIZE", f"0, {why}", cfg.TEST.TILES.SIZE)
    sizes = cfg.TEST.AUG.MIN_SIZES
    if not sizes or not are_numbers(sizes) or min(sizes) < 1:
        refuse("TEST.AUG.MIN_SIZES", f"numbers of pixels, {why}", sizes)
    if cfg.TEST.AUG.MAX_SIZE < 1:
        refuse("TEST.AUG.MAX_SIZE", f"at least 1, {why}", cfg.TEST.AUG.MAX_SIZE)


def check_test_runtime(cfg: CfgNode) -> None:
    """See that the runtime of tests is here and can compute as ``TEST.RUNTIME`` says.

    Raises:
        ConfigError: another key rules it out.
        EngineError: it has no such precision on this processor.
        MissingPackageError: it is not installed.
    """
    node = cfg.TEST.get("RUNTIME")
    if node is None:
        return
    if node.CALIBRATION and node.PRECISION != "int8":
        wanted = f"none, since TEST.RUNTIME.PRECISION is {node.PRECISION}"
        refuse("TEST.RUNTIME.CALIBRATION", wanted, node.CALIBRATION)
    if node.NAME == "torch":
        if node.PRECISION != "float32":
            wanted = "float32, since TEST.RUNTIME.NAME is torch, whose precision is SOLVER.AMP's"
            refuse("TEST.RUNTIME.PRECISION", wanted, node.PRECISION)
        if node.PART != "backbone":
            wanted = "backbone, since TEST.RUNTIME.NAME is torch, which computes all"
            refuse("TEST.RUNTIME.PART", wanted, node.PART)
    elif node.PART == "detector" and cfg.TEST.AUG.ENABLED:
        wanted = "backbone, since TEST.AUG.ENABLED is True, which needs the detector's parts"
        refuse("TEST.RUNTIME.PART", wanted, node.PART)
    elif torch.device(cfg.MODEL.DEVICE).type == "cuda" and torch.cuda.is_available():
        wanted = f"cpu, where TEST.RUNTIME.NAME {node.NAME} computes"
        refuse("MODEL.DEVICE", wanted, cfg.MODEL.DEVICE)
    check_runtime(node.NAME, node.PRECISION)


def check_validation(cfg: CfgNode) -> None:
    """See that what looks at evaluations during a training has some.

    Raises:
        ConfigError: there are none.
    """
    patience = cfg.SOLVER.get("EARLY_STOPPING", {}).get("PATIENCE", 0)
    if patience and not cfg.TEST.EVAL_PERIOD > 0:
        wanted = f"at least 1, since SOLVER.EARLY_STOPPING.PATIENCE is {patience}"
        refuse("TEST.EVAL_PERIOD", wanted, cfg.TEST.EVAL_PERIOD)
    if (patience or cfg.TEST.get("VALIDATION_LOSS")) and not (
        cfg.DATASETS.TEST or cfg.DATASETS.get("TEST_JSON")
    ):
        key = "SOLVER.EARLY_STOPPING" if patience else "TEST.VALIDATION_LOSS"
        refuse("DATASETS.TEST", f"a data set, which {key} looks at", cfg.DATASETS.TEST)


def check_proposals(cfg: CfgNode) -> None:
    """See that the model makes its own proposals.

    Raises:
        ConfigError: they are to be read.
    """
    is_first = "RCNN" in cfg.MODEL.META_ARCHITECTURE
    if cfg.MODEL.LOAD_PROPOSALS:
        wanted = "False, since Detectron2 reads proposals by pickle, which can run any code"
        refuse("MODEL.LOAD_PROPOSALS", wanted, True)
    if is_first and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
        wanted = "one that makes proposals, such as RPN, since none are read"
        refuse("MODEL.PROPOSAL_GENERATOR.NAME", wanted, "PrecomputedProposals")


def check_solver(cfg: CfgNode) -> None:
    """See that the schedule is one.

    Raises:
        ConfigError: it is not.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        if not are_numbers(solver.STEPS):
            refuse("SOLVER.STEPS", "iterations", solver.STEPS)
        # Detectron2 leaves out later ones, with a warning.
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        if not all(0 < step < solver.MAX_ITER for step in steps) or any(
            first >= second for first, second in pairwise(steps)
        ):
            wanted = f"rising iterations between 0 and SOLVER.MAX_ITER, {solver.MAX_ITER}"
            refuse("SOLVER.STEPS", wanted, solver.STEPS)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        if not solver.BASE_LR > 0:
            refuse("SOLVER.BASE_LR", "more than 0 for WarmupCosineLR", solver.BASE_LR)
        if solver.BASE_LR_END > solver.BASE_LR:
            wanted = f"at most SOLVER.BASE_LR, {solver.BASE_LR}"
            refuse("SOLVER.BASE_LR_END", wanted, solver.BASE_LR_END)
    if solver.NESTEROV and solver.get("OPTIMIZER", "SGD") == "SGD" and not solver.MOMENTUM > 0:
        refuse("SOLVER.MOMENTUM", "more than 0, since SOLVER.NESTEROV is True", solver.MOMENTUM)


def check_model(cfg: CfgNode) -> None:
    """See that the parts of the model fit, where Detectron2 does not say what doesn't.

    Raises:
        ConfigError: some don't.
    """
    model = cfg.MODEL
    for name in ("RPN", "ROI_HEADS", "RETINANET"):
        _check_matching(f"MODEL.{name}", model[name].IOU_THRESHOLDS, model[name].IOU_LABELS)
    for name in ("RPN", "ROI_BOX_HEAD", "RETINANET"):
        weights = model[name].BBOX_REG_WEIGHTS
        if len(weights) not in (4, 5) or not are_numbers(weights):  # 5: of rotated boxes
            refuse(f"MODEL.{name}.BBOX_REG_WEIGHTS", "4 numbers", weights)
    heads = model.ROI_HEADS.NAME if "RCNN" in model.META_ARCHITECTURE else ""
    if heads in ("Res5ROIHeads", "NASNetROIHeads", "TFNASNetROIHeads"):
        if model.KEYPOINT_ON:
            refuse("MODEL.KEYPOINT_ON", f"False, since {heads} find no keypoints", True)
        if len(model.ROI_HEADS.IN_FEATURES) != 1:
            features = model.ROI_HEADS.IN_FEATURES
            refuse("MODEL.ROI_HEADS.IN_FEATURES", f"one feature for {heads}", features)
    unused = model.get("NASNET", {}).get("UNUSED_CLASSES", 0)
    if unused and heads != "TFNASNetROIHeads":
        wanted = f"0, since {heads or model.META_ARCHITECTURE} has no such logits"
        refuse("MODEL.NASNET.UNUSED_CLASSES", wanted, unused)
    box = model.ROI_BOX_HEAD
    if heads and box.NAME == "FastRCNNConvFCHead" and box.NUM_CONV + box.NUM_FC == 0:
        wanted = "at least 1, or MODEL.ROI_BOX_HEAD.NUM_CONV, for FastRCNNConvFCHead"
        refuse("MODEL.ROI_BOX_HEAD.NUM_FC", wanted, box.NUM_FC)
    if heads == "CascadeROIHeads":
        _check_cascade(model)


def _check_matching(node: str, thresholds: Sequence[float], labels: Sequence[int]) -> None:
    """What Detectron2's ``Matcher`` asserts without a word."""
    if not (
        thresholds
        and are_numbers(thresholds)
        and thresholds[0] > 0
        and list(thresholds) == sorted(thresholds)
    ):
        refuse(f"{node}.IOU_THRESHOLDS", "rising numbers above 0", thresholds)
    if len(labels) != len(thresholds) + 1 or any(label not in (-1, 0, 1) for label in labels):
        wanted = f"{len(thresholds) + 1} of -1, 0 and 1, one more than IOU_THRESHOLDS"
        refuse(f"{node}.IOU_LABELS", wanted, labels)


def _check_cascade(model: CfgNode) -> None:
    if not model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        wanted = "True for CascadeROIHeads"
        refuse("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", wanted, False)
    ious, weights = model.ROI_BOX_CASCADE_HEAD.IOUS, model.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS
    if not ious or len(ious) != len(weights):
        wanted = f"{len(weights)} numbers, as many as BBOX_REG_WEIGHTS has"
        refuse("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", wanted, ious)
    if ious[0] != model.ROI_HEADS.IOU_THRESHOLDS[0]:
        wanted = f"the first of MODEL.ROI_HEADS.IOU_THRESHOLDS, {model.ROI_HEADS.IOU_THRESHOLDS[0]}"
        refuse("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", wanted, ious)


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers; True and False are none."""
    return all(isinstance(n, int | float) and not isinstance(n, bool) for n in values)


def refuse(key: str, wanted: str, got: Any) -> NoReturn:
    """Raise the sentence about a value.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"{key}: wanted {wanted}, got {got!r}")
