"""The environment is always looked at. A data set is two words, its JSON and the folder of its
pictures; of several --train or --val, all are compared with each other. The status is 1 where an
error was found: a training would stop, or its result would not mean what it seems to. Warnings and
notes leave it 0.
"""

from __future__ import annotations

import argparse

SUMMARY = "Say what is wrong with the environment and with data sets, before a training."
EXAMPLES = (
    "",
    "--train train.json photos/ --val val.json photos/ --contact-sheet sheet.jpg",
    "--train train.json photos/ --quick --json findings.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``train``, ``val``, ``quick``, ``json`` and ``contact_sheet``."""
    for name, what in (("train", "trained"), ("val", "evaluated")):
        parser.add_argument(
            f"--{name}",
            nargs=2,
            action="append",
            default=[],
            metavar=("JSON", "IMAGES"),
            help=f"a data set that is {what} on",
        )
    parser.add_argument(
        "--quick", action="store_true", help="read headers of pictures only: none is decoded"
    )
    parser.add_argument("--json", metavar="FILE", help="write all findings, with all ids")
    parser.add_argument(
        "--contact-sheet", metavar="FILE", help="draw pictures of the first set with their boxes"
    )


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

    sets = [DataFiles(*paths) for paths in options.train]
    sets += [DataFiles(*paths, is_train=False) for paths in options.val]
    if options.contact_sheet and not sets:
        options.parser.error("--contact-sheet: wanted a data set, by --train or --val")
    if options.contact_sheet:
        find_format(options.contact_sheet)
    for path in filter(None, (options.json, options.contact_sheet)):
        check_free(path)
    examined = examine_datasets(sets, decode=not options.quick)
    found = [examine_environment(), *examined]
    print(describe(found))
    if options.json:
        write_findings(options.json, found)
    if options.contact_sheet:
        write_contact_sheet(options.contact_sheet, sets[0], examined[0].findings)
    return int(any(one.worst == Level.ERROR for one in found))
