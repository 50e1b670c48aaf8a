"""Boxes and classes that a reader accepts, and that a person would want to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nasnet_det.data.coco_objects import MAX_OUTSIDE_PIXELS
from nasnet_det.data.columns import shorten
from nasnet_det.doctor.annotations import Annotations
from nasnet_det.doctor.findings import Finding, Level

NEAR_DUPLICATE_IOU = 0.95
SAME_BOX_PIXELS = 1.0  # by so much each side of the same box may differ
TINY_PIXELS = 2.0
WHOLE_SHARE = 0.99  # of both sides
MAX_COUNTED = 100  # detections of a picture that COCO's evaluation counts
FEW_BOXES = 10
LONG_TAIL = 100  # times as many boxes as the rarest class


def check_boxes(annotations: Annotations, *, is_test: bool) -> list[Finding]:
    """Look at the boxes of a set.

    Args:
        annotations: the set.
        is_test: whether it is evaluated on.
    """
    coco = annotations.coco
    objects = coco.objects
    boxes, is_usable = objects.boxes, objects.is_usable
    raw = np.array([entry["bbox"] for entry in annotations.entries], float).reshape(-1, 4)
    sizes = coco.sizes[objects.image].reshape(-1, 2)
    with np.errstate(invalid="ignore"):  # sizes that are not known
        over = np.maximum(-raw[:, :2], raw[:, :2] + raw[:, 2:] - sizes).max(axis=1, initial=0)
        covers = (boxes[:, 2:] >= WHOLE_SHARE * sizes).all(axis=1) & is_usable
    same, other = find_twins(objects.image, objects.category, boxes, is_usable)
    findings: list[Finding] = []

    def add(level: Level, kind: str, chosen: np.ndarray, text: str, advice: str = "") -> None:
        if chosen.any():
            text = f"{int(chosen.sum())} of {len(objects)} boxes {text}"
            ids = annotations.find_ids(chosen)
            findings.append(Finding(level, kind, coco.path, text, "annotations", ids, (), advice))

    has_size, stays = (raw[:, 2:] > 0).all(axis=1), (boxes[:, 2:] > 0).all(axis=1)
    left = np.asarray(has_size & ~stays)
    text = "lie outside of their picture and are left out"
    add(Level.WARNING, "outside_box", left, text, "take them out")
    text = f"are there twice, in one class and with an IoU of at least {NEAR_DUPLICATE_IOU}"
    advice = "keep one of them: the other counts as not found"
    add(Level.WARNING, "near_duplicate_box", same, text, advice)
    text = "have the place of a box of another class"
    add(Level.WARNING, "two_classes", other, text, "keep the right one; a detector learns both")
    tiny = is_usable & (boxes[:, 2:] < TINY_PIXELS).any(axis=1)
    text = f"have a side under {TINY_PIXELS:g} pixels"
    add(Level.WARNING, "tiny_box", tiny, text, "see whether they are meant")
    at_edge = (over > 0.01) & (over <= MAX_OUTSIDE_PIXELS)
    add(Level.NOTE, "box_at_edge", at_edge, "leave their picture by up to a pixel, and stay so")
    add(Level.NOTE, "whole_picture", covers, "cover their whole picture")
    if is_test:
        text = "have the id 0, and pycocotools alone counts a match with it as a miss"
        add(Level.WARNING, "id_0", objects.ids == 0, text, "number the annotations from 1")
    return [*findings, *_check_numbers(annotations)]


def _check_numbers(annotations: Annotations) -> list[Finding]:
    """Pictures with more boxes than an evaluation counts."""
    coco = annotations.coco
    places = coco.objects.image[coco.objects.is_usable]
    many = np.flatnonzero(np.bincount(places, minlength=len(coco.image_ids)) > MAX_COUNTED)
    if not len(many):
        return []
    return [
        Finding(
            level=Level.WARNING,
            kind="many_boxes",
            file=coco.path,
            text=f"{len(many)} pictures have more than {MAX_COUNTED} boxes",
            of="images",
            ids=[coco.image_ids[i] for i in many.tolist()],
            advice=f"COCO's AP counts {MAX_COUNTED} detections of a picture; raise "
            "TEST.DETECTIONS_PER_IMAGE, or cut the pictures into tiles",
        )
    ]


def find_twins(
    image: np.ndarray, category: np.ndarray, boxes: np.ndarray, is_usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that an earlier one of the same picture makes needless.

    Args:
        image, category: (N,) of each box.
        boxes: (N, 4), x, y, width, height.
        is_usable: (N,), which to compare.

    Returns:
        (N,) each: has an earlier one of its class with nearly the same place; has an earlier one
        of another class with the same place.
    """
    same, other = np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)
    places = np.flatnonzero(is_usable)
    places = places[np.argsort(image[places], kind="stable")]
    for group in np.split(places, np.flatnonzero(np.diff(image[places])) + 1):
        if len(group) < 2:
            continue
        low, high = boxes[group, :2], boxes[group, :2] + boxes[group, 2:]
        sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
        common = sides.clip(min=0).prod(axis=2)
        areas = boxes[group, 2:].prod(axis=1)
        iou = common / (areas[:, None] + areas - common)
        distance = np.maximum(abs(low[:, None] - low), abs(high[:, None] - high)).max(axis=2)
        is_one = category[group][:, None] == category[group]
        is_later = np.tri(len(group), k=-1, dtype=bool)
        same[group] = (is_later & is_one & (iou >= NEAR_DUPLICATE_IOU)).any(axis=1)
        is_there = (distance <= SAME_BOX_PIXELS) & (iou >= NEAR_DUPLICATE_IOU)
        other[group] = (is_later & ~is_one & is_there).any(axis=1)
    return same, other


def check_classes(annotations: Annotations, *, is_train: bool) -> list[Finding]:
    """Classes without objects or with few, and names that a person would read as one."""
    coco = annotations.coco
    counts = count_boxes(annotations)
    refused = {entry.get("category_id") for entry in annotations.refused if _has_plain_id(entry)}
    findings = []

    def add(level: Level, kind: str, text: str, chosen: Sequence[int], advice: str) -> None:
        if chosen:
            names = shorten([coco.category_names[i] for i in chosen])
            ids = [coco.category_ids[i] for i in chosen]
            findings.append(
                Finding(level, kind, coco.path, f"{text}: {names}", "categories", ids, (), advice)
            )

    empty = [i for i, n in enumerate(counts) if not n and coco.category_ids[i] not in refused]
    level = Level.WARNING if is_train else Level.NOTE
    text = f"{len(empty)} of {len(counts)} classes have no box"
    advice = "a detector can't learn them" if is_train else "they have no AP"
    add(level, "class_without_objects", text, empty, advice)
    if is_train:
        few = [i for i, n in enumerate(counts) if 0 < n < FEW_BOXES]
        text = f"{len(few)} of {len(counts)} classes have under {FEW_BOXES} boxes"
        advice = "annotate more, or repeat their pictures by DATALOADER.SAMPLER_TRAIN"
        add(Level.WARNING, "few_objects", text, few, advice)
        rare = [i for i, n in enumerate(counts) if n >= FEW_BOXES and n * LONG_TAIL < max(counts)]
        text = f"{len(rare)} classes have under a {LONG_TAIL}th of the most frequent one's boxes"
        add(Level.WARNING, "long_tail", text, rare, advice)
    plain = ["".join(name.casefold().split()) for name in coco.category_names]
    repeated = {name for name, number in Counter(plain).items() if number > 1}
    is_told = len(set(coco.category_names)) < len(plain)  # the reader says that names are the same
    alike = [i for i, name in enumerate(plain) if name in repeated and not is_told]
    add(Level.WARNING, "alike_names", "some classes have almost one name", alike, "join them")
    return findings


def _has_plain_id(entry: dict[str, object]) -> bool:
    return isinstance(entry.get("category_id"), int | float | str)


def count_boxes(annotations: Annotations) -> list[int]:
    """How many boxes of each class are trained: no crowds, and none without a size."""
    objects = annotations.coco.objects
    number = len(annotations.coco.category_ids)
    return np.bincount(objects.category[objects.is_usable], minlength=number).tolist()
