"""What an examination finds: values, which a text and a JSON present."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Level(enum.IntEnum):
    """How bad a finding is."""

    NOTE = 0
    """Worth knowing; nothing has to be done."""
    WARNING = 1
    """Something is left out, or looks like a mistake."""
    ERROR = 2
    """A training or an evaluation stops, or its result would not mean what it seems to."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: how bad it is.
        kind: one word for a script, such as ``missing_picture``.
        file: where it was found: the JSON, the config, the weights; "" for the environment.
        text: a sentence, without the file and without the ids.
        of: what the ids are of: ``annotations``, ``images``, ``categories`` or "".
        ids: as the file has them, of all entries that are meant.
        pictures: paths of all pictures that are meant.
        advice: what to do; "" where that is plain.
    """

    level: Level
    kind: str
    file: str
    text: str
    of: str = ""
    ids: Sequence[Any] = ()
    pictures: Sequence[str] = ()
    advice: str = ""


@dataclass(frozen=True)
class Examination:
    """What was looked at, and what was found.

    Attributes:
        title: of what: the environment, a file.
        facts: name -> value, in the order in which a person reads them.
        findings: the worst first.
    """

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()

    @property
    def worst(self) -> Level | None:
        """The level of the worst finding; None without one."""
        return max((finding.level for finding in self.findings), default=None)


def sort_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first, otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: -finding.level))
