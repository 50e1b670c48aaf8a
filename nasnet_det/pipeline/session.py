"""A pipeline from its config to its last stage, after a look at the config of every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from yacs.config import CfgNode

from nasnet_det.config import ConfigError, flatten
from nasnet_det.data.formats.recognition import find_address, is_coco, parse_address
from nasnet_det.errors import requires
from nasnet_det.pipeline.chain import plan_stages
from nasnet_det.pipeline.stages import describe_stages, run_stages


def run(cfg: CfgNode, *, tell: Callable[[str], None] = print) -> None:
    """Run what is not done yet: search, classifier, backbone, detector, evaluation, reports.

    Args:
        cfg: see :func:`~nasnet_det.pipeline.chain.get_pipeline_config`.
        tell: takes the lines that say what is run and what is skipped.

    Raises:
        InputError: the config of a stage can't be meant (nothing has started then), a stage
            failed, or the folder can't be used.
    """
    run_stages(plan_stages(cfg, READERS), Path(cfg.OUTPUT_DIR), tell=tell)


def describe(cfg: CfgNode) -> str:
    """What :func:`run` would do, a few lines a stage; nothing is run or written.

    Raises:
        InputError: as by :func:`run`.
    """
    return describe_stages(plan_stages(cfg, READERS), Path(cfg.OUTPUT_DIR))


def read_search_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The search's config, whose images are there."""
    with requires("search"):
        from nasnet_det.search.config import build_space, get_search_config

    cfg = get_search_config(config_file, opts)
    build_space(cfg)
    _check_paths(cfg, "SEARCH.DATA.PATH")
    return cfg


def read_classifier_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The classifier's config, whose images are there."""
    with requires("classification"):
        from nasnet_det.classification.config import get_classification_config

    cfg = get_classification_config(config_file, opts)
    _check_paths(cfg, "DATA.PATH")
    return cfg


def read_detector_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The detector's config, whose annotations are there."""
    with requires("detection"):
        from nasnet_det.detection.config import get_config
        from nasnet_det.detection.config_values import check_values
        from nasnet_det.detection.datasets import find_annotations

    cfg = get_config(config_file, opts)
    check_values(cfg)
    for split in ("TRAIN", "TEST"):
        if path := cfg.DATASETS[f"{split}_JSON"]:
            if is_coco(path):
                _check_paths(cfg, f"DATASETS.{split}_JSON", f"DATASETS.{split}_IMAGES")
            else:
                find_address(path, is_train=split == "TRAIN")
            continue
        for name in cfg.DATASETS[split]:
            path = find_annotations(name)
            if path and not Path(parse_address(path)[0]).exists():
                raise ConfigError(
                    f"DATASETS.{split}: {name} has no file {path}; set DETECTRON2_DATASETS to the "
                    "folder of the data sets"
                )
    return cfg


def _check_paths(cfg: CfgNode, *keys: str) -> None:
    """See that files and folders are there."""
    values = dict(flatten(cfg))
    for key in keys:
        if not values[key] or not Path(values[key]).exists():
            raise ConfigError(f"{key}: wanted a file or a folder, got {values[key]!r}")


READERS = {
    "search": read_search_config,
    "classifier": read_classifier_config,
    "detector": read_detector_config,
}
