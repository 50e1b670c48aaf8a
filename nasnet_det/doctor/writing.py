"""Findings as a text for a person and as a JSON for a script."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasnet_det import __version__
from nasnet_det.doctor.findings import Examination, Finding, Level
from nasnet_det.runs.files import FileError, write_json

NUM_SHOWN = 5  # ids, names and classes in the text; all of them are in the JSON
WIDTH = 96


def describe(examinations: Sequence[Examination]) -> str:
    """The text of some examinations, and how much was found at the end."""
    lines = [line for examination in examinations for line in _describe(examination)]
    levels = [finding.level for examination in examinations for finding in examination.findings]
    counts = [f"{levels.count(level)} {_name(level)}s" for level in reversed(Level)]
    return "\n".join([*lines, f"found: {', '.join(counts)}"])


def _describe(examination: Examination) -> Iterator[str]:
    yield examination.title
    for name, value in examination.facts.items():
        yield from _wrap(f"{name}: {_shorten(value)}", "  ")
    for finding in examination.findings:
        text = f"{finding.kind}: {finding.text}"
        if finding.advice:
            text += f"; {finding.advice}"
        yield from _wrap(text, f"  {_name(finding.level):<8} ")
        if places := describe_places(finding):
            yield from _wrap(places, " " * 11)
    yield ""


def describe_places(finding: Finding) -> str:
    """The first ids and pictures of a finding; "" where it is about a whole file."""
    parts = []
    if finding.ids:
        parts.append(f"{finding.of} {_shorten(list(finding.ids))}")
    if finding.pictures:
        parts.append(_shorten([os.path.basename(path) for path in finding.pictures]))
    return "; ".join(parts)


def _wrap(text: str, start: str) -> list[str]:
    """Lines of one paragraph, indented to where the first one starts."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [start]


def _shorten(value: Any) -> str:
    if isinstance(value, Mapping):
        return _shorten([f"{name} {number}" for name, number in value.items()])
    if isinstance(value, list | tuple):
        more = f" and {len(value) - NUM_SHOWN} more" if len(value) > NUM_SHOWN else ""
        return ", ".join(map(str, value[:NUM_SHOWN])) + more
    return str(value)


def _name(level: Level) -> str:
    return level.name.lower()


def write_findings(path: str, examinations: Sequence[Examination]) -> None:
    """Write a JSON: all facts and findings, with all ids and pictures.

    Raises:
        FileError: it can't be written, or something lies there.
    """
    check_free(path)
    content = {
        "format": "nasnet_det.doctor",
        "version": 1,
        "nasnet_det": __version__,
        "examinations": [
            {
                "title": examination.title,
                "facts": dict(examination.facts),
                "findings": [_to_plain(finding) for finding in examination.findings],
            }
            for examination in examinations
        ],
    }
    write_json(path, content)


def check_free(path: str) -> None:
    """See that a file can be written, and that nothing lies there.

    Raises:
        FileError: it can't.
    """
    if os.path.lexists(path):
        raise FileError(f"{path} is there already; remove it, or give another name")
    if not os.path.isdir(folder := os.path.dirname(os.path.abspath(path))):
        raise FileError(f"{path} can't be written: there is no folder {folder}")


def _to_plain(finding: Finding) -> dict[str, Any]:
    return {
        "level": _name(finding.level),
        "kind": finding.kind,
        "file": finding.file,
        "text": finding.text,
        "of": finding.of,
        "ids": list(finding.ids),
        "pictures": list(finding.pictures),
        "advice": finding.advice,
    }
