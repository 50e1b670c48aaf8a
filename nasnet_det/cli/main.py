"""The command: its verbs, and the one place where a mistake becomes a sentence.

The status is 0; 1 after a mistake, with a sentence on standard error; 2 after one in the arguments;
130 after Ctrl-C, 143 after SIGTERM, of which trainings save what they have done.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from nasnet_det import __version__
from nasnet_det.errors import InputError
from nasnet_det.runs.signals import stop_on_sigterm

PROGRAM = "nasnet-det"
VERBS = (
    *("describe", "search", "train-classifier", "export-backbone", "export", "train", "predict"),
    *("draw-training", "find-lr", "find-batch-size"),
    *("report", "pipeline", "doctor", "convert-data", "split", "crops"),
    *("convert-weights", "verify-weights", "install-detectron2"),
)
NUMBER = re.compile(r"-\.?\d")  # a value such as -1e-5, which is no option


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Report ``message``, of all processes that torchrun started once, and leave with 2."""
        if os.environ.get("RANK", "0") == "0":
            complain(self.prog, message)
        sys.exit(2)


def complain(program: str, message: str) -> None:
    """Say what is wrong on standard error."""
    print(f"{program}: {message}", file=sys.stderr, flush=True)


def build_parser() -> Parser:
    """The parser of the whole command. A verb is a module here with ``SUMMARY``, ``EXAMPLES``,
    ``add_arguments`` and ``run``."""
    parser = Parser(
        prog=PROGRAM,
        description="NASNet detectors: search for cells, train classifiers and detectors, report.",
        epilog=f"{PROGRAM} VERB --help says more, with examples",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        module = import_module(f"nasnet_det.cli.{verb.replace('-', '_')}")
        examples = "\n".join(f"  {PROGRAM} {verb} {words}" for words in module.EXAMPLES)
        own = verbs.add_parser(
            verb,
            help=module.SUMMARY[0].lower() + module.SUMMARY[1:].rstrip("."),
            description=f"{module.SUMMARY}\n\n{(module.__doc__ or '').strip()}",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(own)
        own.set_defaults(run=module.run, parser=own)
    return parser


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The options of a verb. KEY VALUE pairs may stand between other options."""
    options, rest = build_parser().parse_known_args(words)
    unknown = [word for word in rest if word.startswith("-") and not NUMBER.match(word)]
    if unknown or (rest and "opts" not in options):
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.opts = [*options.opts, *rest]
    options.command = [PROGRAM, *words]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its status.

    Args:
        arguments: the words after the command's name; None for those of this process.
    """
    if sys.stdout.errors == "strict" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of files whose names are no Unicode
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    program = f"{PROGRAM} {options.verb}"
    # fvcore, which Detectron2 imports, calls it; its users can do nothing about it.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    with stop_on_sigterm():
        try:
            return options.run(options) or 0
        except (InputError, OSError) as error:
            complain(program, str(error))
            return 1
        except KeyboardInterrupt as stop:
            advice = "" if getattr(stop, "what_now", "") else getattr(options, "interrupted", "")
            complain(program, f"{str(stop) or 'interrupted'}{advice and '; '}{advice}")
            return getattr(stop, "status", 130)
