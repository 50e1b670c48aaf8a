"""Every stage is one of the other commands (search with the retraining of its best, its report,
train-classifier, export-backbone, train, its --eval-only, its report) and has its folder in
OUTPUT_DIR. Run again, a stage that is done is skipped and one that was interrupted goes on; where
its config or what it reads has changed, it is made anew, and its old folder is kept beside it.
OUTPUT_DIR/pipeline.json is the record. KEY VALUE pairs of a stage have its name in front. A mistake
in any stage's config is reported before the first one starts.
"""

from __future__ import annotations

import argparse

from nasnet_det.cli.arguments import add_config_arguments

SUMMARY = "The whole chain: search, classifier, backbone, detector, evaluation, reports."
EXAMPLES = (
    "--config-file pipelines/cifar10_cpu_bccd.yaml --dry-run",
    "--config-file pipelines/paper.yaml search.SEARCH.DATA.PATH /data/cifar10 "
    "classifier.DATA.PATH /data/imagenet",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``config_file``, ``dry_run`` and ``opts``."""
    add_config_arguments(parser, required=True)
    parser.add_argument("--dry-run", action="store_true", help="only print the stages")
    parser.set_defaults(interrupted="the same command goes on")


def run(options: argparse.Namespace) -> None:
    """Run the stages, or print them."""
    from nasnet_det.pipeline import describe, get_pipeline_config, run

    cfg = get_pipeline_config(options.config_file, options.opts)
    if options.dry_run:
        print(describe(cfg))
    else:
        run(cfg, tell=lambda line: print(line, flush=True))
