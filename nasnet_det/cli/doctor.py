"""The environment is always looked at. A data set is two words, its JSON and the folder of its
pictures, or what else nasnet-det convert-data reads, such as the folder of a Pascal VOC set. All
sets are compared with each other. Of a config it says what it builds, what differs from its base,
and what a step of a training costs; its data sets are looked at, unless others are given. The
status is 1 where an error was found: a training would stop, or its result would not mean what it
seems to. Warnings and notes leave it 0.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nasnet_det.cli.arguments import add_config_arguments

if TYPE_CHECKING:
    from nasnet_det.doctor import DataFiles, Examination

SUMMARY = "Say what is wrong with the environment, data sets, a config and weights."
EXAMPLES = (
    "",
    "--train train.json photos/ --val val.json photos/ --contact-sheet sheet.jpg",
    "--train VOC2007 --val VOC2007 --quick --json findings.json",
    "--config-file my.yaml --weights output/model_best.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``train``, ``val``, ``config_file``, ``opts``, ``weights``, ``quick``, ``json`` and
    ``contact_sheet``."""
    add_config_arguments(parser)
    for name, what in (("train", "trained"), ("val", "evaluated")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="append",
            default=[],
            metavar="PATH",
            help=f"a data set that is {what} on",
        )
    parser.add_argument("--weights", metavar="FILE", help="as MODEL.WEIGHTS of the config")
    parser.add_argument(
        "--quick", action="store_true", help="read headers of pictures only: none is decoded"
    )
    parser.add_argument("--json", metavar="FILE", help="write all findings, with all ids")
    parser.add_argument(
        "--contact-sheet", metavar="FILE", help="draw pictures of the first set with their boxes"
    )


def check_words(options: argparse.Namespace, name: str) -> list[list[str]]:
    """One or two words for each set."""
    given: list[list[str]] = getattr(options, name)
    for words in given:
        if len(words) > 2:
            options.parser.error(f"--{name}: wanted JSON IMAGES, or one folder, got {words}")
    return given


def run(options: argparse.Namespace) -> int:
    """Print what was found; 1 where an error is among it."""
    from nasnet_det.doctor import (
        DataFiles,
        Level,
        check_free,
        describe,
        examine_datasets,
        examine_environment,
        find_format,
        write_contact_sheet,
        write_findings,
    )

    sets = [
        DataFiles(json, "".join(images), is_train=name == "train")
        for name in ("train", "val")
        for json, *images in check_words(options, name)
    ]
    if options.contact_sheet and not sets:
        options.parser.error("--contact-sheet: wanted a data set, by --train or --val")
    if options.contact_sheet:
        find_format(options.contact_sheet)
    for path in filter(None, (options.json, options.contact_sheet)):
        check_free(path)
    found = [examine_environment()]
    settings: dict[str, Any] = {}
    if options.config_file or options.opts or options.weights:
        sets, settings, of_detector = examine_detector(options, sets)
        found += of_detector
    examined = examine_datasets(sets, decode=not options.quick, **settings)
    found += examined
    print(describe(found))
    if options.json:
        write_findings(options.json, found)
    if options.contact_sheet:
        write_contact_sheet(options.contact_sheet, sets[0], examined[0].findings)
    return int(any(one.worst == Level.ERROR for one in found))


def examine_detector(
    options: argparse.Namespace, sets: list[DataFiles]
) -> tuple[list[DataFiles], dict[str, Any], list[Examination]]:
    """Look at the config and the weights.

    Returns:
        the data sets to look at, how the config sees them, and what was found.
    """
    from nasnet_det.detection import get_config
    from nasnet_det.detection.examination import (
        examine_config,
        examine_weights,
        find_scale,
        list_data_files,
    )

    pairs = list(options.opts)
    for files in reversed(sets):  # so that the first of each kind stays
        split = "TRAIN" if files.is_train else "TEST"
        pairs += [f"DATASETS.{split}_JSON", files.json, f"DATASETS.{split}_IMAGES", files.images]
    cfg = get_config(options.config_file, pairs)
    settings = {
        "scale": find_scale(cfg, options.config_file),
        "with_shapes": cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON,
    }
    found = [examine_config(cfg, options.config_file)]
    if options.weights:
        found.append(examine_weights(cfg, options.weights))
    return sets or list_data_files(cfg), settings, found
