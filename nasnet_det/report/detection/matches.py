"""Which detections belong to which objects, by the rules of COCO's evaluation.

The rules are those of pycocotools (``COCOeval.evaluateImg``), and tests compare every match with
it. Its loop over single boxes takes minutes for 5,000 images; here the detections of the same rank
of *all* images and categories are matched in one step, for all IoU thresholds and areas. Everything
else in the report, the bootstrap too, is computed from these matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasnet_det.report.detection.boxes import Detections, Truth, intersect_over_union

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Areas of objects in pixels, both ends included.
AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MAX_DETECTIONS = 100  # of one category in one image
NO_OBJECT = -1


@dataclass(frozen=True)
class Matches:
    """D detections, by category and then from the highest score down; A areas, T thresholds.

    Attributes:
        num_images: I.
        image, category, score: (D,), of the detections.
        box: (D, 4), x, y, width, height in pixels.
        rank: (D,), 0 for the best of its image and category.
        is_match: (A, T, D), whether it was matched with an object that counts.
        is_ignored: (A, T, D), whether it counts neither as right nor as wrong: it lies in a crowd,
            or it and its object have another size.
        object: (T, D), the index of the object that it was matched with among objects of all areas,
            crowds included; else :data:`NO_OBJECT`.
        num_objects: (A, K, I), the objects that count.
    """

    num_images: int
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    box: np.ndarray
    rank: np.ndarray
    is_match: np.ndarray
    is_ignored: np.ndarray
    object: np.ndarray
    num_objects: np.ndarray

    @property
    def num_categories(self) -> int:
        """K."""
        return self.num_objects.shape[1]

    def of_category(self, category: int) -> slice:
        """The detections of a category."""
        start, stop = np.searchsorted(self.category, [category, category + 1])
        return slice(int(start), int(stop))


def match_boxes(truth: Truth, detections: Detections) -> Matches:
    """Match detections with objects, the best scored first, at each threshold and area."""
    image, category, score, box, rank = _keep_best(detections, len(truth.image_ids))
    areas = np.array(list(AREAS.values()))
    is_other_size = _is_outside(truth.areas, areas)  # (A, N)
    is_left_out = is_other_size | truth.is_crowd
    num_images, num_categories = len(truth.image_ids), len(truth.category_ids)
    num_objects = np.zeros((len(AREAS), num_categories, num_images), dtype=np.int64)
    for area, counts in enumerate(num_objects):
        counted = ~is_left_out[area]
        np.add.at(counts, (truth.category[counted], truth.image[counted]), 1)

    shape = (len(AREAS), len(IOU_THRESHOLDS), len(score))
    is_match, is_left_out_match = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    matched = np.full(shape[1:], NO_OBJECT, dtype=np.int64)
    for group in _group_pairs(truth, category * num_images + image, num_images):
        _match_group(group, truth, box, is_left_out, is_match, is_left_out_match, matched)
    outside = _is_outside(box[:, 2] * box[:, 3], areas)[:, None]
    is_ignored = is_left_out_match | (~is_match & outside)
    order = np.lexsort((-score, category))  # equal scores stay in the order of the images
    return Matches(
        num_images=num_images,
        image=image[order],
        category=category[order],
        score=score[order],
        box=box[order],
        rank=rank[order],
        is_match=is_match[..., order],
        is_ignored=is_ignored[..., order],
        object=matched[:, order],
        num_objects=num_objects,
    )


def _is_outside(areas: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """(A, n): whether each area is in none of the ranges (A, 2)."""
    return (areas < ranges[:, :1]) | (areas > ranges[:, 1:])


def _keep_best(detections: Detections, num_images: int) -> tuple[np.ndarray, ...]:
    """Image, category, score, box and rank, by category, image and rank; the first 100 of each."""
    pair = detections.category * num_images + detections.image
    order = np.lexsort((-detections.scores, pair))  # stable, as COCO's sort
    pair = pair[order]
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair, side="left")
    kept = order[rank < MAX_DETECTIONS]
    return (
        detections.image[kept],
        detections.category[kept],
        detections.scores[kept],
        detections.boxes[kept],
        rank[rank < MAX_DETECTIONS],
    )


@dataclass(frozen=True)
class _Group:
    """P pairs of an image and a category, which have up to G objects each.

    Attributes:
        start, count: (P,), the first of the pair's detections and their number, falling.
        objects: (P, G), indices of its objects, :data:`NO_OBJECT` where there are fewer.
    """

    start: np.ndarray
    count: np.ndarray
    objects: np.ndarray


def _group_pairs(truth: Truth, pair_of_detection: np.ndarray, num_images: int) -> list[_Group]:
    """The pairs that have objects and detections, those with about as many objects together."""
    pair_of_object = truth.category * num_images + truth.image
    objects = np.argsort(pair_of_object, kind="stable")
    pairs = np.intersect1d(pair_of_object, pair_of_detection)
    first = np.searchsorted(pair_of_object[objects], pairs)
    num_objects = np.searchsorted(pair_of_object[objects], pairs, side="right") - first
    start = np.searchsorted(pair_of_detection, pairs)
    count = np.searchsorted(pair_of_detection, pairs, side="right") - start
    widths = 2 ** np.ceil(np.log2(np.maximum(num_objects, 1))).astype(int)
    groups = []
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        chosen = chosen[np.argsort(-count[chosen], kind="stable")]
        places = np.arange(width)
        is_there = places < num_objects[chosen, None]
        indices = np.where(is_there, first[chosen, None] + places, 0)
        groups.append(
            _Group(start[chosen], count[chosen], np.where(is_there, objects[indices], NO_OBJECT))
        )
    return groups


def _match_group(
    group: _Group,
    truth: Truth,
    box: np.ndarray,
    is_left_out: np.ndarray,
    is_match: np.ndarray,
    is_left_out_match: np.ndarray,
    matched: np.ndarray,
) -> None:
    """Match the detections of all pairs of a group, rank by rank; the last three are filled in."""
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None, None]
    is_there = group.objects != NO_OBJECT
    is_crowd = truth.is_crowd[group.objects]
    left_out = is_left_out[:, None][..., group.objects]  # (A, 1, P, G)
    free = np.broadcast_to(is_there, (*is_match.shape[:2], *is_there.shape)).copy()
    for rank in range(group.count[0]):
        num = int(np.searchsorted(-group.count, -rank))  # pairs that have so many detections
        found = group.start[:num] + rank
        objects, crowd = group.objects[:num], is_crowd[:num]
        iou = intersect_over_union(box[found][:, None], truth.boxes[objects], crowd)
        fits = (iou >= thresholds) & free[:, :, :num]
        counted, counted_place = _find_last_best(iou, fits & ~left_out[:, :, :num])
        other, other_place = _find_last_best(iou, fits & left_out[:, :, :num])
        place = np.where(counted, counted_place, other_place)
        is_any = counted | other
        # A crowd can be matched again and again.
        areas, levels, pairs = np.nonzero(is_any)
        taken = place[areas, levels, pairs]
        free[areas, levels, pairs, taken] = crowd[pairs, taken]
        chosen = objects[np.arange(num), place]  # (A, T, num)
        is_match[:, :, found] = counted
        is_left_out_match[:, :, found] = ~counted & other
        matched[:, found] = np.where(is_any[0], chosen[0], NO_OBJECT)


def _find_last_best(iou: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether there is a candidate, and the place of the best; of equals the last."""
    masked = np.where(candidates, iou, -1.0)[..., ::-1]
    return np.any(candidates, axis=-1), iou.shape[-1] - 1 - masked.argmax(axis=-1)
