"""The options of nasnet-det report for corrupted pictures, and what they do."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from nasnet_det.errors import InputError

if TYPE_CHECKING:
    from nasnet_det.report import DetectionRun


def add_corruption_arguments(parser: argparse.ArgumentParser) -> None:
    """``corruptions``, ``severities``, ``corruption_images``."""
    parser.add_argument(
        "--corruptions",
        nargs="*",
        metavar="NAME",
        help="evaluate on corrupted pictures too: fog, ...; without a name the benchmark's fifteen",
    )
    parser.add_argument(
        "--severities", nargs="+", type=int, metavar="N", help="of these, 1 to 5; all if not given"
    )
    parser.add_argument(
        "--corruption-images", type=int, metavar="N", help="so many pictures, evenly spread"
    )


def check_corruption_options(options: argparse.Namespace) -> None:
    """See that they can be obeyed; names and severities are filled in.

    Raises:
        InputError: they can't.
        MissingPackageError: the package that corrupts pictures is not installed.
    """
    if options.corruptions is None:
        for name in ("severities", "corruption_images"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name.replace('_', '-')}: wanted --corruptions with it")
        return
    from nasnet_det.data.corruptions import COMMON, SEVERITIES, check_corruptions

    options.corruptions = options.corruptions or list(COMMON)
    options.severities = options.severities or list(SEVERITIES)
    check_corruptions(options.corruptions, options.severities)
    if options.corruption_images is not None and options.corruption_images < 1:
        raise InputError(f"--corruption-images: wanted at least 1, got {options.corruption_images}")


def add_robustness(run: DetectionRun, options: argparse.Namespace) -> DetectionRun:
    """The run with what it reaches on corrupted pictures; a failure becomes a note.

    It computes in this process, so that what stops the command stops it as well; each score that is
    known by then is in the run's folder.
    """
    from nasnet_det.detection.robustness import measure_robustness

    def say(what: str) -> None:
        print(f"nasnet-det report: {run.folder}: {what}", file=sys.stderr, flush=True)

    number = options.corruption_images or 0
    try:
        found = measure_robustness(
            run.folder, options.corruptions, options.severities, num_images=number, progress=say
        )
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        fault = " ".join(str(error).split())
        note = f"It was not evaluated on corrupted pictures: {fault}."
        return replace(run, notes=(*run.notes, note))
    return replace(run, robustness=found)
