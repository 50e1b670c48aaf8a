"""Which values the keys of a detector's config may have, Detectron2's keys and this project's.

Detectron2 finds a wrong value when it builds the part that reads it, or in the first step, and
mostly says neither the key nor what it may be. The tables below are made from its source: what it
can use stays allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY

from nasnet_det.config import ConfigError, flatten
from nasnet_det.data.broken_pictures import POLICIES
from nasnet_det.data.picture_sizes import SIZE_POLICIES
from nasnet_det.detection.augmentation_checks import check_augmentation
from nasnet_det.detection.backbone_card import LIBRARIES, find_library
from nasnet_det.detection.config import add_library_config
from nasnet_det.detection.config_relations import (
    are_numbers,
    check_augmented_test,
    check_input,
    check_model,
    check_solver,
    check_test_runtime,
    check_validation,
    refuse,
)
from nasnet_det.detection.trackers import check_trackers
from nasnet_det.near_names import nearest
from nasnet_det.plan import DROP_PATH_SCHEDULES, NORMS, POOL_PADDINGS
from nasnet_det.runtime.engines import PRECISIONS, RUNTIMES

REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY,
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY,
}
NO_NAMES = ("", "PrecomputedProposals")  # values that are none of a registry's

# Detectron2's layers/batch_norm.py, modeling/poolers.py and modeling/box_regression.py.
LAYER_NORMS = (
    *("", "BN", "SyncBN", "FrozenBN", "GN", "LN"),
    *("nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"),
)
LIBRARY_NORMS = ("", "FrozenBN", "SyncBN")  # library_backbone.py
POOLERS = ("ROIAlign", "ROIAlignV2", "ROIAlignRotated", "ROIPool")
BOX_LOSSES = ("smooth_l1", "giou", "diou", "ciou")

NAMES: dict[str, Collection[str]] = {
    "DATALOADER.SAMPLER_TRAIN": (
        *("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
        *("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
    ),
    "DATASETS.BROKEN_IMAGES": POLICIES,
    "DATASETS.SIZE_MISMATCH": SIZE_POLICIES,
    # Pillow's modes that a picture can be converted to and that have channels, and Detectron2's.
    "INPUT.FORMAT": (
        *("RGB", "BGR", "L", "YUV-BT.601", "HSV", "LAB", "YCbCr"),
        *("RGBA", "RGBa", "RGBX", "CMYK", "LA", "La", "PA"),
    ),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.CROP.TYPE": ("relative_range", "relative", "absolute", "absolute_range"),
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "SOLVER.LR_SCHEDULER_NAME": (
        *("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    ),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "SOLVER.AMP.PRECISION": ("float16", "bfloat16"),
    "TEST.RUNTIME.NAME": RUNTIMES,
    "TEST.RUNTIME.PART": ("backbone", "detector"),
    "TEST.RUNTIME.PRECISION": PRECISIONS,
    "MODEL.NASNET.NORM": NORMS,
    "MODEL.NASNET.POOL_PADDING": ("", *POOL_PADDINGS),
    "MODEL.NASNET.DROP_PATH_SCHEDULE": DROP_PATH_SCHEDULES,
    "MODEL.TIMM.NORM": LIBRARY_NORMS,
    "MODEL.TORCHVISION.NORM": LIBRARY_NORMS,
    "MODEL.FPN.FUSE_TYPE": ("sum", "avg"),
    "MODEL.FPN.NORM": LAYER_NORMS,
    "MODEL.ROI_BOX_HEAD.NORM": LAYER_NORMS,
    "MODEL.ROI_MASK_HEAD.NORM": LAYER_NORMS,
    "MODEL.SEM_SEG_HEAD.NORM": LAYER_NORMS,
    "MODEL.RETINANET.NORM": LAYER_NORMS,
    "MODEL.RESNETS.NORM": LAYER_NORMS,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": BOX_LOSSES,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": BOX_LOSSES,
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": BOX_LOSSES,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": POOLERS,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("", *POOLERS),
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": ("", *POOLERS),
}
AT_LEAST_ONE = (
    *("SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.NUM_PARTS"),
    *("INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST", "TEST.PRECISE_BN.NUM_ITER"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "MODEL.FPN.OUT_CHANNELS"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "MODEL.ROI_HEADS.NUM_CLASSES"),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "MODEL.ROI_BOX_HEAD.FC_DIM"),
    *("MODEL.ROI_BOX_HEAD.CONV_DIM", "MODEL.ROI_MASK_HEAD.CONV_DIM"),
    *("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION"),
    *("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", "MODEL.RETINANET.NUM_CLASSES"),
)
NOT_NEGATIVE = (
    *("SOLVER.BASE_LR", "SOLVER.BASE_LR_END", "SOLVER.MOMENTUM", "SOLVER.GAMMA"),
    *("SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM", "SOLVER.WEIGHT_DECAY_BIAS"),
    *("SOLVER.BIAS_LR_FACTOR", "SOLVER.WARMUP_FACTOR", "SOLVER.NUM_DECAYS"),
    *("SOLVER.BACKBONE_LR_FACTOR", "SOLVER.MAX_EPOCHS", "SOLVER.CHECKPOINT_MAX_TO_KEEP"),
    *("SOLVER.EARLY_STOPPING.PATIENCE", "SOLVER.EARLY_STOPPING.MIN_DELTA"),
    *("SOLVER.REFERENCE_WORLD_SIZE", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE"),
    *("INPUT.MIN_SIZE_TEST", "INPUT.SQUARE_TEST", "TEST.TILES.SIZE", "DATALOADER.NUM_WORKERS"),
    *("DATALOADER.REPEAT_THRESHOLD", "MODEL.NASNET.UNUSED_CLASSES"),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "MODEL.RPN.POST_NMS_TOPK_TEST"),
    *("MODEL.ROI_BOX_HEAD.NUM_FC", "MODEL.ROI_BOX_HEAD.NUM_CONV", "MODEL.ROI_MASK_HEAD.NUM_CONV"),
    *("MODEL.RETINANET.NUM_CONVS", "MODEL.RETINANET.TOPK_CANDIDATES_TEST"),
)
SHARES = (
    *("MODEL.RPN.POSITIVE_FRACTION", "MODEL.ROI_HEADS.POSITIVE_FRACTION"),
    *("INPUT.MOSAIC.PROB", "INPUT.COPY_PASTE.PROB"),
)
# NumPy takes seeds of 32 bits, and each process adds its number.
MAX_SEED = 2**32 - 2**16

# Comparisons with NaN are false.
RANGES: tuple[tuple[Sequence[str], Callable[[float], bool], str], ...] = (
    (AT_LEAST_ONE, lambda n: n >= 1, "at least 1"),
    (NOT_NEGATIVE, lambda n: n >= 0, "at least 0"),
    (SHARES, lambda n: 0 <= n <= 1, "a number in [0, 1]"),
    (
        (
            *("MODEL.ANCHOR_GENERATOR.OFFSET", "MODEL.TIMM.DROP_PATH_RATE"),
            *("TEST.TILES.OVERLAP", "SOLVER.EMA.DECAY"),
        ),
        lambda n: 0 <= n < 1,
        "a number in [0, 1)",
    ),
    (("MODEL.RETINANET.PRIOR_PROB",), lambda n: 0 < n < 1, "a number in (0, 1)"),
    (("SEED",), lambda n: n <= MAX_SEED, f"at most {MAX_SEED}"),
)


def check_values(cfg: CfgNode) -> None:
    """See that every value is possible, by itself and with those that it must fit.

    Args:
        cfg: a Detectron2 config; the keys of ``add_nasnet_config`` may be missing.

    Raises:
        ConfigError: one is not; the sentence names the key, what was wanted and what came.
    """
    values = dict(flatten(cfg))
    _check_names(values)
    _check_numbers(values)
    _check_device(cfg.MODEL.DEVICE)
    check_input(cfg)
    check_augmentation(cfg)
    check_solver(cfg)
    check_model(cfg)
    _check_libraries(cfg)
    check_augmented_test(cfg)
    check_test_runtime(cfg)
    check_validation(cfg)
    check_trackers(cfg)
    for entry in cfg.TEST.EXPECTED_RESULTS:
        if not (isinstance(entry, list | tuple) and len(entry) == 4 and are_numbers(entry[2:])):
            refuse("TEST.EXPECTED_RESULTS", "[task, metric, value, tolerance] each", entry)


def _check_names(values: Mapping[str, Any]) -> None:
    registered = {
        key: [*(name for name, _ in registry), *NO_NAMES] for key, registry in REGISTRIES.items()
    }
    for key, names in {**registered, **NAMES}.items():
        if key in values and values[key] not in names:
            hint = nearest(values[key], [name for name in names if name not in NO_NAMES])
            raise ConfigError(f"{key}: unknown name {values[key]!r}, {hint}")


def _check_numbers(values: Mapping[str, Any]) -> None:
    for keys, is_possible, wanted in RANGES:
        for key in keys:
            value = values.get(key)  # None: no such key, or Detectron2's "as another key"
            if value is not None and not (are_numbers([value]) and is_possible(value)):
                refuse(key, wanted, value)


def _check_libraries(cfg: CfgNode) -> None:
    """See that no key of a library is set that the backbone is not of."""
    defaults = CfgNode({"MODEL": {}})
    add_library_config(defaults)
    for library in LIBRARIES:
        node = library.upper()
        if library == find_library(cfg) or node not in cfg.MODEL:
            continue
        for key, default in defaults.MODEL[node].items():
            if cfg.MODEL[node][key] != default:
                name = cfg.MODEL.BACKBONE.NAME
                wanted = f"{default!r}, since MODEL.BACKBONE.NAME is {name}"
                refuse(f"MODEL.{node}.{key}", wanted, cfg.MODEL[node][key])


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"MODEL.DEVICE: wanted cpu, cuda or cuda:<number>, got {name!r}"
        ) from None
    if device.type == "cuda" and torch.cuda.is_available():
        number = torch.cuda.device_count()
        if (device.index or 0) >= number:
            refuse("MODEL.DEVICE", f"a number below {number}, as many GPUs as there are", name)
