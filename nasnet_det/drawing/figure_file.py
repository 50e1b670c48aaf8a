"""Matplotlib's figures as files: the same figure always gives the same bytes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from nasnet_det.errors import InputError
from nasnet_det.runs.files import write_content

FORMATS = ("svg", "png", "pdf")
PNG_DPI = 150
# Text stays text in an SVG, and ids are not drawn at random.
SVG_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "nasnet_det"}


def check_format(path: str | os.PathLike[str]) -> str:
    """The format that a file's name asks for.

    Raises:
        InputError: there is no such format.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InputError(
            f"{os.fspath(path)}: wanted a name that ends with .svg, .png or .pdf, "
            f"got {suffix or 'no ending'!r}"
        )
    return suffix


def render_figure(figure: Figure, format: str, *, title: str = "") -> bytes:
    """A figure's file.

    Args:
        figure: what to draw.
        format: ``svg``, ``png`` or ``pdf``.
        title: written into the file.
    """
    buffer = io.BytesIO()
    # What matplotlib would fill in: the time, which changes with each run.
    date = {"svg": "Date", "pdf": "CreationDate"}.get(format)
    metadata = {"Title": title, **({date: None} if date else {})}
    with matplotlib.rc_context(SVG_SETTINGS):
        figure.savefig(buffer, format=format, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Write a figure in the format that the file's name ends with.

    Raises:
        InputError: there is no such format, or the file can't be written.
    """
    write_content(path, render_figure(figure, check_format(path), title=title))
