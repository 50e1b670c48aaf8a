"""A candidate of a search for detectors as a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.detection.config import get_config
from nasnet_det.runs.candidates import Candidate, DetectorTask

NASNET_RATE = 40.0
"""Learning rate of a NASNet with AdamW, as a multiple of a ResNet's (ours).

AdamW's steps have the size of the learning rate, whatever the size of a weight; those of a narrow
cell begin up to ten times as large as a ResNet's (variance scaling by fan-out), so they would
hardly turn. After 150 iterations on blood cells, 1, 4, 10, 20, 40 and 80 gave 22, 32, 35, 40, 40
and 41 AP with a search's cells; 1, 4 and 10 gave a ResNet-18 49, 50 and 48 (one seed). That is what
benchmarks/backbone_rate.py measures, with NASNet-A's cells.
"""


def build_config(candidate: Candidate, task: DetectorTask, folder: Path, *, device: str) -> CfgNode:
    """The config of a candidate with the schedule of the task's config.

    Args:
        candidate, task: what, and for what.
        folder: gets a NASNet's cells.
        device: of the detector.

    Raises:
        ConfigError: the task's config can't be read, or is none of a detector of two stages.
    """
    cfg = get_config(task.config)
    model = cfg.MODEL
    is_plain = not (model.MASK_ON or model.KEYPOINT_ON)
    has_fpn = model.META_ARCHITECTURE == "GeneralizedRCNN" and "fpn" in model.BACKBONE.NAME
    if not (is_plain and has_fpn):
        raise ConfigError(
            "SEARCH.DETECTOR.CONFIG: wanted a Faster R-CNN under an FPN, without masks and "
            f"keypoints, got {model.META_ARCHITECTURE} with {model.BACKBONE.NAME} in {task.config}"
        )
    if model.WEIGHTS:
        raise ConfigError(
            "SEARCH.DETECTOR.CONFIG: wanted a detector that is trained from nothing, as all "
            f"backbones are to be alike, got MODEL.WEIGHTS {model.WEIGHTS!r} in {task.config}"
        )
    scale = candidate.min_size / cfg.INPUT.MIN_SIZE_TEST
    max_size = round(cfg.INPUT.MAX_SIZE_TEST * scale)
    anchors = [[size * scale for size in sizes] for sizes in cfg.MODEL.ANCHOR_GENERATOR.SIZES]
    pairs: dict[str, Any] = {
        "MODEL.DEVICE": device,
        "MODEL.ANCHOR_GENERATOR.SIZES": anchors,
        "INPUT.MIN_SIZE_TRAIN": (candidate.min_size,),
        "INPUT.MIN_SIZE_TEST": candidate.min_size,
        "INPUT.MAX_SIZE_TRAIN": max_size,
        "INPUT.MAX_SIZE_TEST": max_size,
        "DATASETS.TRAIN_JSON": task.train_json,
        "DATASETS.TRAIN_IMAGES": task.images,
        "DATASETS.TEST_JSON": task.test_json,
        "DATASETS.TEST_IMAGES": task.images,
        "TEST.EXPECTED_RESULTS": [],
        **_describe_backbone(candidate, folder),
    }
    if candidate.genotype and cfg.SOLVER.OPTIMIZER == "AdamW":
        pairs["SOLVER.BACKBONE_LR_FACTOR"] = NASNET_RATE * cfg.SOLVER.BACKBONE_LR_FACTOR
    cfg.merge_from_list([word for pair in pairs.items() for word in pair])
    return cfg


def _describe_backbone(candidate: Candidate, folder: Path) -> dict[str, Any]:
    if candidate.genotype is None:
        features = ["res2", "res3", "res4", "res5"]
        return {
            "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
            "MODEL.RESNETS.DEPTH": candidate.depth,
            "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if candidate.depth < 50 else 256,
            "MODEL.RESNETS.NORM": "BN",
            "MODEL.RESNETS.OUT_FEATURES": features,
            "MODEL.FPN.IN_FEATURES": features,
        }
    cells = folder / f"{candidate.name}.json"
    candidate.genotype.save(cells)
    return {
        "MODEL.BACKBONE.NAME": "build_nasnet_fpn_backbone",
        "MODEL.NASNET.GENOTYPE": str(cells),
        "MODEL.NASNET.NUM_CELLS_PER_STAGE": candidate.num_cells_per_stage,
        "MODEL.NASNET.CHANNELS": candidate.channels,
    }


def shorten(cfg: CfgNode, iterations: int) -> None:
    """Let a config's training have so many iterations, with one evaluation at its end."""
    solver = cfg.SOLVER
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, iterations // 5)
    solver.STEPS = tuple(step * iterations // solver.MAX_ITER for step in solver.STEPS)
    solver.MAX_ITER = iterations
    solver.CHECKPOINT_PERIOD = max(20, iterations // 3)
    cfg.TEST.EVAL_PERIOD = 0
