"""The numbers of a report, as ``report.json`` holds them.

Scores are in percent, as Detectron2 writes them; null is what can't be known, for example APs where
the data set has no small object. An interval is ``[low, high]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import nasnet_det
from nasnet_det.report.config_difference import find_differences
from nasnet_det.report.detection.calibration import summarize_calibration
from nasnet_det.report.detection.errors import summarize_errors
from nasnet_det.report.detection.evaluation import Evaluation, find_data_difference
from nasnet_det.report.detection.intervals import (
    LEVEL,
    Interval,
    find_difference_interval,
    find_score_interval,
)
from nasnet_det.report.detection.run_folder import DetectionRun
from nasnet_det.report.detection.scores import METRICS
from nasnet_det.report.detection.seeds import group_seeds
from nasnet_det.runs.keys import Effect, get_effect

FORMAT = "nasnet_det detection report 1"
OF_CATEGORY = ("AP", "AP50", "AP75", "AR100")


def summarize(
    runs: Sequence[DetectionRun], names: Sequence[str], evaluations: Sequence[Evaluation | None]
) -> dict[str, Any]:
    """The content of ``report.json``."""
    found = [e for e in evaluations if e is not None]
    rows = [
        summarize_run(run, name, evaluation)
        for run, name, evaluation in zip(runs, names, evaluations, strict=True)
    ]
    return {
        "format": FORMAT,
        "version": nasnet_det.__version__,
        "interval_level": LEVEL,
        "draws": len(found[0].draws.overall["AP"]) if found else None,
        "runs": rows,
        "seeds": group_seeds(runs, rows),
        "comparisons": compare_runs(names, evaluations),
        "config_differences": {
            key: values
            for key, values in find_differences(runs).items()
            if get_effect("detector", key) is not Effect.NOTHING
        },
    }


def name_runs(runs: Sequence[DetectionRun]) -> list[str]:
    """A different name for each run: that of its folder, with its parents' where it must be."""
    paths = [run.folder.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        twice = next(
            run.folder for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1
        )
        raise ValueError(f"{twice}: give this run once")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths have different names")


def summarize_run(run: DetectionRun, name: str, evaluation: Evaluation | None) -> dict[str, Any]:
    """The numbers of one run."""
    last = run.starts[-1] if run.starts else {}
    out = {
        "name": name,
        "folder": str(run.folder),
        "training": {
            "iterations": run.num_iterations,
            "max_iterations": run.config.get("SOLVER.MAX_ITER"),
            "starts": len(run.starts),
        },
        "provenance": {
            "seed": last.get("seed"),
            "command": last.get("command"),
            "git_commit": last.get("git_commit"),
            "device": last.get("device"),
            "versions": last.get("versions") or {},
            "time": last.get("time"),
            "evaluated_iteration": _count(run.results, "iteration"),
            "evaluated_weights": (run.results or {}).get("weights") or None,
        },
        "cost": run.cost,
        "data": None,
        "scores": None,
        "categories": None,
        "errors": None,
        "calibration": None,
    }
    if evaluation is not None:
        out |= _summarize_evaluation(run, evaluation)
    return out | {"notes": list(run.notes)}


def _count(results: dict[str, Any] | None, key: str) -> int | None:
    value = (results or {}).get(key)
    return value + 1 if isinstance(value, int) else None


def _summarize_evaluation(run: DetectionRun, evaluation: Evaluation) -> dict[str, Any]:
    truth, matches = evaluation.truth, evaluation.matches
    number = matches.num_objects[0].sum(axis=1)
    return {
        "data": {
            "name": run.dataset,
            "json_file": truth.path,
            "sha256": truth.sha256,
            "images": len(truth.image_ids),
            "objects": int((~truth.is_crowd).sum()),
            "crowds": int(truth.is_crowd.sum()),
            "categories": len(truth.category_ids),
            "detections": evaluation.num_detections,
        },
        "scores": {
            name: _score(
                evaluation.scores.overall[name][0],
                evaluation.draws.overall[name],
                matches.num_images,
            )
            for name in METRICS
        },
        "categories": [
            {
                "id": truth.category_ids[k],
                "name": truth.category_names[k],
                "objects": int(number[k]),
                **{
                    name: _score(
                        evaluation.scores.of_categories[name][k, 0],
                        evaluation.draws.of_categories[name][k],
                        matches.num_images,
                    )
                    for name in OF_CATEGORY
                },
            }
            for k in range(len(truth.category_ids))
        ],
        "errors": _in_percent(summarize_errors(truth, matches, evaluation.errors)),
        "calibration": summarize_calibration(matches),
    }


def _score(value: float, draws: np.ndarray, num_images: int) -> dict[str, Any]:
    """A score from 0 to 1 and its interval, in percent."""
    return _write(value, find_score_interval(value, draws, num_images))


def _difference(value: float, draws: np.ndarray, num_images: int) -> dict[str, Any]:
    """A difference of scores and its interval, in percent."""
    return _write(value, find_difference_interval(draws, num_images))


def _write(value: float, interval: Interval | None) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"value": None, "interval": None}
    ends = None if interval is None else [100 * end for end in interval]
    return {"value": 100 * float(value), "interval": ends}


def _in_percent(value: Any) -> Any:
    """Errors with all ``ap50`` in percent."""
    if not isinstance(value, dict):
        return value
    return {
        key: 100 * item if key == "ap50" and item is not None else _in_percent(item)
        for key, item in value.items()
    }


def compare_runs(
    names: Sequence[str], evaluations: Sequence[Evaluation | None]
) -> list[dict[str, Any]]:
    """Each run against the first that was evaluated: the differences, or why there are none.

    A difference is the run's score minus the first's.
    """
    pairs = [(name, e) for name, e in zip(names, evaluations, strict=True) if e is not None]
    if not pairs:
        return []
    (base_name, base), *others = pairs
    out = []
    for name, other in others:
        reason = find_data_difference(base.truth, other.truth)
        row: dict[str, Any] = {"run": name, "minus": base_name, "reason": reason or None}
        if not reason:
            row |= _subtract(base, other)
        out.append(row)
    return out


def _subtract(base: Evaluation, other: Evaluation) -> dict[str, Any]:
    """Differences of all metrics, and of each category's AP."""
    num_images = base.matches.num_images

    def differ(metric: str) -> dict[str, Any]:
        points, draws = (
            getattr(other, key).overall[metric] - getattr(base, key).overall[metric]
            for key in ("scores", "draws")
        )
        return _difference(points[0], draws, num_images)

    points, draws = (
        getattr(other, key).of_categories["AP"] - getattr(base, key).of_categories["AP"]
        for key in ("scores", "draws")
    )
    return {
        "scores": {metric: differ(metric) for metric in METRICS},
        "categories": {
            name: _difference(points[k, 0], draws[k], num_images)
            for k, name in enumerate(base.truth.category_names)
        },
    }
