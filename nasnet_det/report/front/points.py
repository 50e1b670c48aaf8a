"""The candidates of the last rung with intervals, and whether the search beat known backbones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
        evaluations: of the detections of each of its trainings; none where one is gone.
    """

    trained: Trained
    is_on_front: bool
    ap: Estimate
    cost: float
    evaluations: tuple[Evaluation, ...]

    @property
    def name(self) -> str:
        """Of the candidate."""
        return self.trained.candidate.name


@dataclass(frozen=True)
class Pair:
    """A found detector beside a known one.

    Attributes:
        found, known: the two.
        difference: AP of the found one minus that of the known one, in percent, on the same draws.
        cost: of the found one, as a multiple of the known one's; None where AP is the only goal.
    """

    found: Point
    known: Point
    difference: Estimate
    cost: float | None


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
        place = folder / f"rung_{len(front.rungs)}"
        evaluations = [_evaluate(place / run, num_draws) for run in one.runs]
        found = tuple(e for e in evaluations if e is not None)
        found = found if len(found) == len(evaluations) else ()
        ap = Estimate(100 * one.values["ap"], None)
        if found:
            value, draws = _draw(name, found)
            ap = estimate_score(value, draws, found[0].matches.num_images)
        points.append(Point(one, name in front.names, ap, one.values.get(cost, 0.0), found))
    return sorted(points, key=lambda point: point.cost)


def _evaluate(folder: Path, num_draws: int) -> Evaluation | None:
    try:
        return evaluate_run(read_run(folder), num_draws=num_draws)[0]
    except RunError:
        return None


def _draw(name: str, evaluations: Sequence[Evaluation]) -> tuple[float, np.ndarray]:
    """The mean AP of some trainings, 0 to 1, and (B,) that of draws of pictures and trainings.

    The pictures of a draw are the same for all candidates, its trainings are a candidate's own.
    """
    value = float(np.mean([one.scores.overall["AP"][0] for one in evaluations]))
    draws = np.stack([one.draws.overall["AP"] for one in evaluations])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    chosen = rng.integers(len(evaluations), size=draws.T.shape)
    return value, np.take_along_axis(draws.T, chosen, axis=1).mean(axis=1)


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


def pair_with_known(points: Sequence[Point]) -> list[Pair]:
    """Each found detector beside each known one, in the order of the points."""
    found, known = (
        [point for point in points if point.trained.candidate.is_known == is_known]
        for is_known in (False, True)
    )
    return [
        Pair(one, other, _subtract(one, other), one.cost / other.cost if other.cost else None)
        for one in found
        for other in known
    ]


def judge(points: Sequence[Point], pairs: Sequence[Pair], cost: str) -> Verdict:
    """Compare each found detector with the known ones that no other known one beats.

    Args:
        points: all detectors.
        pairs: of them, see :func:`pair_with_known`.
        cost: of :func:`choose_cost`.
    """
    best = {point.name for point in find_best_known(points)}
    fair = [
        pair
        for pair in pairs
        if pair.known.name in best
        and (pair.cost is None or pair.cost <= 1)
        and pair.difference.value is not None
    ]
    if not fair:
        return Verdict(
            False,
            "The search did not beat the known backbones: none of its detectors is as cheap as one "
            "of theirs.",
        )

    def is_sure(difference: Estimate) -> bool:
        return difference.interval is not None and difference.interval[0] > 0

    pair = max(fair, key=lambda pair: (is_sure(pair.difference), pair.difference.value))
    words = _describe(pair, cost)
    if is_sure(pair.difference):
        return Verdict(True, f"The search beat a known backbone: {words}.")
    return Verdict(
        False,
        "The search did not beat the known backbones: no detector of its own is surely more "
        f"accurate at no more cost. The nearest: {words}.",
    )


def _describe(pair: Pair, cost: str) -> str:
    value, interval = pair.difference.value or 0.0, pair.difference.interval
    span = f" (95% interval {interval[0]:+.1f} to {interval[1]:+.1f})" if interval else ""
    words = f"{pair.found.name} has {value:+.1f} AP{span} against {pair.known.name}"
    return words if pair.cost is None else f"{words} in {pair.cost:.2f} of its {UNITS[cost]}"


def _subtract(found: Point, known: Point) -> Estimate:
    """AP of one minus that of the other, in percent, on the same draws of the pictures."""
    if not (found.evaluations and known.evaluations):
        return Estimate(_score(found) - _score(known), None)
    (value, draws), (other, other_draws) = (
        _draw(point.name, point.evaluations) for point in (found, known)
    )
    num_images = found.evaluations[0].matches.num_images
    return estimate_difference(value - other, draws - other_draws, num_images)
