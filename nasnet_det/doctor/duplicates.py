"""Pictures that are there more than once, within a set and in training and test alike."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nasnet_det.data.alike import find_alike
from nasnet_det.data.coco import CocoFile
from nasnet_det.doctor.findings import Finding, Level
from nasnet_det.doctor.pictures import Look


@dataclass(frozen=True)
class PictureSet:
    """The pictures of a data set.

    Attributes:
        coco: the data set.
        is_train: whether it is trained on.
        paths, looks: in the order of its images.
    """

    coco: CocoFile
    is_train: bool
    paths: Sequence[str]
    looks: Sequence[Look]


Place = tuple[int, int]  # a set, and an image in it


def check_duplicates(sets: Sequence[PictureSet]) -> list[list[Finding]]:
    """Compare all pictures of some sets.

    Returns:
        for each set what was found; a picture of two sets is told of the later one.
    """
    places = [(s, i) for s, one in enumerate(sets) for i in range(len(one.paths))]
    findings: list[list[Finding]] = [[] for _ in sets]
    copies = find_copies(sets, places)
    told = {place: number for number, group in enumerate(copies) for place in group}
    alike = [
        [first, second]
        for first, second in find_copies_by_look(sets, places)
        if told.get(first, -1) != told.get(second, -2)
    ]
    for groups, is_exact in ((copies, True), (alike, False)):
        for later in range(len(sets)):
            for earlier in range(later + 1):
                pairs = _list_pairs(groups, earlier, later)
                if pairs:
                    finding = _describe(sets, pairs, earlier, later, is_exact=is_exact)
                    findings[later].append(finding)
    return findings


def _list_pairs(
    groups: Sequence[Sequence[Place]], earlier: int, later: int
) -> list[tuple[Place, Place]]:
    """An image of the earlier set and one of the later that are the same."""
    pairs = []
    for group in groups:
        mine = [place for place in group if place[0] == earlier]
        theirs = [place for place in group if place[0] == later]
        if mine and theirs:
            first = mine[0]
            pairs += [(first, place) for place in theirs if place != first]
    return pairs


def _describe(
    sets: Sequence[PictureSet],
    pairs: Sequence[tuple[Place, Place]],
    earlier: int,
    later: int,
    *,
    is_exact: bool,
) -> Finding:
    def find_path(place: Place) -> str:
        return sets[place[0]].paths[place[1]]

    first, second = (os.path.basename(find_path(place)) for place in pairs[0])
    number = len({place for _, place in pairs})
    subject = "1 picture is" if number == 1 else f"{number} pictures are"
    how = "byte for byte" if is_exact else "or almost so, saved in another way or a moment later"
    is_leak = sets[earlier].is_train != sets[later].is_train
    other = f"in {os.path.basename(sets[earlier].coco.path)}" if earlier != later else "here"
    text = f"{subject} {other} {'too' if earlier != later else 'twice'}, {how}: {second} is {first}"
    return Finding(
        level=Level.ERROR if is_leak and is_exact else Level.WARNING,
        kind=("leak" if is_leak else "duplicate") if is_exact else _ALIKE_KINDS[is_leak],
        file=sets[later].coco.path,
        text=text,
        of="images",
        ids=[sets[later].coco.image_ids[place[1]] for _, place in pairs],
        pictures=list(dict.fromkeys(find_path(place) for pair in pairs for place in pair)),
        advice="take them out of one of the sets: the score of pictures that were trained on "
        "says nothing about others"
        if is_leak
        else "keep one of them",
    )


_ALIKE_KINDS = {True: "near_leak", False: "near_duplicate"}


def find_copies(sets: Sequence[PictureSet], places: Sequence[Place]) -> list[list[Place]]:
    """Groups of images with the same bytes.

    Only files of equal lengths are read. Within a set, a file that is named twice counts once.
    """
    by_size: dict[int, dict[tuple[int, str], Place]] = {}
    for s, i in places:
        num_bytes = sets[s].looks[i].num_bytes
        if num_bytes > 0:
            key = s, os.path.realpath(sets[s].paths[i])
            by_size.setdefault(num_bytes, {}).setdefault(key, (s, i))
    groups: dict[tuple[int, bytes], list[Place]] = {}
    for num_bytes, files in by_size.items():
        if len(files) > 1:
            for (_, path), place in files.items():
                groups.setdefault((num_bytes, _hash(path)), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _hash(path: str) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def find_copies_by_look(
    sets: Sequence[PictureSet], places: Sequence[Place]
) -> Iterator[tuple[Place, Place]]:
    """Pairs of images that look the same; those of equal bytes are among them."""
    thumbnails = [sets[number].looks[image].thumbnail for number, image in places]
    for i, j in find_alike(thumbnails):
        first, second = places[i], places[j]
        if first[0] != second[0] or not _is_same_file(sets[first[0]], first[1], second[1]):
            yield first, second


def _is_same_file(one: PictureSet, first: int, second: int) -> bool:
    return os.path.realpath(one.paths[first]) == os.path.realpath(one.paths[second])
