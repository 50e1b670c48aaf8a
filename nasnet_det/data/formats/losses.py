"""What a conversion could not keep, and what was wrong in a source: counted, the first named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nasnet_det.data.error import DataError

NUM_EXAMPLES = 3


@dataclass
class Losses:
    """Kinds of losses in the order in which they came.

    Attributes:
        counts: kind -> how many.
        examples: kind -> the first of them.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str = "", *, count: int = 1) -> None:
        """Count something that is lost.

        Args:
            kind: a plural that can follow a number, such as ``polygons that become boxes``.
            example: where it was.
            count: how many.
        """
        if not count:
            return
        self.counts[kind] = self.counts.get(kind, 0) + count
        shown = self.examples.setdefault(kind, [])
        if example and len(shown) < NUM_EXAMPLES:
            shown.append(example)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def describe(self) -> list[str]:
        """One line a kind."""
        lines = []
        for kind, count in self.counts.items():
            shown = self.examples[kind]
            more = ", ..." if shown and count > len(shown) else ""
            lines.append(f"{count:,} {kind}" + (f" ({', '.join(shown)}{more})" if shown else ""))
        return lines

    def to_records(self) -> list[dict[str, Any]]:
        """One object of a JSON a kind."""
        return [
            {"what": kind, "count": count, "examples": self.examples[kind]}
            for kind, count in self.counts.items()
        ]


@dataclass
class Faults:
    """Faults of a source, collected so that all of them are told at once.

    Attributes:
        where: the source.
        texts: a sentence each, without its end.
    """

    where: str
    texts: list[str] = field(default_factory=list)

    def raise_any(self, num_files: int, kind: str) -> None:
        """Raise if there is one.

        Args:
            num_files: how many files were read.
            kind: what they are, a plural.

        Raises:
            DataError: there is; the first are named.
        """
        if self.texts:
            shown = "; ".join(self.texts[:NUM_EXAMPLES])
            raise DataError(
                f"{self.where}: {len(self.texts)} faults in {num_files} {kind}: "
                + " ".join(shown.split())  # a name may have lines
                + ("; ..." if len(self.texts) > NUM_EXAMPLES else "")
            )
