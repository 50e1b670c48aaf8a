"""How a search's children are trained, out of its config."""

from __future__ import annotations

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.near_names import nearest
from nasnet_det.search.child import PRECISIONS, ChildRecipe


def build_recipe(cfg: CfgNode) -> ChildRecipe:
    """How children are trained.

    Raises:
        ConfigError: a value is impossible.
    """
    node = cfg.SEARCH.CHILD
    for key, least in (("EPOCHS", 1), ("BATCH_SIZE", 2)):
        if node[key] < least:
            raise ConfigError(f"SEARCH.CHILD.{key}: wanted at least {least}, got {node[key]}")
    for key in ("LR", "MOMENTUM", "WEIGHT_DECAY", "CLIP_NORM", "AUX_WEIGHT", "TIME_LIMIT_S"):
        if not node[key] >= 0:
            raise ConfigError(f"SEARCH.CHILD.{key}: wanted at least 0, got {node[key]}")
    if node.PRECISION not in PRECISIONS:
        raise ConfigError(
            f"SEARCH.CHILD.PRECISION: unknown precision {node.PRECISION!r}, "
            + nearest(node.PRECISION, PRECISIONS)
        )
    others = ("KIND", "TIME_LIMIT_S")
    return ChildRecipe(**{k.lower(): v for k, v in node.items() if k not in others})
