"""``results.json`` and ``cost.json`` of a detector's run: written, read and checked here.

The first is of its last evaluation, the second of a measurement on one device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasnet_det.errors import InputError
from nasnet_det.runs.files import write_json
from nasnet_det.runs.record import RESULTS

COST = "cost.json"
PARTS = ("trunk", "neck", "proposals", "region head")
"""Of a detector. The trunk is the backbone without its FPN, which is the neck; ``proposals`` is the
RPN, or the head of a detector of one stage; ``region head`` is what runs on every region."""


class RecordError(InputError):
    """A file that is none of these; the message names it and says what is wrong."""


@dataclass(frozen=True)
class DatasetResults:
    """An evaluation on one data set.

    Attributes:
        json_file, json_sha256: the data set's JSON and its SHA-256, where known.
        image_root: where its images lie, where known.
        results: task -> metric -> value in percent, None where it is undefined.
    """

    json_file: str | None
    json_sha256: str | None
    image_root: str | None
    results: Mapping[str, Any]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatasetResults:
        """From JSON; what is missing is unknown."""
        json_file, digest, root = map(data.get, ("json_file", "json_sha256", "image_root"))
        return cls(json_file, digest, root, data.get("results") or {})


@dataclass(frozen=True)
class DetectorResults:
    """The last evaluation.

    Attributes:
        iteration: the last that the model was trained for, from 0; None if unknown.
        weights: the file that the model came from; "" where it was in memory.
        datasets: by name, in the order of the config.
    """

    iteration: int | None
    weights: str
    datasets: Mapping[str, DatasetResults]


def write_results(folder: Path, results: DetectorResults) -> None:
    """Write ``results.json``.

    Raises:
        FileError: it can't be written.
    """
    write_json(folder / RESULTS, asdict(results))


def read_results(folder: Path) -> DetectorResults | None:
    """Read ``results.json``; None where there is none.

    Raises:
        RecordError: it is broken.
    """
    data = _read_object(folder / RESULTS)
    if data is None:
        return None
    sets = data.get("datasets")
    if not isinstance(sets, dict) or not all(isinstance(row, dict) for row in sets.values()):
        raise RecordError(f"{RESULTS} is none of ours: it has no proper 'datasets'")
    iteration = data.get("iteration")
    return DetectorResults(
        iteration if isinstance(iteration, int) else None,
        str(data.get("weights") or ""),
        {name: DatasetResults.from_dict(row) for name, row in sets.items()},
    )


@dataclass(frozen=True)
class RuntimeCost:
    """What a detector reaches and takes in one runtime, on one device.

    Attributes:
        runtime, precision: such as ``openvino`` and ``int8``.
        ap: the COCO AP of boxes on the first test set in percent; None where it is undefined.
        ms_per_image, device, threads, images, weights: see :class:`DetectorCost`.
    """

    runtime: str
    precision: str
    ap: float | None
    ms_per_image: Mapping[str, float]
    device: str
    threads: int
    images: int
    weights: str


@dataclass(frozen=True)
class DetectorCost:
    """What a detector costs on one device.

    Attributes:
        parameters: of each of :data:`PARTS` and of ``all``, trainable or not.
        multiply_adds: of each part, for an image of ``size``; of the region head for *one* region.
        size: mean height and width of the images in pixels, as they go into the network.
        regions: their mean number in an image.
        ms_per_image: ``median``, ``low`` and ``high``, from the picture in memory to its boxes.
        peak_memory_mb: of the process, or on a GPU of torch; None where the system does not tell.
        device, threads, precision: on which it was measured.
        images: number of images.
        versions: of the software.
        is_noise: whether they were noise, in want of a data set.
        weights: name of the file.
        runtime: what computed the backbone.
        runtimes: what the detector reaches and takes in others.
    """

    parameters: Mapping[str, int]
    multiply_adds: Mapping[str, int]
    size: Sequence[int]
    regions: float
    ms_per_image: Mapping[str, float]
    peak_memory_mb: float | None
    device: str
    threads: int
    precision: str
    images: int
    versions: Mapping[str, str]
    is_noise: bool = False
    weights: str = ""
    runtime: str = "torch"
    runtimes: Sequence[RuntimeCost] = ()

    @property
    def total_multiply_adds(self) -> float:
        """Of an image: all parts, the region head as often as there are regions."""
        *others, head = (self.multiply_adds[part] for part in PARTS)
        return sum(others) + head * self.regions


_MS = ("median", "low", "high")
_TYPES: dict[str, Any] = {  # a tuple: numbers by these names
    "parameters": (*PARTS, "all"),
    "multiply_adds": PARTS,
    "size": list,
    "regions": int | float,
    "ms_per_image": _MS,
    "peak_memory_mb": int | float | None,
    "device": str,
    "threads": int,
    "precision": str,
    "images": int,
    "versions": dict,
}
_RUNTIME_TYPES: dict[str, Any] = {
    "runtime": str,
    "precision": str,
    "ap": int | float | None,
    "ms_per_image": _MS,
    "device": str,
    "threads": int,
    "images": int,
    "weights": str,
}


def write_cost(folder: Path, cost: DetectorCost) -> None:
    """Write ``cost.json``.

    Raises:
        FileError: it can't be written.
    """
    write_json(folder / COST, asdict(cost))


def read_cost(folder: Path) -> DetectorCost | None:
    """Read ``cost.json``; None where there is none.

    Raises:
        RecordError: it is broken.
    """
    data = _read_object(folder / COST)
    if data is None:
        return None
    return DetectorCost(
        **_select(data, _TYPES),
        is_noise=bool(data.get("is_noise")),
        weights=str(data.get("weights") or ""),
        runtime=str(data.get("runtime") or "torch"),
        runtimes=tuple(
            RuntimeCost(**_select(row, _RUNTIME_TYPES)) for row in data.get("runtimes") or ()
        ),
    )


def _select(data: Any, types: Mapping[str, Any]) -> dict[str, Any]:
    """The values of these keys.

    Raises:
        RecordError: one is missing, or of another type.
    """
    for key, wanted in types.items():
        if not (isinstance(data, dict) and key in data and _fits(data[key], wanted)):
            raise RecordError(f"{COST} is none of ours: it has no proper {key!r}")
    return {key: data[key] for key in types}


def _fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, tuple):
        return isinstance(value, wanted)
    return isinstance(value, dict) and all(
        isinstance(value.get(name), int | float) for name in wanted
    )


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path.name} can't be read ({error})") from None
    if not isinstance(data, dict):
        raise RecordError(f"{path.name} is none of ours: wanted an object")
    return data
