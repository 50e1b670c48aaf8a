"""Detectron2 publishes no package on PyPI. The package LabGym carries a copy of its Python code;
this takes the copy out of LabGym's wheel, gives it back its name, and installs it as an ordinary
wheel: pip uninstall detectron2 removes it. A Detectron2 that is there is left as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Install Detectron2 0.6 into this Python, unless it has a Detectron2 already."
EXAMPLES = ("", "--wheel labgym-3.1.2-py3-none-any.whl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``wheel``."""
    parser.add_argument(
        "--wheel", type=Path, metavar="FILE", help="LabGym's wheel, without a network"
    )


def run(options: argparse.Namespace) -> None:
    """Install."""
    from nasnet_det.detectron2_wheel import install_detectron2

    install_detectron2(options.wheel)
