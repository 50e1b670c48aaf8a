"""Arguments of several verbs, in Detectron2's habit: ``--config-file FILE ... KEY VALUE``."""

from __future__ import annotations

import argparse


def add_config_arguments(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """``--config-file`` and the pairs after it."""
    parser.add_argument(
        "--config-file", default="", required=required, metavar="FILE", help="a path or a name"
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="values in place of the config's"
    )


def add_resume_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """``--resume``, which Ctrl-C advises."""
    parser.add_argument("--resume", action="store_true", help=f"go on from {what}")
    parser.set_defaults(interrupted=f"--resume goes on from {what}")


def add_runtime_argument(parser: argparse.ArgumentParser) -> None:
    """``--runtime``, short for keys of ``TEST.RUNTIME``."""
    parser.add_argument(
        "--runtime",
        metavar="NAME[:PRECISION]",
        help="torch, onnxruntime or openvino; in float32, bfloat16 or int8 (TEST.RUNTIME)",
    )
