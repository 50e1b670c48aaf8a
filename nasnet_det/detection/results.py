"""A detector's results as a folder has them, and beside those that its config expects."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.evaluation.testing import flatten_results_dict

from nasnet_det.errors import InputError
from nasnet_det.runs.record import RESULTS


class ResultsError(InputError):
    """Results that are not the expected ones; ``got`` are all of them."""


def read_results(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The last evaluation in an ``OUTPUT_DIR``.

    Returns:
        task -> metric -> value, NaN where it is undefined; with several sets, set -> task -> ...
    """

    def undo(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: undo(item) for key, item in value.items()}
        return math.nan if value is None else value

    content = json.loads(Path(folder, RESULTS).read_text())["datasets"]
    of_sets = {name: undo(data["results"]) for name, data in content.items()}
    return next(iter(of_sets.values())) if len(of_sets) == 1 else of_sets


def check_results(expected: Sequence[Sequence[Any]], results: dict[str, Any]) -> None:
    """Compare with ``TEST.EXPECTED_RESULTS``: task, metric, value and tolerance each.

    Raises:
        ResultsError: some are not the expected ones.
    """
    flat = flatten_results_dict(results)
    faults = []
    for task, metric, wanted, tolerance in expected:
        got = flat.get(f"{task}/{metric}", math.nan)
        if not abs(got - wanted) <= tolerance:  # NaN is never right
            faults.append(f"{task}/{metric}: wanted {wanted} +- {tolerance}, got {got:.4f}")
    if faults:
        key = "TEST.EXPECTED_RESULTS"
        raise ResultsError(f"{key}: {'; '.join(faults)}", where=key, wanted=expected, got=results)
