"""The values that keys of the classification may have."""

from __future__ import annotations

from yacs.config import CfgNode

from nasnet_det.classification.library_classifier import check_network
from nasnet_det.config import ConfigError, flatten
from nasnet_det.data.broken_pictures import POLICIES
from nasnet_det.near_names import nearest
from nasnet_det.plan import POOL_PADDINGS

OPTIMIZERS = ("SGD", "AdamW", "RMSpropTF")
SCHEDULES = ("cosine", "exponential")
PRECISIONS = ("float32", "bfloat16", "float16")
CROPS = ("none", "pad", "upsample", "inception")

# The values that a key may have; of the other numbers, 0 and more.
NAMES = {
    "SOLVER.OPTIMIZER": OPTIMIZERS,
    "SOLVER.SCHEDULE": SCHEDULES,
    "SOLVER.PRECISION": PRECISIONS,
    "AUGMENT.CROP": CROPS,
    "DATA.BROKEN_IMAGES": POLICIES,
    "MODEL.NASNET.POOL_PADDING": POOL_PADDINGS,
}
AT_LEAST_ONE = (
    *("SOLVER.EPOCHS", "SOLVER.BATCH_SIZE", "SOLVER.NUM_PARTS", "SOLVER.LOG_PERIOD"),
    *("TEST.BATCH_SIZE", "DATA.IMAGE_SIZE"),
)
BELOW_ONE = ("EMA.DECAY", "SOLVER.LABEL_SMOOTHING", "SOLVER.MOMENTUM", "SOLVER.RMSPROP.DECAY")
NOT_NEGATIVE = ("SOLVER.", "DATA.", "AUGMENT.", "AUX.", "DISTILL.", "TEST.", "SEED")
MAX_SEED = 2**63 - 1  # of torch
SHARES = ("TEST.CROP_FRACTION", "AUGMENT.MIN_AREA", "SOLVER.DECAY_RATE")


def check_config(cfg: CfgNode) -> None:
    """See that every value is possible by itself.

    Raises:
        ConfigError: one is not.
    """
    values = dict(flatten(cfg))
    for key, names in NAMES.items():
        if values[key] not in names:
            raise ConfigError(f"{key}: unknown name {values[key]!r}, {nearest(values[key], names)}")
    for key in AT_LEAST_ONE:
        if values[key] < 1:
            raise ConfigError(f"{key}: wanted at least 1, got {values[key]}")
    for key, value in values.items():
        if key.startswith(NOT_NEGATIVE) and (isinstance(value, int | float) and not value >= 0):
            raise ConfigError(f"{key}: wanted at least 0, got {value}")
    if cfg.SEED > MAX_SEED:
        raise ConfigError(f"SEED: wanted at most {MAX_SEED}, got {cfg.SEED}")
    for key in BELOW_ONE:
        if not 0 <= values[key] < 1:
            raise ConfigError(f"{key}: wanted a number in [0, 1), got {values[key]}")
    for key in SHARES:
        if not 0 < values[key] <= 1:
            raise ConfigError(f"{key}: wanted a number in (0, 1], got {values[key]}")
    if not values["SOLVER.DECAY_EPOCHS"] > 0:
        raise ConfigError(f"SOLVER.DECAY_EPOCHS: wanted more than 0, got {cfg.SOLVER.DECAY_EPOCHS}")
    if cfg.SOLVER.NUM_PARTS > cfg.SOLVER.BATCH_SIZE:
        raise ConfigError(
            f"SOLVER.NUM_PARTS: wanted at most SOLVER.BATCH_SIZE, {cfg.SOLVER.BATCH_SIZE}, got "
            f"{cfg.SOLVER.NUM_PARTS}"
        )
    _check_distillation(cfg)
    check_network(cfg)
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        numbers = cfg.DATA[key]
        if len(numbers) != 3 or not all(isinstance(n, int | float) for n in numbers):
            raise ConfigError(f"DATA.{key}: wanted 3 numbers, got {numbers}")
    if not min(cfg.DATA.PIXEL_STD) > 0:
        raise ConfigError(f"DATA.PIXEL_STD: wanted more than 0, got {cfg.DATA.PIXEL_STD}")


def _check_distillation(cfg: CfgNode) -> None:
    node = cfg.DISTILL
    if not 0 <= node.WEIGHT <= 1:
        raise ConfigError(f"DISTILL.WEIGHT: wanted a number in [0, 1], got {node.WEIGHT}")
    if not node.TEMPERATURE > 0:
        raise ConfigError(f"DISTILL.TEMPERATURE: wanted more than 0, got {node.TEMPERATURE}")
    mixes = cfg.AUGMENT.MIXUP or cfg.AUGMENT.CUTMIX
    for key in ("CACHE", "IMAGES"):
        if node[key] and mixes:
            raise ConfigError(
                f"DISTILL.{key}: wanted no mixed images, got AUGMENT.MIXUP {cfg.AUGMENT.MIXUP} and "
                f"AUGMENT.CUTMIX {cfg.AUGMENT.CUTMIX}"
            )
