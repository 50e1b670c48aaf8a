"""Trainings whose configs differ in nothing but seed and device, put together."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.scores import METRICS

MAY_DIFFER = ("SEED", "MODEL.DEVICE", "OUTPUT_DIR")


def group_seeds(runs: Sequence[DetectionRun], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Two or more trainings of one config, evaluated after as many iterations on the same data.

    Args:
        runs: in the order of ``rows``.
        rows: ``runs`` of ``report.json``.

    Returns:
        for each such group, in the order of its first run: ``name``, ``runs`` (their names),
        ``seeds``, and of each score in percent ``mean``, ``low``, ``high`` and ``std`` (over the
        trainings, divided by one less than their number), or None where a training has none.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run, row in zip(runs, rows, strict=True):
        if row["scores"]:
            key = _describe(run, row)
            groups.setdefault(key, []).append(row)
    members = [group for group in groups.values() if len(group) > 1]
    names = [_name(group) for group in members]
    return [
        {
            "name": name if names.count(name) == 1 else ", ".join(row["name"] for row in group),
            "runs": [row["name"] for row in group],
            "seeds": [row["provenance"]["seed"] for row in group],
            "scores": {m: _spread([row["scores"][m]["value"] for row in group]) for m in METRICS},
        }
        for name, group in zip(names, members, strict=True)
    ]


def _describe(run: DetectionRun, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What trainings of one group have in common."""
    config = sorted((key, str(v)) for key, v in run.config.items() if key not in MAY_DIFFER)
    return (*config, row["data"]["sha256"], row["provenance"]["evaluated_iteration"])


def _name(group: Sequence[Mapping[str, Any]]) -> str:
    """``resnet_50`` for ``resnet_50_10`` and ``resnet_50_11``."""
    names = [row["name"] for row in group]
    beginning = os.path.commonprefix(names)  # noqa: RUF071 - characters are wanted
    if any(name[len(beginning) :][:1].isdigit() for name in names):  # 1 of 10 and 11
        beginning = beginning.rstrip("0123456789")
    return beginning.rstrip("_-./ ") or ", ".join(names)


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return {
        "mean": statistics.fmean(known),
        "low": min(known),
        "high": max(known),
        "std": statistics.stdev(known),
    }
