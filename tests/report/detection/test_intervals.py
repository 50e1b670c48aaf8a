"""The intervals of scores and of differences, on simulated detectors whose true scores are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nasnet_det.report.detection.boxes import Detections, Truth
from nasnet_det.report.detection.intervals import (
    draw_images,
    find_difference_interval,
    find_mean_interval,
    find_score_interval,
)
from nasnet_det.report.detection.matches import Matches, match_boxes
from nasnet_det.report.detection.scores import compute_average_precision

NUM_REPETITIONS, NUM_IMAGES, NUM_DRAWS, NUM_CATEGORIES = 500, 150, 400, 2
COVERED = (0.93, 0.97)


def make_population(num_images: int, rng: np.random.Generator) -> tuple[Truth, np.ndarray]:
    """A data set with two objects an image, and how hard each image is for every detector."""
    image = np.repeat(np.arange(num_images), rng.poisson(2.0, num_images))
    num = len(image)
    size = np.exp(rng.uniform(np.log(12), np.log(120), (num, 2)))
    truth = Truth(
        path="",
        sha256="",
        image_ids=tuple(range(num_images)),
        file_names=("",) * num_images,
        sizes=np.full((num_images, 2), 640.0),
        category_ids=tuple(range(NUM_CATEGORIES)),
        category_names=("",) * NUM_CATEGORIES,
        ids=np.arange(1, num + 1),
        image=image,
        category=rng.integers(0, NUM_CATEGORIES, num),
        boxes=np.concatenate([rng.uniform(0, 400, (num, 2)), size], axis=1),
        areas=size.prod(axis=1),
        is_crowd=np.zeros(num, dtype=bool),
    )
    return truth, rng.normal(size=num_images)


def simulate_detector(
    truth: Truth, hardness: np.ndarray, rng: np.random.Generator, *, found: float, spread: float
) -> Detections:
    """Finds a share of the objects, fewer and less exactly in hard images, and two boxes of nothing."""
    num, num_images = len(truth.ids), len(truth.image_ids)
    hard = hardness[truth.image]
    seen = rng.random(num) < 1 / (1 + np.exp(0.8 * hard - np.log(found / (1 - found))))
    off = rng.exponential(spread * np.exp(0.3 * hard))
    box = truth.boxes + off[:, None] * np.tile(truth.boxes[:, 2:], 2) * rng.normal(size=(num, 4))
    score = rng.beta(3, 1.5, num) - off / 2
    image = np.repeat(np.arange(num_images), rng.poisson(2.0, num_images))
    more = len(image)
    nothing = np.concatenate([rng.uniform(0, 400, (more, 2)), rng.uniform(10, 99, (more, 2))], 1)
    return Detections(
        image=np.concatenate([truth.image[seen], image]),
        category=np.concatenate([truth.category[seen], rng.integers(0, NUM_CATEGORIES, more)]),
        boxes=np.concatenate([box[seen], nothing]),
        scores=np.concatenate([score[seen], rng.beta(1, 2, more)]).clip(0, 1),
    )


def take_images(matches: Matches, start: int, stop: int) -> Matches:
    """The matches in some of the images, as a data set of its own."""
    mine = (matches.image >= start) & (matches.image < stop)
    return dataclasses.replace(
        matches,
        num_images=stop - start,
        image=matches.image[mine] - start,
        category=matches.category[mine],
        score=matches.score[mine],
        box=matches.box[mine],
        rank=matches.rank[mine],
        is_match=matches.is_match[..., mine],
        is_ignored=matches.is_ignored[..., mine],
        object=matches.object[:, mine],
        num_objects=matches.num_objects[..., start:stop],
    )


def score(matches: Matches, copies: np.ndarray) -> np.ndarray:
    """AP (B,)."""
    transposed = np.ascontiguousarray(copies.T, dtype=np.int16)
    return compute_average_precision(matches, transposed, (0,))[0].mean(axis=(0, 1))


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """500 data sets from one population, on which the two detectors' scores are known."""
    rng = np.random.default_rng(0)
    truth, hardness = make_population(NUM_REPETITIONS * NUM_IMAGES, rng)
    runs = [
        match_boxes(truth, simulate_detector(truth, hardness, rng, found=found, spread=spread))
        for found, spread in ((0.80, 0.08), (0.72, 0.10))
    ]
    everything = np.ones((1, NUM_REPETITIONS * NUM_IMAGES), dtype=int)
    known = [score(run, everything)[0] for run in runs]
    assert 0.05 < known[0] - known[1] < 0.1
    covered = {"difference": 0, "first": 0, "second": 0}
    once = np.ones((1, NUM_IMAGES), dtype=int)
    for repetition in range(NUM_REPETITIONS):
        start = repetition * NUM_IMAGES
        copies = np.concatenate([once, draw_images(NUM_IMAGES, NUM_DRAWS, seed=repetition)])
        found = [score(take_images(run, start, start + NUM_IMAGES), copies) for run in runs]
        low, high = find_difference_interval((found[1] - found[0])[1:], NUM_IMAGES)
        covered["difference"] += low <= known[1] - known[0] <= high
        for name, values, wanted in zip(("first", "second"), found, known, strict=True):
            low, high = find_score_interval(values[0], values[1:], NUM_IMAGES)
            covered[name] += low <= wanted <= high
    shares = {name: count / NUM_REPETITIONS for name, count in covered.items()}
    print(shares, known)
    assert all(COVERED[0] <= share <= COVERED[1] for share in shares.values()), shares


def test_draws_are_of_as_many_images_and_always_the_same() -> None:
    draws = draw_images(30, 50)
    assert draws.shape == (50, 30)
    assert (draws.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(draws, draw_images(30, 50))
    assert (draws != draw_images(30, 50, seed=1)).any()


def test_intervals_of_a_mean_are_those_of_students_t() -> None:
    """Of a mean the truth is known: its t interval."""
    values = np.random.default_rng(1).uniform(0.2, 0.8, 20)
    draws = draw_images(20, 20_000) @ values / 20
    wanted = 2.093 * values.std(ddof=1) / np.sqrt(20)  # the quantile of Student's t, 19 degrees
    low, high = find_score_interval(values.mean(), draws, 20)
    assert (high - low) / 2 == pytest.approx(wanted, rel=0.02)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.002)
    low, high = find_difference_interval(draws - 0.1, 20)
    assert (high - low) / 2 == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("number", [2, 3, 10, 11, 40])
def test_mean_of_a_few_trainings_has_student_s_interval(number: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(number).normal(size=number)
    wanted = stats.t.interval(0.95, number - 1, values.mean(), stats.sem(values))
    assert find_mean_interval(list(values)) == pytest.approx(wanted, rel=2e-2)


def test_bias_that_draws_show_is_taken_off_the_score() -> None:
    draws = 0.6 + 0.01 * np.random.default_rng(0).normal(size=4000)
    low, high = find_score_interval(0.55, draws, 1000)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.002)
    assert find_score_interval(0.999, np.array([0.9, 0.99, 1.0]), 1000)[1] == 1.0


@pytest.mark.parametrize(
    ("draws", "num_images"),
    [([np.nan] * 60 + [0.5] * 40, 30), ([np.nan] * 100, 30), ([0.5] * 100, 1), ([], 5)],
)
def test_no_interval_without_enough_to_draw_from(draws: list[float], num_images: int) -> None:
    assert find_score_interval(0.5, np.array(draws), num_images) is None
    assert find_difference_interval(np.array(draws), num_images) is None
