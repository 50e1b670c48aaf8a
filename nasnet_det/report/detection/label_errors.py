"""Labels that are likely wrong: where a confident detector and the annotations disagree.

The confidence of a disagreement is the detector's own, times how often it and the annotations agree
about the class, and a little in the picture. So what is frequent, as small objects that nobody
annotates, comes after what is rare. The idea of ranking by a trained model's own scores is that of
ObjectLab (Tkachenko and others 2023, arXiv 2309.00832).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasnet_det.report.detection.boxes import Truth, intersect_over_union
from nasnet_det.report.detection.calibration import choose_threshold
from nasnet_det.report.detection.matches import NO_OBJECT, Matches

SAME_IOU, NEAR_IOU = 0.5, 0.1
COUNTED = 0.25  # detections count from this part of the score with the best F1 on
KINDS = {
    "missing box": "something is found where nothing is annotated",
    "wrong class": "what is annotated is found, as something else",
    "moved box": "the same class is found, but beside the box (IoU 0.1 to 0.5)",
    "spurious box": "nothing is found where something is annotated",
}
ABSENCE = 0.5  # what it counts that nothing is found: detectors miss more than they make up
PRIOR = 100.0  # agreements that are added to those of a picture
"""COUNTED to PRIOR were chosen on BCCD's val; benchmarks/label_errors.py counts on its test."""
NO_DETECTION = -1
NUM_LISTED, LIKELY = 100, 0.5
"""So many are listed at least, and all with such a confidence."""
MISSING, RENAMED, MOVED, SPURIOUS = range(len(KINDS))
Row = tuple[int, float, int, int, int]  # a LabelError, its kind by its number
_ALL_AREAS, _LEVEL_50 = 0, 0


@dataclass(frozen=True)
class LabelError:
    """An annotation that should be looked at.

    Attributes:
        kind: of :data:`KINDS`.
        confidence: from 0 to 1; see the module.
        image: index into the data set's images.
        object: index into its objects; ``NO_OBJECT`` of a missing box.
        detection: index into the detections of the matches; ``NO_DETECTION`` of a spurious box.
    """

    kind: str
    confidence: float
    image: int
    object: int
    detection: int


def find_label_errors(truth: Truth, matches: Matches) -> list[LabelError]:
    """The most confident disagreements, the surest first; [] where nothing is found rightly."""
    best = choose_threshold(matches)
    if best is None:
        return []
    threshold = COUNTED * best
    found_score = _find_scores(truth, matches)
    is_open = (found_score < threshold) & ~truth.is_crowd
    is_wrong = ~matches.is_match[_ALL_AREAS, _LEVEL_50] & ~matches.is_ignored[_ALL_AREAS, _LEVEL_50]
    candidates = np.flatnonzero(is_wrong & (matches.score >= threshold))
    rows: list[Row] = []
    groups = (
        _split(np.flatnonzero(~truth.is_crowd), truth.image, matches.num_images),
        _split(np.arange(len(matches.score)), matches.image, matches.num_images),
        _split(candidates, matches.image, matches.num_images),
    )
    for image, (objects, detections, wrong) in enumerate(zip(*groups, strict=True)):
        if len(wrong) or is_open[objects].any():
            picture = _Picture(truth, matches, image, objects, detections, found_score, is_open)
            rows += picture.find(wrong)
    return _weigh(truth, matches, rows, found_score)


def _find_scores(truth: Truth, matches: Matches) -> np.ndarray:
    """(N,): the score of the detection that was matched with each object at IoU 0.5, or 0."""
    scores = np.zeros(len(truth.ids))
    right = matches.is_match[_ALL_AREAS, _LEVEL_50]
    scores[matches.object[_LEVEL_50, right]] = matches.score[right]
    return scores


def _split(items: np.ndarray, image: np.ndarray, num_images: int) -> list[np.ndarray]:
    """Items by their image."""
    order = items[np.argsort(image[items], kind="stable")]
    return np.split(order, np.searchsorted(image[order], np.arange(1, num_images)))


@dataclass(frozen=True)
class _Picture:
    """A picture with its objects and detections, and what of all objects is not found."""

    truth: Truth
    matches: Matches
    image: int
    objects: np.ndarray
    detections: np.ndarray
    found_score: np.ndarray
    is_open: np.ndarray

    def find(self, wrong: np.ndarray) -> list[Row]:
        """The disagreements, with the detector's own confidence.

        Each wrong detection, the best first, takes an object that is not found: of another class in
        the same place, or of its own class beside it. What takes none is a missing box, if nothing
        better lies in its place.
        """
        truth, matches, objects = self.truth, self.matches, self.objects
        order = self._leave_out_found(wrong[np.argsort(-matches.score[wrong], kind="stable")])
        boxes, scores = matches.box[order], matches.score[order].tolist()
        iou = intersect_over_union(boxes[:, None], truth.boxes[objects])
        is_same = truth.category[objects] == matches.category[order][:, None]
        fits = np.greater_equal(iou, np.where(is_same, NEAR_IOU, SAME_IOU))
        has_fit, is_covered = fits.any(axis=1), np.greater_equal(iou, SAME_IOU).any(axis=1)
        is_beside = np.greater_equal(intersect_over_union(boxes[:, None], boxes), SAME_IOU)
        is_free, is_hidden = self.is_open[objects], np.zeros(len(order), dtype=bool)
        rows: list[Row] = []
        for i, detection in enumerate(order.tolist()):
            if is_hidden[i]:
                continue  # a better one is there
            is_hidden |= is_beside[i]
            free = fits[i] & is_free if has_fit[i] else None
            if free is None or not free.any():
                if not is_covered[i]:
                    rows.append((MISSING, scores[i], self.image, NO_OBJECT, detection))
                continue
            place = int(np.where(free, iou[i], -1.0).argmax())
            is_free[place] = False
            kind = MOVED if is_same[i, place] else RENAMED
            target = int(objects[place])
            own = float(self.found_score[target])  # of the class that is annotated
            rows.append((kind, scores[i] * (1 - own), self.image, target, detection))
        return [*rows, *self._find_spurious(objects[is_free])]

    def _leave_out_found(self, detections: np.ndarray) -> np.ndarray:
        """Those that do not lie where an object is found."""
        matched = self.matches.object[_LEVEL_50, self.detections]
        right = self.detections[(matched != NO_OBJECT) & ~self.is_open[matched]]
        boxes = self.matches.box
        iou = intersect_over_union(boxes[detections][:, None], boxes[right])
        return detections[~(iou >= SAME_IOU).any(axis=1)]

    def _find_spurious(self, objects: np.ndarray) -> list[Row]:
        """The less is found in the place of an object, the more confident."""
        matches, mine = self.matches, self.detections
        if not len(objects):
            return []
        iou = intersect_over_union(matches.box[mine][:, None], self.truth.boxes[objects])
        found = matches.score[mine][:, None] * np.minimum(iou / SAME_IOU, 1)
        confidence = ABSENCE * (1 - found.max(axis=0, initial=0.0))
        return [
            (SPURIOUS, value, self.image, number, NO_DETECTION)
            for number, value in zip(objects.tolist(), confidence.tolist(), strict=True)
        ]


def _weigh(
    truth: Truth, matches: Matches, rows: list[Row], found_score: np.ndarray
) -> list[LabelError]:
    """Multiply each confidence with how often both agree about the class, and in the picture."""
    if not rows:
        return []
    kind, confidence, image, number, detection = map(np.array, zip(*rows, strict=True))
    category = np.where(
        detection == NO_DETECTION, truth.category[number], matches.category[detection]
    )
    of_class = _share(truth.category, found_score, (kind, category), confidence)
    of_picture = _share(truth.image, found_score, (kind, image), confidence, PRIOR)
    confidence = confidence * of_class[kind, category] * of_picture[kind, image]
    order = np.argsort(-confidence, kind="stable")
    order = order[: max(NUM_LISTED, int((confidence >= LIKELY).sum()))]
    names = list(KINDS)
    return [
        LabelError(
            names[kind[i]], float(confidence[i]), *map(int, (image[i], number[i], detection[i]))
        )
        for i in order
    ]


def _share(
    places: np.ndarray,
    found_score: np.ndarray,
    of_rows: tuple[np.ndarray, np.ndarray],
    confidence: np.ndarray,
    prior: float = 0.0,
) -> np.ndarray:
    """How often both agree, by the kind of a disagreement, and by class or by picture.

    Args:
        places: of each object, its class or its picture.
        found_score: see :func:`_find_scores`.
        of_rows: the kind and the place of each disagreement.
        confidence: of each disagreement.
        prior: agreements that are added.
    """
    number = 1 + max(int(places.max()), int(of_rows[1].max()))
    agreed = prior + np.bincount(places, found_score, minlength=number)
    disagreed = np.zeros((len(KINDS), number))
    np.add.at(disagreed, of_rows, confidence)
    return agreed / np.maximum(agreed + disagreed, 1e-9)


def find_category(truth: Truth, matches: Matches, error: LabelError) -> int:
    """The index of the class that is found, or of a spurious box that is annotated."""
    if error.detection == NO_DETECTION:
        return int(truth.category[error.object])
    return int(matches.category[error.detection])
