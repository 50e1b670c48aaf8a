"""Config keys of a search whose children are detectors, ``SEARCH.CHILD.KIND detector``."""

from __future__ import annotations

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.near_names import nearest
from nasnet_det.space import Decision

KINDS = ("classifier", "detector")
RESNETS = (18, 34, 50)
GOALS = ("ap", "macs", "params", "latency_ms")
SIGNS = {"ap": -1, "accuracy": -1, "macs": 1, "params": 1, "latency_ms": 1}
"""Goal -> the sign with which it is minimized."""
PROXIES = {"ap": "accuracy", "latency_ms": "macs"}
"""Goal -> what stands for it in the first rung, whose children are classifiers of crops."""


def add_detector_config(cfg: CfgNode) -> None:
    """Add the keys, with their defaults."""
    # The data of SEARCH.CHILD.KIND detector: as of nasnet-det train.
    cfg.DATASETS = CfgNode({"TRAIN_JSON": "", "TRAIN_IMAGES": ""})
    # Hours for a search for detectors, by which the numbers of its candidates are chosen; 0: those
    # of NUM_TRIALS and NUM_CANDIDATES.
    cfg.SEARCH.BUDGET_HOURS = 0.0
    node = cfg.SEARCH.DETECTOR = CfgNode()
    # Of the detectors, whose backbone and sizes are changed.
    node.CONFIG = "quick_schedules/faster_rcnn_slim_FPN_search.yaml"
    # What may be chosen beside the cells: N, F, and the pixels of a picture's short side.
    node.NUM_CELLS_PER_STAGE = [1, 2]
    node.CHANNELS = [16, 32]
    node.MIN_SIZES = [160, 240]
    # Share of the pictures whose AP is the reward; nothing is trained on them.
    node.HELD_OUT = 0.25
    # Known backbones to compare with at each of MIN_SIZES: ResNets, and NASNet-A at each size.
    node.RESNETS = list(RESNETS)
    node.NASNET_A = True
    # Of the second and the third rung: iterations of a detector, and how many candidates of the
    # search are trained; of known backbones as many.
    node.ITERATIONS = [150, 600]
    node.NUM_CANDIDATES = [12, 4]
    # Trainings of each detector of the third rung; of more than one, the mean AP counts.
    node.NUM_SEEDS = 1


def list_extras(cfg: CfgNode) -> tuple[Decision, ...]:
    """The decisions beside the cells; none of a search for classifiers.

    Raises:
        ConfigError: there is no such kind of children, or a list has nothing to choose from.
    """
    kind, node = cfg.SEARCH.CHILD.KIND, cfg.SEARCH.DETECTOR
    if kind not in KINDS:
        raise ConfigError(f"SEARCH.CHILD.KIND: unknown kind {kind!r}, {nearest(kind, KINDS)}")
    if kind == "classifier":
        return ()
    extras = []
    for key, least in (("NUM_CELLS_PER_STAGE", 1), ("CHANNELS", 8), ("MIN_SIZES", 32)):
        values = node[key]
        if not values or len(set(values)) < len(values) or not _are_at_least(values, least):
            raise ConfigError(
                f"SEARCH.DETECTOR.{key}: wanted different whole numbers of at least {least}, got "
                f"{list(values)}"
            )
        name = "min_size" if key == "MIN_SIZES" else key.lower()
        extras.append(Decision(name, tuple(values)))
    return tuple(extras)


def _are_at_least(values: object, least: int) -> bool:
    return all(type(value) is int and value >= least for value in values)  # type: ignore[attr-defined]


def check_detector_config(cfg: CfgNode) -> None:
    """See that the keys of a search for detectors have possible values.

    Raises:
        ConfigError: one hasn't.
    """
    search, node = cfg.SEARCH, cfg.SEARCH.DETECTOR
    list_extras(cfg)
    goals = list(search.GOALS)
    for goal in goals:
        if goal not in GOALS:
            raise ConfigError(
                f"SEARCH.GOALS: unknown goal of detectors {goal!r}, {nearest(goal, GOALS)}"
            )
    if goals[:1] != ["ap"] or len(set(goals)) < len(goals):
        raise ConfigError(f"SEARCH.GOALS: wanted ap first and each goal once, got {goals}")
    for key, least in (("ITERATIONS", 2), ("NUM_CANDIDATES", 1)):
        if len(node[key]) != 2 or not _are_at_least(node[key], least):
            raise ConfigError(
                f"SEARCH.DETECTOR.{key}: wanted two whole numbers of at least {least}, for the "
                f"second and the third rung, got {list(node[key])}"
            )
    if node.NUM_SEEDS < 1:
        raise ConfigError(f"SEARCH.DETECTOR.NUM_SEEDS: wanted at least 1, got {node.NUM_SEEDS}")
    if not 0 < node.HELD_OUT < 1:
        raise ConfigError(
            f"SEARCH.DETECTOR.HELD_OUT: wanted a share between 0 and 1, got {node.HELD_OUT}"
        )
    for depth in node.RESNETS:
        if depth not in RESNETS:
            raise ConfigError(f"SEARCH.DETECTOR.RESNETS: wanted some of {RESNETS}, got {depth!r}")
    if not node.RESNETS and not node.NASNET_A:
        raise ConfigError(
            "SEARCH.DETECTOR.RESNETS: wanted at least one known backbone to compare with, got none "
            "and SEARCH.DETECTOR.NASNET_A False"
        )
    if not search.BUDGET_HOURS >= 0:
        raise ConfigError(f"SEARCH.BUDGET_HOURS: wanted at least 0, got {search.BUDGET_HOURS}")
    for key, value, wanted in (
        ("DATA.PATH", search.DATA.PATH, ""),
        ("RETRAIN.NUM_BEST", search.RETRAIN.NUM_BEST, 0),
        ("ASYNCHRONOUS", search.ASYNCHRONOUS, False),
    ):
        if value != wanted:
            raise ConfigError(
                f"SEARCH.{key}: a search for detectors wants {wanted!r}, as it makes its own crops "
                f"and trains its best for longer in rungs, got {value!r}"
            )
    if search.EXECUTOR.NAME == "ray":
        raise ConfigError(
            "SEARCH.EXECUTOR.NAME: a search for detectors wants in_process or local_processes, as "
            "it measures this machine, got ray"
        )
    if not cfg.DATASETS.TRAIN_JSON:
        raise ConfigError(
            "DATASETS.TRAIN_JSON: wanted the annotations that detectors are trained on, got none"
        )


def check_classifier_config(cfg: CfgNode) -> None:
    """See that a search for classifiers has no keys of one for detectors.

    Raises:
        ConfigError: it has, or it is one for detectors.
    """
    list_extras(cfg)
    if cfg.SEARCH.CHILD.KIND == "detector":
        raise ConfigError(
            "SEARCH.CHILD.KIND: wanted classifier here, got detector; "
            "nasnet_det.pipeline.detector_search searches for detectors"
        )
    for key, value in (
        ("SEARCH.BUDGET_HOURS", cfg.SEARCH.BUDGET_HOURS),
        ("DATASETS.TRAIN_JSON", cfg.DATASETS.TRAIN_JSON),
        ("DATASETS.TRAIN_IMAGES", cfg.DATASETS.TRAIN_IMAGES),
    ):
        if value:
            raise ConfigError(
                f"{key}: is for a search for detectors, and SEARCH.CHILD.KIND is classifier; got "
                f"{value!r}"
            )


def get_first_rung_config(cfg: CfgNode) -> CfgNode:
    """The config of the first rung: its goals are what stands for those of the search."""
    changed = cfg.clone()
    changed.SEARCH.GOALS = list(dict.fromkeys(PROXIES.get(goal, goal) for goal in cfg.SEARCH.GOALS))
    return changed
