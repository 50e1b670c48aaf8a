"""The whole chain in one command: search, classifier, backbone, detector, evaluation, reports.

    python tools/pipeline.py --config-file pipelines/cifar10_cpu_bccd.yaml
    python tools/pipeline.py --config-file pipelines/cifar10_cpu_bccd.yaml --dry-run
    python tools/pipeline.py --config-file pipelines/paper.yaml \\
        search.SEARCH.DATA.PATH /data/cifar10 classifier.DATA.PATH /data/imagenet

Every stage is one of the other commands (search.py with the retraining of its best, its report,
train_classifier.py, export_backbone.py, train_net.py, its --eval-only, its report) and has its
folder in OUTPUT_DIR. Run again, a stage that is done is skipped and one that was interrupted goes
on; where its config or what it reads has changed, it is made anew, and its old folder is kept
beside it. OUTPUT_DIR/pipeline.json is the record. KEY VALUE pairs come last; those of a stage have
its name in front. --dry-run prints the stages, and runs and writes nothing. A mistake in any
stage's config is reported before the first one starts, in one sentence and exit status 1 (2 for the
arguments).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from yacs.config import CfgNode

from nasnet_det.config import ConfigError, flatten
from nasnet_det.pipeline.chain import get_pipeline_config, plan_stages
from nasnet_det.pipeline.stages import describe_stages, run_stages

TOOLS = Path(__file__).resolve().parent


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``config_file``, ``dry_run`` and ``opts``."""
    parser = argparse.ArgumentParser(
        prog="pipeline.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path or a name")
    parser.add_argument("--dry-run", action="store_true", help="only print the stages")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides, last")

    def error(message: str) -> NoReturn:
        print(f"pipeline.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    return parser.parse_args(arguments)


def read_search_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The search's config, whose images are there."""
    from nasnet_det.search.config import build_space, get_search_config

    cfg = get_search_config(config_file, opts)
    build_space(cfg)
    check_paths(cfg, "SEARCH.DATA.PATH")
    return cfg


def read_classifier_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The classifier's config, whose images are there."""
    from nasnet_det.classification.config import get_classification_config

    cfg = get_classification_config(config_file, opts)
    check_paths(cfg, "DATA.PATH")
    return cfg


def read_detector_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The detector's config, whose annotations are there."""
    from detectron2.data import MetadataCatalog

    import nasnet_det.detection as detection
    from nasnet_det.detection.run import check_names

    cfg = detection.get_config(config_file, opts)
    check_names(cfg)
    for split in ("TRAIN", "TEST"):
        if cfg.DATASETS[f"{split}_JSON"]:
            check_paths(cfg, f"DATASETS.{split}_JSON", f"DATASETS.{split}_IMAGES")
            continue
        for name in cfg.DATASETS[split]:
            path = MetadataCatalog.get(name).get("json_file")
            if path and not Path(path).is_file():
                raise ConfigError(
                    f"DATASETS.{split}: {name} has no file {path}; set DETECTRON2_DATASETS to the "
                    "folder of the data sets"
                )
    return cfg


def check_paths(cfg: CfgNode, *keys: str) -> None:
    """See that files and folders are there.

    Raises:
        ConfigError: one is not.
    """
    values = dict(flatten(cfg))
    for key in keys:
        if not values[key] or not Path(values[key]).exists():
            raise ConfigError(f"{key}: wanted a file or a folder, got {values[key]!r}")


READERS = {
    "search": read_search_config,
    "classifier": read_classifier_config,
    "detector": read_detector_config,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 after a mistake or a failure, 2 after a misuse, 130 after Ctrl-C."""
    options = parse_arguments(arguments)
    try:
        cfg = get_pipeline_config(options.config_file, options.opts)
        stages = plan_stages(cfg, READERS, TOOLS)
        if options.dry_run:
            print(describe_stages(stages, Path(cfg.OUTPUT_DIR)))
        else:
            run_stages(stages, Path(cfg.OUTPUT_DIR), tell=lambda line: print(line, flush=True))
    except (ValueError, ImportError) as error:
        print(f"pipeline.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pipeline.py: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
