"""What a training and an evaluation left behind in OUTPUT_DIR, read as it is.

=========================================  =================================================
``config.yaml``                            the final config
``run.json``                               each start: command, seed, versions, device
``metrics.json``                           a line of losses and scores every few iterations
``results.json``                           the last evaluation: iteration, data set, scores
``inference/coco_instances_results.json``  its detections (with several data sets, in a folder each)
``cost.json``                              parameters, multiply-adds, times, if it was measured
=========================================  =================================================

Only the first must be there. What else is missing or broken becomes a note, one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nasnet_det.config import flatten
from nasnet_det.errors import InputError

PREDICTIONS = "coco_instances_results.json"
COST = "cost.json"
COST_PARTS = ("trunk", "neck", "proposals", "region head")
COST_KEYS: dict[str, Any] = {
    "parameters": (*COST_PARTS, "all"),
    "multiply_adds": COST_PARTS,
    "ms_per_image": ("median", "low", "high"),
    "size": list,
    "regions": int | float,
    "peak_memory_mb": int | float | None,
    "device": str,
    "threads": int,
    "precision": str,
    "images": int,
}


class RunError(InputError):
    """A folder that holds no run; the message names it and says what was wanted."""


@dataclass
class DetectionRun:
    """One run.

    Attributes:
        folder: where it was read from.
        config: key -> value, such as ``MODEL.BACKBONE.NAME``.
        starts: entries of ``run.json``; the last is the newest.
        metrics: lines of ``metrics.json`` by iteration.
        results: ``results.json``; None without.
        dataset: the name of the data set of the evaluation; the first if there are several.
        cost: ``cost.json``; None without.
        notes: what is missing or wrong, one sentence each.
    """

    folder: Path
    config: dict[str, Any]
    starts: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] | None = None
    dataset: str = ""
    cost: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def evaluation(self) -> dict[str, Any]:
        """What ``results.json`` says of the data set; {} without an evaluation."""
        return (self.results or {}).get("datasets", {}).get(self.dataset, {})

    @property
    def predictions_path(self) -> Path | None:
        """The file of detections, if it is there."""
        folder = self.folder / "inference"
        for path in (folder / self.dataset.replace("/", "_") / PREDICTIONS, folder / PREDICTIONS):
            if path.is_file():
                return path
        return None

    @property
    def truth_path(self) -> str:
        """The data set's JSON that it was evaluated on; "" if unknown."""
        return str(self.evaluation.get("json_file") or "")

    @property
    def image_folder(self) -> str:
        """Where the images of the data set lay; "" if unknown."""
        named = self.evaluation.get("image_root") or self.config.get("DATASETS.TEST_IMAGES")
        return str(named or "")

    @property
    def num_iterations(self) -> int:
        """How many iterations the training did, as far as it wrote them down."""
        done = max((int(line["iteration"]) + 1 for line in self.metrics), default=0)
        # After the last iteration a line with the evaluation follows, which is none.
        return min(done, int(self.config.get("SOLVER.MAX_ITER", done)))


def read_run(folder: Path) -> DetectionRun:
    """Read a folder.

    Raises:
        RunError: there is no such folder, or it holds no run of ``tools/train_net.py``.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder")
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(
            f"{folder} holds no run: wanted the OUTPUT_DIR of tools/train_net.py, with a "
            "config.yaml in it"
        )
    try:
        config = dict(flatten(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"{path} can't be read ({' '.join(str(error).split())})") from None
    run = DetectionRun(folder, config)
    run.starts = _read_starts(run)
    run.metrics = _read_metrics(run)
    run.results = _read_object(run, "results.json", {"datasets": dict})
    run.cost = _read_object(run, COST, COST_KEYS)
    _name_dataset(run)
    _check_end(run)
    return run


def _read_starts(run: DetectionRun) -> list[dict[str, Any]]:
    try:
        starts = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
        found = [start for start in starts if isinstance(start.get("versions"), dict)]
    except FileNotFoundError:
        found = []
    except (OSError, ValueError, TypeError, AttributeError) as error:
        run.notes.append(f"run.json can't be read ({error}).")
        return []
    if not found:
        run.notes.append("There is no run.json: its seed, command and versions are unknown.")
    return found


def _read_metrics(run: DetectionRun) -> list[dict[str, Any]]:
    """The lines that are whole; where an iteration was done again, its last line."""
    path = run.folder / "metrics.json"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        run.notes.append("There is no metrics.json, so there are no training curves.")
        return []
    found: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[int(entry["iteration"])] = entry
        except (ValueError, TypeError, KeyError):  # torn by a kill
            continue
    return [found[iteration] for iteration in sorted(found)]


def _read_object(run: DetectionRun, name: str, keys: Mapping[str, Any]) -> dict[str, Any] | None:
    """An object with values of these types; a mapping must hold what the report shows of it."""
    try:
        data = json.loads((run.folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        run.notes.append(f"{name} can't be read ({error}).")
        return None
    wrong = [key for key, wanted in keys.items() if not _fits(data, key, wanted)]
    if wrong:
        run.notes.append(f"{name} is none of ours: it has no proper {wrong[0]!r}.")
        return None
    return data


def _fits(data: Any, key: str, wanted: Any) -> bool:
    if not isinstance(data, dict) or key not in data:
        return False
    value = data[key]
    if wanted is dict:  # of objects
        return isinstance(value, dict) and all(isinstance(v, dict) for v in value.values())
    if isinstance(wanted, tuple):  # of numbers by these names
        return isinstance(value, dict) and all(
            isinstance(value.get(part), int | float) for part in wanted
        )
    return isinstance(value, wanted)


def _name_dataset(run: DetectionRun) -> None:
    names = list((run.results or {}).get("datasets", {}))
    if not names:
        run.notes.append(
            "It has no evaluation (no results.json), so it has no scores; --evaluate evaluates it."
        )
        return
    run.dataset = names[0]
    if len(names) > 1:
        run.notes.append(
            f"It was evaluated on {len(names)} data sets ({', '.join(names)}); this is the first."
        )


def _check_end(run: DetectionRun) -> None:
    """Say whether the training came to its end, and whether its end was evaluated."""
    wanted, done = int(run.config.get("SOLVER.MAX_ITER", 0)), run.num_iterations
    if run.metrics and done < wanted and not (run.folder / "model_final.pth").is_file():
        run.notes.append(
            f"Its training was stopped: {done:,} of {wanted:,} iterations are done "
            "(train_net.py --resume goes on)."
        )
    iteration = (run.results or {}).get("iteration")
    if isinstance(iteration, int) and done and iteration + 1 < done:
        run.notes.append(
            f"Its last evaluation is of iteration {iteration + 1:,}, before the end at {done:,}."
        )
