"""``corruptions.json`` of a detector's run: written, read and checked here.

It has the AP on pictures that were corrupted, one number for each corruption and severity. It is
written after each of them, so that a measurement goes on where it was stopped.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nasnet_det.runs.detector_files import RecordError
from nasnet_det.runs.files import write_json

FILE = "corruptions.json"
FORMAT = "nasnet_det corruptions 1"


@dataclass(frozen=True)
class Corrupted:
    """A corruption, its severity from 1 to 5, and the AP of boxes there in percent."""

    corruption: str
    severity: int
    ap: float | None


@dataclass(frozen=True)
class Robustness:
    """What a detector reaches on corrupted pictures, in percent.

    Attributes:
        weights: name of the file.
        identity: SHA-256 of the weights and the config.
        dataset: name of the test set.
        json_sha256: of its JSON.
        images: how many pictures of it, evenly spread.
        package: what corrupted them, with its version.
        clean: AP of boxes on the pictures as they are; None where it is undefined.
        scores: one for each corruption and severity.
    """

    weights: str
    identity: str
    dataset: str
    json_sha256: str
    images: int
    package: str
    clean: float | None = None
    scores: tuple[Corrupted, ...] = ()

    @property
    def mean(self) -> float | None:
        """mPC of arXiv 1907.07484: the mean AP over corruptions and severities."""
        values = [row.ap for row in self.scores]
        known = [value for value in values if value is not None]
        return statistics.mean(known) if known and len(known) == len(values) else None

    @property
    def relative(self) -> float | None:
        """rPC: ``mean`` in percent of ``clean``."""
        if self.mean is None or not self.clean:
            return None
        return 100 * self.mean / self.clean

    @property
    def corruptions(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(row.corruption for row in self.scores))

    @property
    def severities(self) -> list[int]:
        """All that were measured."""
        return sorted({row.severity for row in self.scores})

    def find(self, corruption: str, severity: int) -> Corrupted | None:
        """A score that is there."""
        wanted = (corruption, severity)
        return next((row for row in self.scores if wanted == (row.corruption, row.severity)), None)

    def select(self, names: Sequence[str], severities: Sequence[int]) -> Robustness:
        """Those that are there of these, in this order."""
        found = (self.find(name, severity) for name in names for severity in severities)
        return replace(self, scores=tuple(row for row in found if row))

    def is_same(self, other: Robustness) -> bool:
        """Whether both are of the same weights, pictures and package."""
        return replace(self, clean=None, scores=()) == replace(other, clean=None, scores=())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = asdict(self)
        scores = own.pop("scores")
        return {**own, "mean": self.mean, "relative": self.relative, "scores": list(scores)}


def write_robustness(folder: Path, robustness: Robustness) -> None:
    """Write ``corruptions.json``.

    Raises:
        FileError: it can't be written.
    """
    write_json(folder / FILE, {"format": FORMAT, **robustness.to_dict()})


def read_robustness(folder: Path) -> Robustness | None:
    """Read ``corruptions.json``; None where there is none.

    Raises:
        RecordError: it is broken.
    """
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{FILE} can't be read ({error})") from None
    try:
        if data["format"] != FORMAT:
            raise ValueError
        texts = ("weights", "identity", "dataset", "json_sha256", "package")
        return Robustness(
            **{name: str(data[name]) for name in texts},
            images=int(data["images"]),
            clean=_read_number(data["clean"]),
            scores=tuple(
                Corrupted(str(row["corruption"]), int(row["severity"]), _read_number(row["ap"]))
                for row in data["scores"]
            ),
        )
    except (LookupError, TypeError, ValueError):
        raise RecordError(f"{FILE} is none of ours; remove it") from None


def _read_number(value: Any) -> float | None:
    return None if value is None else float(value)
