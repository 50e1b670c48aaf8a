"""What ``nasnet-det doctor`` says about a config and about weights."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling.anchor_generator import build_anchor_generator
from torch import nn

from nasnet_det.config import flatten, get_config_file, parse_yaml
from nasnet_det.data.columns import shorten
from nasnet_det.detection import weight_matching
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.config import get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.cost import find_parts
from nasnet_det.detection.datasets import find_coco, list_classes, register_config_datasets
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.run import use_available_device
from nasnet_det.detection.schedule import estimate_iterations
from nasnet_det.detection.step import get_precision
from nasnet_det.detection.step_cost import advise_less_memory, estimate_step
from nasnet_det.detection.trainer import Trainer
from nasnet_det.doctor.datasets import DataFiles
from nasnet_det.doctor.findings import Examination, Finding, Level, sort_findings
from nasnet_det.doctor.listening import listen
from nasnet_det.doctor.scales import Scale
from nasnet_det.errors import InputError
from nasnet_det.weights.file import METADATA_KEY, read_weights
from nasnet_det.weights.published import find_weights

TYPICAL_SIZE = (640, 480)  # width and height of a picture where no data set tells


def list_data_files(cfg: CfgNode) -> list[DataFiles]:
    """The data sets of a config, those that are trained on first, without sets from Python."""
    files = []
    for split, is_train in (("TRAIN", True), ("TEST", False)):
        given = [os.path.expanduser(cfg.DATASETS[f"{split}_{key}"]) for key in ("JSON", "IMAGES")]
        if given[0]:
            files.append(DataFiles(given[0], given[1], is_train))
            continue
        for name in cfg.DATASETS[split]:
            metadata = MetadataCatalog.get(name) if name in MetadataCatalog else None
            if metadata is not None and metadata.get("image_root") and metadata.get("json_file"):
                files.append(DataFiles(metadata.json_file, metadata.image_root, is_train))
    return files


def find_scale(cfg: CfgNode, name: str) -> Scale:
    """How a config sees the pictures of a training.

    Args:
        cfg: the config.
        name: of its file.
    """
    sides = cfg.INPUT.MIN_SIZE_TRAIN
    is_cropped = cfg.INPUT.CROP.ENABLED and not cfg.INPUT.CROP.TYPE.startswith("relative")
    anchors, min_iou = np.zeros((0, 2)), 0.0
    if cfg.MODEL.META_ARCHITECTURE in ("GeneralizedRCNN", "ProposalNetwork", "RetinaNet"):
        is_single = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
        node = cfg.MODEL.RETINANET if is_single else cfg.MODEL.RPN
        anchors = _list_anchors(cfg, len(node.IN_FEATURES))
        min_iou = float(node.IOU_THRESHOLDS[0])
    return Scale(
        config=os.path.basename(name) or "the config",
        short_side=0.0 if is_cropped else float(np.median(sides)),
        max_side=float(cfg.INPUT.MAX_SIZE_TRAIN),
        anchors=anchors,
        min_iou=min_iou,
    )


def _list_anchors(cfg: CfgNode, num_maps: int) -> np.ndarray:
    """(A, 2), width and height of the anchors of all maps; empty where they have angles."""
    node = cfg.MODEL.ANCHOR_GENERATOR
    if node.NAME != "DefaultAnchorGenerator":
        return np.zeros((0, 2))
    shapes = [type("Shape", (), {"stride": 4 * 2**i})() for i in range(num_maps)]
    cells: Any = build_anchor_generator(cfg, shapes).cell_anchors
    boxes = torch.cat(list(cells)).numpy()
    return boxes[:, 2:] - boxes[:, :2]


def find_differences(cfg: CfgNode, config_file: str) -> dict[str, Any]:
    """Keys whose values are not those of the config's ``_BASE_``, or of the defaults without one.

    Returns:
        key -> value of the config.
    """
    base = ""
    if config_file:
        path = os.path.expanduser(config_file)
        path = path if os.path.isfile(path) else get_config_file(config_file)
        data = parse_yaml(Path(path).read_text(encoding="utf-8-sig"), path) or {}
        if data.get("_BASE_"):
            base = os.path.join(os.path.dirname(path), os.path.expanduser(data["_BASE_"]))
    before = dict(flatten(get_config(base)))
    return {key: value for key, value in flatten(cfg) if before.get(key) != value}


def examine_config(cfg: CfgNode, config_file: str) -> Examination:
    """What a config builds, and what it costs.

    The model is built, and one step of a training of it is measured with small pictures.

    Args:
        cfg: a config; it is not changed.
        config_file: its file; "" for the defaults.
    """
    facts: dict[str, Any] = {"differs in": find_differences(cfg, config_file)}
    findings: list[Finding] = []
    file = config_file or "the defaults"
    cfg = cfg.clone()
    cfg.defrost()
    try:
        model = _build(cfg)
    except InputError as error:
        findings.append(Finding(Level.ERROR, "config", file, str(error)))
        return Examination(f"config {file}", facts, findings)
    parameters = {
        part: sum(p.numel() for module in modules for p in module.parameters())
        for part, modules in find_parts(model).items()
    }
    num_iterations = estimate_iterations(cfg)
    facts |= {
        "model": f"{cfg.MODEL.META_ARCHITECTURE}, {cfg.MODEL.BACKBONE.NAME}",
        "classes": _count_classes(cfg),
        "parameters": {"all": sum(p.numel() for p in model.parameters()), **parameters},
        "trained parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "batch": f"{cfg.SOLVER.IMS_PER_BATCH} pictures, {num_iterations:,} iterations",
    }
    size = find_input_size(cfg)
    estimate = estimate_step(model, cfg, size)
    if estimate is not None:
        days, rest = divmod(estimate.seconds * num_iterations, 86400)
        length = f"{days:.0f} days {rest / 3600:.0f} h" if days else f"{rest / 3600:.1f} h"
        facts |= {
            "pictures of a training": f"{size[0]}x{size[1]} once resized",
            "estimated memory of a step's tensors": f"{estimate.memory_mb:,.0f} MiB",
            "estimated time here": f"{estimate.seconds:.2f} s a step, {length} in all, "
            f"on {estimate.device}",
        }
        findings += _check_memory(cfg, file, estimate.memory_mb, estimate.available_mb)
    return Examination(f"config {file}", facts, findings)


def _build(cfg: CfgNode) -> nn.Module:
    """The model, after the checks that a training makes of a config alone."""
    check_values(cfg)
    adopt_pools(cfg)
    check_backbone(cfg)
    register_config_datasets(cfg)
    use_available_device(cfg)
    get_precision(cfg)
    build_test_resize(cfg)
    return Trainer.build_model(cfg)


def _count_classes(cfg: CfgNode) -> int:
    is_single = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    return int((cfg.MODEL.RETINANET if is_single else cfg.MODEL.ROI_HEADS).NUM_CLASSES)


def find_input_size(cfg: CfgNode) -> tuple[int, int]:
    """Width and height of a typical picture of a training, once it is resized."""
    sizes = np.array([TYPICAL_SIZE], float)
    for name in cfg.DATASETS.TRAIN[:1]:
        try:
            coco = find_coco(name)
        except InputError:
            coco = None
        if coco is not None and np.isfinite(coco.sizes).any():
            sizes = coco.sizes[np.isfinite(coco.sizes).all(axis=1)]
    scale = find_scale(cfg, "")
    resized = np.median(sizes * scale.find_factors(sizes)[:, None], axis=0)
    return round(float(resized[0])), round(float(resized[1]))


def _check_memory(cfg: CfgNode, file: str, needed: float, available: float | None) -> list[Finding]:
    if available is None or needed <= available:
        return []
    text = f"a step needs about {needed:,.0f} MiB, and {available:,.0f} MiB are here"
    advice = advise_less_memory(cfg, with_parts=True)
    return [Finding(Level.WARNING, "memory", file, text, advice=advice)]


def examine_weights(cfg: CfgNode, path: str) -> Examination:
    """Whose weights a file has, and how many of its tensors fit the model of a config.

    Args:
        cfg: a config; it is not changed.
        path: as ``MODEL.WEIGHTS``.
    """
    findings: list[Finding] = []
    facts: dict[str, Any] = {}
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = path
    try:
        data = read_weights(find_weights(path))
        facts |= describe_weights(data)
        model = _build(cfg)
        with listen(weight_matching.__name__, logging.INFO) as told:
            Checkpointer(model, save_to_disk=False).load(path, checkpointables=[])
    except InputError as error:
        findings.append(Finding(Level.ERROR, "weights", path, str(error)))
        return Examination(f"weights {path}", facts, findings)
    for record in told:
        sentence = record.getMessage()
        if record.levelno >= logging.WARNING:
            findings.append(Finding(Level.WARNING, "weights", path, sentence))
        elif " matched, " in sentence:
            facts["fit"] = sentence.partition(": ")[2]
    saved, wanted = list(data.get("classes") or []), list_classes(cfg.DATASETS.TRAIN)
    if saved and wanted and saved != wanted:
        text = f"its classes are {shorten(saved)}, those of the data are {shorten(wanted)}"
        findings.append(Finding(Level.WARNING, "other_classes", path, text))
    return Examination(f"weights {path}", facts, sort_findings(findings))


def describe_weights(data: dict[str, Any]) -> dict[str, Any]:
    """What a file of weights says about itself."""
    weights = {key: torch.as_tensor(value) for key, value in data["model"].items()}
    about = data.get(METADATA_KEY) or {}
    heads = Counter(key.partition(".")[0] for key in weights)
    broken = [k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    facts = {
        "tensors": f"{len(weights)}, {sum(value.numel() for value in weights.values()):,} numbers",
        "names begin with": dict(heads.most_common()),
        "of": about.get("origin") or ("a training" if "iteration" in data else "not told"),
        "network": about.get("variant") or "not told",
        "iteration": data.get("iteration", "not told"),
        "classes": list(data.get("classes") or []) or "not told",
    }
    if broken:
        facts["not finite"] = broken
    return facts
