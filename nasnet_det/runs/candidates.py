"""Candidates of a search for detectors as plain values, and the task that they are trained for.

The search makes them, the detectors' stage builds and trains them, and a report reads what came of
them from ``front.json``, which is written, read and checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.runs.files import write_json

FRONT = "front.json"
FORMAT = "nasnet_det front 1"


class FrontError(InputError):
    """A ``front.json`` that can't be used; the message names it and says why."""


@dataclass(frozen=True)
class Candidate:
    """A backbone and the size of its pictures.

    Attributes:
        name: of its own, fit for a folder.
        min_size: to which the short side of a picture is resized, in pixels.
        depth: of a ResNet; 0 for a NASNet.
        num_cells_per_stage, channels: of a NASNet.
        genotype: of a NASNet; its cells.
        is_known: one to compare with, not one that the search found.
    """

    name: str
    min_size: int
    depth: int = 0
    num_cells_per_stage: int = 0
    channels: int = 0
    genotype: Genotype | None = None
    is_known: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        cells = self.genotype and self.genotype.to_dict()
        return {**self.__dict__, "genotype": cells}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """From what :meth:`to_dict` gave."""
        cells = data.get("genotype")
        genotype = Genotype.from_dict(cells, str(data["name"])) if cells else None
        return cls(**{**data, "genotype": genotype})


@dataclass(frozen=True)
class DetectorTask:
    """What detectors are trained for, and how; plain values, as it goes to other processes.

    Attributes:
        config: the detector's config file, a path or a name.
        train_json, test_json: COCO JSONs, of the training and of the held-out pictures.
        images: the folder that their file names start from.
    """

    config: str
    train_json: str
    test_json: str
    images: str


class Speeds(NamedTuple):
    """Seconds that a detector takes: to be built, for an iteration, and for a held-out picture."""

    setup: float
    iteration: float
    picture: float


@dataclass(frozen=True)
class Latency:
    """How long a fused detector takes for one picture.

    Attributes:
        ms: median.
        low, high: quartiles.
        runs: how many were measured.
        device: its name.
        threads: of torch.
    """

    ms: float
    low: float
    high: float
    runs: int
    device: str
    threads: int


@dataclass(frozen=True)
class Trained:
    """A candidate after a rung.

    Attributes:
        candidate: what was trained.
        values: goal -> value; shares from 0 to 1, multiply-adds, parameters, milliseconds.
        seconds: of its training.
        latency: where that is a goal.
        failure: why it has no values; "" if it has.
        runs: names of its trainings, each with a seed of its own, of which the AP is the mean.
    """

    candidate: Candidate
    values: Mapping[str, float]
    seconds: float
    latency: Latency | None = None
    failure: str = ""
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Front:
    """What a search for detectors found.

    Attributes:
        goals: in the order of the config.
        rungs: what was trained in each, the last with the candidates of the front.
        names: of the candidates of the front.
        iterations: of the detectors in each rung from the second on.
        task: what they were trained for.
        plan: what was planned and spent, in seconds.
        config: keys and values of the search.
    """

    goals: tuple[str, ...]
    rungs: tuple[tuple[Trained, ...], ...]
    names: tuple[str, ...]
    iterations: tuple[int, ...]
    task: DetectorTask
    plan: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def write_front(folder: Path, front: Front) -> None:
    """Write ``front.json``.

    Raises:
        FileError: it can't be written.
    """
    rungs = [
        [{**asdict(one), "candidate": one.candidate.to_dict()} for one in rung]
        for rung in front.rungs
    ]
    content = {"format": FORMAT, **front.__dict__, "rungs": rungs, "task": asdict(front.task)}
    write_json(folder / FRONT, content)


def read_front(folder: Path) -> Front:
    """Read ``front.json``.

    Raises:
        FrontError: there is none, or it is broken.
    """
    path = folder / FRONT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise FrontError(f"{path}: wanted the format {FORMAT!r}")
        rungs = tuple(tuple(map(_read_trained, rung)) for rung in data["rungs"])
        lists = {key: tuple(data[key]) for key in ("goals", "names", "iterations")}
        return Front(**{**data, **lists, "rungs": rungs, "task": DetectorTask(**data["task"])})
    except FileNotFoundError:
        raise FrontError(f"{folder} has no {FRONT}: its search has not come to its end") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, FrontError):
            raise
        reason = " ".join(str(error).split())
        raise FrontError(f"{path} can't be read as a front ({reason:.200})") from None


def _read_trained(data: Mapping[str, Any]) -> Trained:
    latency = data["latency"] and Latency(**data["latency"])
    candidate = Candidate.from_dict(data["candidate"])
    rest = {"candidate": candidate, "latency": latency, "runs": tuple(data["runs"])}
    return Trained(**{**data, **rest})
