"""Evaluation on the data sets of a config: which evaluator, which model, and what is recorded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    PascalVOCDetectionEvaluator,
    SemSegEvaluator,
)

from nasnet_det.data.error import DataError
from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.datasets import find_coco
from nasnet_det.detection.evaluator import CocoEvaluator, LvisEvaluator, count_detections
from nasnet_det.errors import MissingPackageError
from nasnet_det.near_names import nearest
from nasnet_det.runs.detector_files import DatasetResults, DetectorResults, write_results

AUGMENTED = "_TTA"  # ends the tasks with test-time augmentation, as in Detectron2's tool

# Kind of a data set -> what Detectron2's evaluator imports, too late to say it: module, command.
KINDS: Mapping[str, tuple[str, str]] = {
    "coco": ("pycocotools", "pip install pycocotools"),
    "lvis": ("lvis", "pip install lvis"),
    "pascal_voc": ("", ""),
    "sem_seg": ("", ""),
    "coco_panoptic_seg": (
        "panopticapi",
        "pip install git+https://github.com/cocodataset/panopticapi.git",
    ),
    "cityscapes_instance": ("cityscapesscripts", "pip install cityscapesscripts"),
    "cityscapes_sem_seg": ("cityscapesscripts", "pip install cityscapesscripts"),
}
# Of Detectron2's architectures, those that make a map of classes; the others find objects.
SEGMENTING = {
    "sem_seg": ("SemanticSegmentor", "PanopticFPN"),
    "cityscapes_sem_seg": ("SemanticSegmentor", "PanopticFPN"),
    "coco_panoptic_seg": ("PanopticFPN",),
}
FINDING = ("GeneralizedRCNN", "RetinaNet", "FCOS", "PanopticFPN")
PERSON_KEYPOINTS = 17  # COCO's own, for which it has sigmas
LVIS_DETECTIONS = 300  # on an image that count, by LVIS's rules


def get_kind(name: str) -> str:
    """How a registered set is evaluated: its ``evaluator_type``, or COCO's way without one."""
    return str(MetadataCatalog.get(name).get("evaluator_type") or "coco")


def check_evaluators(cfg: CfgNode) -> None:
    """See that every set of ``DATASETS.TEST`` can be evaluated, before anything is trained.

    Raises:
        ConfigError: ``TEST.KEYPOINT_OKS_SIGMAS`` are not as many as the keypoints.
        DataError: there is no evaluator of its kind, or not for this model.
        MissingPackageError: the evaluator wants a package that is not there.
    """
    _check_sigmas(cfg)
    architecture = cfg.MODEL.META_ARCHITECTURE
    for name in cfg.DATASETS.TEST:
        kind = get_kind(name)
        if kind not in KINDS:
            raise DataError(
                f"data set {name!r}: unknown evaluator_type {kind!r}, {nearest(kind, KINDS)}; set "
                "it with MetadataCatalog.get(name).set(evaluator_type=...)"
            )
        fitting = SEGMENTING.get(kind, FINDING)
        if architecture in {*FINDING, "SemanticSegmentor"} and architecture not in fitting:
            raise DataError(
                f"data set {name!r} of evaluator_type {kind}: wanted MODEL.META_ARCHITECTURE "
                f"{' or '.join(fitting)}, got {architecture}"
            )
        module, command = KINDS[kind]
        if module and find_spec(module) is None:
            raise MissingPackageError(module, command)


def _check_sigmas(cfg: CfgNode) -> None:
    """What COCO's evaluation of keypoints would assert after the training."""
    sigmas, number = cfg.TEST.KEYPOINT_OKS_SIGMAS, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if not (cfg.MODEL.KEYPOINT_ON and cfg.DATASETS.TEST):
        return
    if len(sigmas or [0.0] * PERSON_KEYPOINTS) != number:
        wanted = f"{number} numbers, one for each of MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
        refuse("TEST.KEYPOINT_OKS_SIGMAS", wanted, sigmas)


def build_evaluator(cfg: CfgNode, dataset_name: str, folder: str = "") -> DatasetEvaluator:
    """The evaluator of a registered set, by its kind as in Detectron2's ``tools/train_net.py``.

    Args:
        cfg: that of the model.
        dataset_name: of the set.
        folder: gets what it writes; "" for ``OUTPUT_DIR/inference``, with a folder of its own for
            each of several sets.

    Raises:
        KeyError: of a kind that :func:`check_evaluators` refuses.
    """
    folder = folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    if len(cfg.DATASETS.TEST) > 1:
        folder = os.path.join(folder, dataset_name.replace("/", "_"))
    match get_kind(dataset_name):
        case "coco":
            return _build_coco(cfg, dataset_name, folder)
        case "lvis":
            limit = max(LVIS_DETECTIONS, cfg.TEST.DETECTIONS_PER_IMAGE)
            return LvisEvaluator(dataset_name, output_dir=folder, max_dets_per_image=limit)
        case "pascal_voc":
            return PascalVOCDetectionEvaluator(dataset_name)
        case "sem_seg":
            return SemSegEvaluator(dataset_name, output_dir=folder)
        case "coco_panoptic_seg":
            return DatasetEvaluators(
                [
                    SemSegEvaluator(dataset_name, output_dir=folder),
                    _build_coco(cfg, dataset_name, folder),
                    COCOPanopticEvaluator(dataset_name, folder),
                ]
            )
        case "cityscapes_instance":
            return CityscapesInstanceEvaluator(dataset_name)
        case "cityscapes_sem_seg":
            return CityscapesSemSegEvaluator(dataset_name)
        case kind:
            raise KeyError(kind)


def _build_coco(cfg: CfgNode, dataset_name: str, folder: str) -> COCOEvaluator:
    coco = find_coco(dataset_name, with_shapes=cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON)
    limit = count_detections(cfg.TEST.DETECTIONS_PER_IMAGE)
    if coco is None:
        return COCOEvaluator(
            dataset_name,
            output_dir=folder,
            max_dets_per_image=limit,
            allow_cached_coco=False,
            kpt_oks_sigmas=tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS),
        )
    return CocoEvaluator(
        dataset_name,
        coco,
        output_dir=folder,
        needs_masks=cfg.MODEL.MASK_ON,
        max_detections=limit,
        oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
    )


def find_best_metric(cfg: CfgNode) -> str:
    """``TEST.BEST_METRIC`` as it stands among flat results; with several sets, the first set's.

    ``SET/bbox/AP`` names another of them.
    """
    metric, names = str(cfg.TEST.BEST_METRIC), list(cfg.DATASETS.TEST)
    if len(names) < 2 or metric.startswith(tuple(f"{name}/" for name in names)):
        return metric
    return f"{names[0]}/{metric}"


def add_augmented(cfg: CfgNode, results: dict[str, Any], augmented: dict[str, Any]) -> None:
    """Put results with test-time augmentation beside those without, set by set.

    Args:
        cfg: that of the model.
        results: task -> metric -> value; with several sets, set -> task -> ...; it is changed.
        augmented: likewise.
    """
    if len(cfg.DATASETS.TEST) == 1:
        results.update({f"{task}{AUGMENTED}": value for task, value in augmented.items()})
        return
    for name, tasks in augmented.items():
        results[name].update({f"{task}{AUGMENTED}": value for task, value in tasks.items()})


def record_results(
    cfg: CfgNode, results: Mapping[str, Any], *, iteration: int | None, weights: str
) -> None:
    """Write ``OUTPUT_DIR/results.json``.

    Args:
        cfg: that of the model.
        results: of all sets of ``DATASETS.TEST``, as :func:`add_augmented` leaves them.
        iteration: the last that the model was trained for, where known.
        weights: the file that the model came from, where it came from one.

    Raises:
        FileError: it can't be written.
    """
    names = list(cfg.DATASETS.TEST)
    of_sets = {names[0]: results} if len(names) == 1 else results
    sets = {name: _describe(name, of_sets[name]) for name in names}
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    write_results(Path(cfg.OUTPUT_DIR), DetectorResults(iteration, weights, sets))


def _describe(name: str, results: Mapping[str, Any]) -> DatasetResults:
    """With the SHA-256 of the data set's JSON, by which a report knows it again."""
    metadata = MetadataCatalog.get(name)
    coco = find_coco(name)
    return DatasetResults(
        metadata.get("json_file"),
        coco.sha256 if coco else None,
        metadata.get("image_root"),
        _nan_to_none(results),
    )


def _nan_to_none(value: Any) -> Any:
    """Results as JSON can hold them: undefined averages are null."""
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    return float(value) if math.isfinite(value) else None
