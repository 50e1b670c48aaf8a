"""The candidates of the last rung with intervals, and whether the search beat known backbones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasnet_det.report.detection.evaluation import Evaluation, evaluate_run
from nasnet_det.report.detection.intervals import Estimate, estimate_difference, estimate_score
from nasnet_det.report.detection.run_folder import RunError, read_run
from nasnet_det.runs.candidates import Front, Trained

COSTS = ("latency_ms", "macs", "params")
"""Goals that the AP is shown against, the first that there is."""
UNITS = {"latency_ms": "time", "macs": "multiply-adds", "params": "parameters"}


@dataclass(frozen=True)
class Point:
    """A candidate of the last rung.

    Attributes:
        trained: what came of it.
        is_on_front: no other beats it in all goals.
        ap: in percent, with its interval over the held-out pictures.
        cost: milliseconds, multiply-adds or parameters; 0 where AP is the only goal.
        evaluation: its detections; None where they are gone.
    """

    trained: Trained
    is_on_front: bool
    ap: Estimate
    cost: float
    evaluation: Evaluation | None

    @property
    def name(self) -> str:
        """Of the candidate."""
        return self.trained.candidate.name


@dataclass(frozen=True)
class Verdict:
    """Whether the search beat the known backbones.

    Attributes:
        has_won: a found detector has surely a higher AP than a known one that no other known one
            beats, at no more cost.
        sentence: says it.
    """

    has_won: bool
    sentence: str


def choose_cost(front: Front) -> str:
    """The goal that AP is shown against; "" where there is none."""
    return next((goal for goal in COSTS if goal in front.goals), "")


def collect_points(front: Front, folder: Path, *, num_draws: int) -> list[Point]:
    """The candidates that were trained to the end of the last rung, by their cost.

    Args:
        front: of a search.
        folder: its OUTPUT_DIR, in which detections are.
        num_draws: of the bootstrap.
    """
    cost, points = choose_cost(front), []
    for one in front.rungs[-1]:
        if one.failure:
            continue
        name = one.candidate.name
        evaluation = _evaluate(folder / f"rung_{len(front.rungs)}" / name, num_draws)
        ap = Estimate(100 * one.values["ap"], None)
        if evaluation is not None:
            value, draws = evaluation.scores.overall["AP"][0], evaluation.draws.overall["AP"]
            ap = estimate_score(float(value), draws, evaluation.matches.num_images)
        points.append(Point(one, name in front.names, ap, one.values.get(cost, 0.0), evaluation))
    return sorted(points, key=lambda point: point.cost)


def _evaluate(folder: Path, num_draws: int) -> Evaluation | None:
    try:
        return evaluate_run(read_run(folder), num_draws=num_draws)[0]
    except RunError:
        return None


def find_best_known(points: Sequence[Point]) -> list[Point]:
    """The known backbones that no other known one beats."""
    known = [point for point in points if point.trained.candidate.is_known]
    return [
        point
        for point in known
        if not any(_score(o) > _score(point) and o.cost <= point.cost for o in known)
    ]


def _score(point: Point) -> float:
    return 100 * point.trained.values["ap"]


def judge(front: Front, points: Sequence[Point]) -> Verdict:
    """Compare each found detector with the known ones that no other known one beats."""
    pairs = []
    for known in find_best_known(points):
        for found in points:
            if found.trained.candidate.is_known or found.cost > known.cost:
                continue
            difference = _subtract(found, known)
            if difference.value is not None:
                pairs.append((difference, found, known))
    if not pairs:
        return Verdict(
            False,
            "The search did not beat the known backbones: none of its detectors is as cheap as one "
            "of theirs.",
        )

    def is_sure(difference: Estimate) -> bool:
        return difference.interval is not None and difference.interval[0] > 0

    difference, found, known = max(pairs, key=lambda pair: (is_sure(pair[0]), pair[0].value))
    words = _describe(difference, found, known, choose_cost(front))
    if is_sure(difference):
        return Verdict(True, f"The search beat a known backbone: {words}.")
    return Verdict(
        False,
        "The search did not beat the known backbones: no detector of its own is surely more "
        f"accurate at no more cost. Nearest comes this: {words}.",
    )


def _describe(difference: Estimate, found: Point, known: Point, cost: str) -> str:
    value, interval = difference.value or 0.0, difference.interval
    span = f" (95% interval {interval[0]:+.1f} to {interval[1]:+.1f})" if interval else ""
    words = f"{found.name} has {value:+.1f} AP{span} against {known.name}"
    return f"{words} in {found.cost / known.cost:.2f} of its {UNITS[cost]}" if cost else words


def _subtract(found: Point, known: Point) -> Estimate:
    """AP of one minus that of the other, in percent, on the same draws of the pictures."""
    one, other = found.evaluation, known.evaluation
    if one is None or other is None:
        return Estimate(_score(found) - _score(known), None)
    value = float(one.scores.overall["AP"][0] - other.scores.overall["AP"][0])
    draws = one.draws.overall["AP"] - other.draws.overall["AP"]
    return estimate_difference(value, draws, one.matches.num_images)
